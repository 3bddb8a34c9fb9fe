"""Interruptions of a commit, a removal or a change at every point: the next start finishes it."""

import json
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from app.bootstrap import open_root
from app.core import digests
from app.core.models import Checkpoint, Chunk, Facts, File, FileMap, Manifest, Save, UploadFile
from app.core.spans import Span
from app.service.maintenance.janitor import tidy
from app.service.state.transitions import mark_removed
from app.settings import Settings
from tests.data.samples import feed, sealed

DIRECTORY, NAME = "runs/a", "x.pt"


@pytest.fixture
def start(tmp_path):
    """Opens the root again, as the next start does; also after the loss of the catalog."""
    opened = []

    def again(*, catalog="kept"):
        while opened:
            opened.pop().close()
        if catalog == "lost":
            for path in (tmp_path / "root" / ".holdfast").glob("catalog.db*"):
                path.unlink()
        opened.append(open_root(Settings(root=tmp_path / "root")))
        return opened[0]

    yield again
    while opened:
        opened.pop().close()


def save(server, data=b"bytes", name=NAME, **facts):
    wanted = Save(directory=DIRECTORY, name=name, facts=Facts(**facts), files=(UploadFile("", None),))
    with server.single_requests.begin(wanted) as shot:
        feed(shot, data)
        return shot.finish().checkpoint


def ready(server, data=b"new bytes", replaces=None):
    """Make an upload that has arrived in full, and the manifest that its commit would seal."""
    wanted = Save(directory=DIRECTORY, name=NAME, save_id="save-new", files=(UploadFile("", len(data)),))
    upload = server.reservations.reserve(wanted).upload
    with server.transfers.receive(upload.id, NAME, Span(0, len(data))) as receiver:
        feed(receiver, data)
        receiver.finish()
    chunk = Chunk(len(data), digests.of_chunk(data))
    version = server.context.storage.content.finalize(upload)[NAME]
    file = File(NAME, len(data), digests.of_file([chunk]), version)
    with server.context.catalog.reading() as session:
        sequence = session.directories.get(DIRECTORY).sequence + 1
    checkpoint = Checkpoint(
        id=upload.id,
        directory=DIRECTORY,
        name=NAME,
        save_id="save-new",
        sequence=sequence,
        saved_after=sequence - 1,
        facts=Facts(epoch=7),
        files=(file,),
        digest=digests.of_checkpoint([(NAME, file.digest)]),
        created_at=datetime.now(UTC),
    )
    return upload.id, Manifest(checkpoint, {NAME: FileMap((chunk,))}, replaces.id if replaces else None)


def places(server, upload_id, old):
    root = server.context.storage.tree.root
    trash = root / ".holdfast" / "trash" / (old.id if old else "none")
    return {
        "new": root / ".holdfast" / "incoming" / upload_id / "files" / NAME,
        "place": root / DIRECTORY / NAME,
        "manifest": root / DIRECTORY / ".holdfast" / f"{NAME}.json",
        "aside": trash / NAME,
        "manifest aside": trash / "manifest.json",
    }


STEPS = ("sealed", "old file aside", "old manifest aside", "new file linked", "new file in place", "published")


def cut_off(server, step, upload_id, manifest, old):
    """Run a commit up to a step, and no further."""
    storage, at = server.context.storage, places(server, upload_id, old)
    storage.content.seal(upload_id, manifest)
    reached = STEPS.index(step)
    if old is not None and reached >= 1:
        at["aside"].parent.mkdir(parents=True)
        at["place"].rename(at["aside"])
    if old is not None and reached >= 2:
        at["manifest"].rename(at["manifest aside"])
    if reached >= 3:
        at["place"].hardlink_to(at["new"])
    if reached >= 4:
        at["new"].unlink()
    if reached >= 5:
        storage.content.publish(upload_id, manifest)


def nothing_left(root, *, seconds=10):
    """Wait until nothing is left of uploads and removals: the purge runs in the background."""
    end = time.monotonic() + seconds
    while any(path for kind in ("incoming", "trash") for path in (root / ".holdfast" / kind).glob("*")):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def read(server, checkpoint_id):
    content = server.contents.open(checkpoint_id)
    try:
        return content.opened.read(0, 1000)
    finally:
        content.opened.close()


def live(server):
    with server.context.catalog.reading() as session:
        return session.checkpoints.live(DIRECTORY)


@pytest.mark.parametrize("catalog", ["kept", "lost"])
@pytest.mark.parametrize("replacing", [False, True], ids=["a first one", "replacing"])
@pytest.mark.parametrize("step", STEPS)
def test_a_sealed_commit_is_finished_at_the_next_start(start, tmp_path, step, replacing, catalog):
    server = start()
    other = save(server, b"other", name="other.pt")
    old = save(server, b"old bytes") if replacing else None
    upload_id, manifest = ready(server, replaces=old)
    cut_off(server, step, upload_id, manifest, old)
    for lost in (catalog, "kept"):
        server = start(catalog=lost)
        assert [found.id for found in live(server)] == [other.id, upload_id]
        assert read(server, upload_id) == b"new bytes"
        assert server.lookups.get(upload_id).facts.epoch == 7
        assert nothing_left(tmp_path / "root")
        assert server.commits.commit(upload_id).repeated
        if replacing and catalog == "kept":
            assert server.lookups.get(old.id).removed_because == "replaced"
    assert save(server, b"next", name="next.pt").sequence == manifest.checkpoint.sequence + 1


def test_an_upload_that_was_not_sealed_stays_an_upload(start, tmp_path):
    upload_id, _ = ready(start())
    server = start()
    assert live(server) == []
    assert [missing.span for missing in server.transfers.get(upload_id).missing.ranges] == [Span(0, 9)]
    with server.transfers.receive(upload_id, NAME, Span(0, 9)) as receiver:
        feed(receiver, b"new bytes")
        receiver.finish()
    assert server.commits.commit(upload_id).checkpoint.id == upload_id


@pytest.mark.parametrize("step", ["marked", "manifest aside", "all aside"])
def test_a_marked_removal_is_finished_at_the_next_start(start, tmp_path, step):
    server = start()
    saved, other = save(server), save(server, name="other.pt")
    with server.context.catalog.writing() as session:
        mark_removed(session, [saved], "deleted", datetime.now(UTC))
    at = places(server, "none", saved)
    if step != "marked":
        at["aside"].parent.mkdir(parents=True)
        at["manifest"].rename(at["manifest aside"])
    if step == "all aside":
        at["place"].rename(at["aside"])
    server = start()
    assert [found.id for found in live(server)] == [other.id]
    assert not at["place"].exists()
    assert not at["manifest"].exists()
    assert nothing_left(tmp_path / "root")
    with server.context.catalog.reading() as session:
        assert (session.checkpoints.to_move_to_trash(), session.checkpoints.in_trash()) == ([], [])


def test_a_marked_removal_does_not_take_what_has_its_name_by_now(start, tmp_path):
    server = start()
    old = save(server, b"old")
    with server.context.catalog.writing() as session:
        mark_removed(session, [old], "deleted", datetime.now(UTC))
    new = save(server, b"new")
    server = start()
    assert [found.id for found in live(server)] == [new.id]
    assert read(server, new.id) == b"new"


def test_a_manifest_that_stayed_behind_is_written_at_the_next_start(start):
    server = start()
    saved = save(server)
    changed = Facts(epoch=5, pinned=True, metric=float("nan"))
    with server.context.catalog.writing() as session:
        session.checkpoints.change(Checkpoint(**{**fields_of(saved), "facts": changed}))
    manifest = places(server, "none", None)["manifest"]
    assert json.loads(manifest.read_text())["checkpoint"]["facts"]["epoch"] is None
    server = start()
    facts = json.loads(manifest.read_text())["checkpoint"]["facts"]
    assert (facts["epoch"], facts["pinned"], facts["metric"]) == (5, True, "NaN")
    with server.context.catalog.reading() as session:
        assert session.checkpoints.with_stale_manifest() == []


def fields_of(checkpoint):
    return {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}


def test_orphans_are_deleted_from_the_servers_own_folders(start, tmp_path):
    start()
    for kind in ("incoming", "trash"):
        stray = tmp_path / "root" / ".holdfast" / kind / "stray"
        stray.mkdir(parents=True)
        (stray / "file").write_text("x")
    start()
    assert nothing_left(tmp_path / "root")


@pytest.mark.parametrize("catalog", ["kept", "lost"])
def test_a_foreign_file_in_the_place_of_a_sealed_commit_is_not_touched(start, tmp_path, catalog):
    server = start()
    save(server, name="other.pt")
    upload_id, manifest = ready(server)
    server.context.storage.content.seal(upload_id, manifest)
    foreign = tmp_path / "root" / DIRECTORY / NAME
    foreign.write_text("mine")
    server = start(catalog=catalog)
    assert foreign.read_text() == "mine"
    save(server, b"meanwhile", name="meanwhile.pt")
    foreign.unlink()
    for _ in range(2):
        server = start()
        assert sorted(found.name for found in live(server)) == ["meanwhile.pt", "other.pt", NAME]
        assert len({found.sequence for found in live(server)}) == 3
        assert read(server, upload_id) == b"new bytes"


def test_a_commit_that_is_sealed_while_the_janitor_works_is_not_mixed_with_what_it_replaces(tmp_path):
    """The commit replaces a folder with a stale manifest, and fails half-way after the janitor has read the rows."""
    meanwhile = []

    def clock():
        while meanwhile:
            meanwhile.pop()()
        return datetime.now(UTC)

    def files_of(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    with closing(open_root(Settings(root=tmp_path / "root", undo_window=3600), clock=clock)) as server:
        storage = server.context.storage
        upload = server.reservations.reserve(
            Save(directory=DIRECTORY, name="folder", files=(UploadFile("old.bin", 3),))
        ).upload
        with server.transfers.receive(upload.id, "old.bin", Span(0, 3)) as receiver:
            feed(receiver, b"old")
            receiver.finish()
        old = server.commits.commit(upload.id).checkpoint
        with server.context.catalog.writing() as session:
            session.checkpoints.change(old)
        made = []

        def fail_half_way():
            made.append(
                sealed(storage, {"new.bin": b"new"}, name="folder", upload_id="newer", sequence=2, replaces=old.id)
            )
            storage.content.publish("newer", made[0])

        meanwhile.append(fail_half_way)
        tidy(server)
        assert made, "the janitor looks at the clock in between"
        assert files_of(tmp_path / "root" / DIRECTORY / "folder") == {"new.bin": b"new"}
        server.pending_commits.roll_forward("newer", made[0])
        assert files_of(tmp_path / "root" / DIRECTORY / "folder") == {"new.bin": b"new"}
        assert server.lookups.get(old.id).removed_because == "replaced"
        server.removals.delete("newer")
        assert server.restorations.restore(old.id).id == old.id
        assert files_of(tmp_path / "root" / DIRECTORY / "folder") == {"old.bin": b"old"}
