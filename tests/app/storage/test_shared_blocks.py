"""A file system that shares blocks between files: what did not change takes no space, and is verified all the same."""

import os
import shutil
import subprocess
from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.errors import RangesMissing
from app.settings import Settings
from tests.app.service.upload import test_planned_copies as dedup
from tests.data.delta_states import Uploader, asked, declared, pieces
from tests.support.live import LiveServer, eventually
from tests.support.mounts import mount_point

PIECE_BYTES = 1 << 20


@pytest.fixture(scope="module")
def xfs():
    """A folder that is an XFS of its own."""
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("an XFS is made and mounted by root, with mkfs.xfs (package xfsprogs)")
    with mount_point() as place:
        _mount(place, place.with_name("image"))
        yield place


def _mount(place, image):
    with image.open("wb") as file:
        file.truncate(400 << 20)
    for command in (["mkfs.xfs", "-q", "-m", "reflink=1", image], ["mount", "-o", "loop", image, place]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no XFS with reflink can be mounted here: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def shared(xfs):
    """A server whose root lies there."""
    with LiveServer(xfs / "root", reserve_bytes="0") as live:
        yield live


@pytest.fixture
def uploader(shared, directory):
    return Uploader(shared, directory)


def used_bytes(root):
    """Return the used bytes of the file system once everything has been written."""
    os.sync()
    found = os.statvfs(root)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def replaced(state, *places):
    return [pieces(1, len(piece))[0] if place in places else piece for place, piece in enumerate(state)]


def test_what_did_not_change_takes_no_space(uploader):
    first = pieces(40, PIECE_BYTES)
    uploader.save(first, "1.pt")
    second = replaced(first, 5, 6, 20, 39)
    before = used_bytes(uploader.server.root)
    uploader.save(second, "2.pt")
    grown = used_bytes(uploader.server.root) - before
    assert 4 * PIECE_BYTES <= grown < 20 * PIECE_BYTES  # with the log of the catalog; a copy would take 40
    assert uploader.path("1.pt").read_bytes() == b"".join(first)


def test_the_same_content_under_another_name_takes_no_space(uploader):
    state = pieces(20, PIECE_BYTES)
    uploader.save(state, "1.pt")
    before = used_bytes(uploader.server.root)
    for number in range(2, 6):
        upload = uploader.begin(declared(state), name=f"{number}.pt")
        assert asked(upload) == []
        uploader.committed(upload, state)
    assert used_bytes(uploader.server.root) - before < 20 * PIECE_BYTES  # the log of the catalog; copies would take 80
    assert len({uploader.path(f"{number}.pt").stat().st_ino for number in range(1, 6)}) == 5


def test_one_of_two_that_share_may_be_removed_or_changed(uploader):
    state = pieces(8, PIECE_BYTES)
    uploader.save(state, "1.pt")
    second = uploader.save(state, "2.pt")
    third = uploader.save(replaced(state, 3), "3.pt")
    with uploader.path("1.pt").open("r+b") as file:
        file.write(b"x" * 100_000)
    uploader.http.delete(f"/v1/checkpoints/{third['id']}").raise_for_status()
    uploader.server.wait_until_freed()
    assert uploader.content(second["id"]) == b"".join(state)


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([4096, 4096, 1000], id="an odd end"),
        pytest.param([4096, 1000, 4096], id="an odd middle"),
        pytest.param([100, 5000, 70_000, 4096], id="odd throughout"),
    ],
)
@pytest.mark.parametrize("order", [1, -1], ids=["in place", "moved"])
def test_chunks_that_are_no_whole_blocks_are_right_all_the_same(uploader, lengths, order):
    state = [pieces(1, length)[0] for length in lengths]
    uploader.save(state, "1.pt")
    upload = uploader.begin(declared(state[::order]), name="2.pt")
    assert asked(upload) == []
    uploader.committed(upload, state[::order])


def test_bytes_that_arrived_are_not_overwritten_by_shared_ones(uploader):
    state = pieces(30, PIECE_BYTES)
    uploader.save(state, "1.pt")
    upload = uploader.begin(declared(state), name="2.pt")
    for place in range(0, 30, 3):
        uploader.put(upload, state[place], place * PIECE_BYTES).raise_for_status()
    uploader.committed(upload, state)


def test_an_upload_that_shares_may_be_abandoned(uploader):
    state = pieces(20, PIECE_BYTES)
    uploader.save(state, "1.pt")
    before = used_bytes(uploader.server.root)
    new = replaced(state, *range(15))
    upload = uploader.begin(declared(new), name="2.pt")
    uploader.send(upload, state=new)
    assert uploader.abandon(upload).status_code == 204
    assert upload["id"] not in uploader.server.incoming()
    assert eventually(lambda: used_bytes(uploader.server.root) - before < 10 * PIECE_BYTES)  # the log of the catalog
    assert uploader.path("1.pt").read_bytes() == b"".join(state)


def test_after_a_kill_what_was_shared_is_not_asked_for(uploader):
    state = pieces(10, PIECE_BYTES)
    uploader.save(state, "1.pt")
    new = replaced(state, 4)
    upload = uploader.begin(declared(new), name="2.pt")
    uploader.server.restart()
    again = uploader.get(upload)
    assert asked(again) == [("2.pt", 4 * PIECE_BYTES, PIECE_BYTES)]
    uploader.send(again, state=new)
    before = used_bytes(uploader.server.root)
    uploader.committed(upload, new)
    assert used_bytes(uploader.server.root) - before < 8 * PIECE_BYTES


@pytest.mark.parametrize("sent", [[2], [0, 2], [0, 1, 2, 3]])
def test_bytes_that_arrived_stay_when_the_source_turns_out_wrong(xfs, tmp_path, sent):
    state = pieces(4)
    with closing(open_root(Settings(root=xfs / tmp_path.name, reserve_bytes=0))) as server:
        dedup.save(server, state, "1.pt")
        with dedup.nothing_copied(server):
            reservation = dedup.reserve(server, state, "2.pt")
            for place in sent:
                dedup.put(server, reservation.upload, state[place], place * len(state[place]))
            dedup.overwrite(server, "1.pt", bytes(4096), 2 * len(state[2]))
        try:
            dedup.published(server, reservation, state)
        except RangesMissing:
            dedup.send(server, server.transfers.get(reservation.upload.id), state)
            dedup.published(server, reservation, state)
