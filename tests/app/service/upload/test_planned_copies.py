"""Deduplication while sources change between the planned copies and the commit: nothing wrong is published."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest

from app.bootstrap import open_root
from app.core import digests
from app.core.errors import DigestMismatch, RangesMissing, Superseded, UploadBusy, UploadNotFound
from app.core.models import Chunk, Facts, PolicyRequest, Save, UploadFile
from app.core.spans import Span
from app.service.state.running_copies import THREADS
from app.service.state.upload_progress import UploadProgress
from app.settings import Settings
from tests.data.delta_states import PIECE_BYTES, chunks_of, pieces
from tests.data.samples import descriptors, feed, upload
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually

DIRECTORY = "runs/a"


@pytest.fixture
def start(tmp_path):
    """Opens the root again, as the next start does."""
    opened = []

    def again(**settings):
        while opened:
            opened.pop().close()
        opened.append(open_root(Settings(root=tmp_path / "root", **settings)))
        return opened[0]

    yield again
    while opened:
        opened.pop().close()


@pytest.fixture
def server(start):
    return start()


@contextmanager
def nothing_copied(server):
    """Keep the copying threads busy within the block."""
    go_on = threading.Event()
    busy = [server._copies._workers.submit(go_on.wait) for _ in range(THREADS)]
    try:
        yield
    finally:
        go_on.set()
        wait(busy)


def reserve(server, state, name="x.pt", *, hashed=True, save_id="", **more):
    chunks = chunks_of(state) if hashed else tuple(Chunk(len(piece), "") for piece in state)
    file = UploadFile("", sum(map(len, state)), chunks)
    return server.reservations.reserve(Save(directory=DIRECTORY, name=name, save_id=save_id, files=(file,), **more))


def put(server, upload, data, offset=0):
    with server.transfers.receive(upload.id, upload.name, Span(offset, offset + len(data))) as receiver:
        feed(receiver, data)
        receiver.finish()


def send(server, reservation, state):
    data = b"".join(state)
    for missing in reservation.missing.ranges:
        put(server, reservation.upload, data[missing.span.start : missing.span.stop], missing.span.start)


def save(server, state, name="x.pt", **more):
    reservation = reserve(server, state, name, **more)
    send(server, reservation, state)
    return server.commits.commit(reservation.upload.id).checkpoint


def read(server, name):
    return (server.context.storage.tree.root / DIRECTORY / name).read_bytes()


def published(server, reservation, state):
    """Commit, and check that the checkpoint is this state."""
    checkpoint = server.commits.commit(reservation.upload.id).checkpoint
    assert read(server, checkpoint.name) == b"".join(state)
    return checkpoint


def refused(server, reservation):
    """Give the ranges that a refused commit misses."""
    with pytest.raises(RangesMissing) as caught:
        server.commits.commit(reservation.upload.id)
    return [(wanted["offset"], wanted["length"]) for wanted in caught.value.extra["missing"]]


def overwrite(server, name, data, offset=0, *, secretly=False):
    path = server.context.storage.tree.root / DIRECTORY / name
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    if secretly:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def delete(server, checkpoint):
    server.removals.delete(checkpoint.id)


def prune(server, checkpoint):
    save(server, pieces(1), "newer.pt", policy=PolicyRequest(limits={"max_checkpoints": 1}))


# sources that are removed


@pytest.mark.parametrize("gone", [delete, prune])
def test_a_source_is_held_open_until_it_has_been_copied(server, tmp_path, gone):
    state = pieces(5)
    source = save(server, state, "1.pt")
    with nothing_copied(server):
        reservation = reserve(server, state, "2.pt")
        assert reservation.missing.ranges == []
        gone(server, source)
        assert eventually(lambda: not list((tmp_path / "root" / ".holdfast" / "trash").iterdir()))
    published(server, reservation, state)


def test_sources_are_closed_once_nothing_is_left_to_copy(server):
    state = pieces(3)
    save(server, state[:2], "1.pt")
    save(server, state[2:], "2.pt")
    before = descriptors()
    with nothing_copied(server):
        reservation = reserve(server, state, "3.pt")
        assert len(descriptors()) == len(before) + 2
    published(server, reservation, state)
    assert eventually(lambda: descriptors() == before)


def test_sources_are_closed_when_the_upload_is_aborted(server):
    state = pieces(3)
    save(server, state, "1.pt")
    before = descriptors()
    with nothing_copied(server):
        server.aborts.abort(reserve(server, state, "2.pt").upload.id)
        assert eventually(lambda: descriptors() == before)


# sources that change


@pytest.mark.parametrize("secretly", [False, True], ids=["openly", "in secret"])
def test_bytes_that_changed_after_the_copy_was_planned_are_missing(server, secretly):
    state, changed = pieces(3), pieces(1)[0]
    save(server, state, "1.pt")
    with nothing_copied(server):
        reservation = reserve(server, state, "2.pt")
        overwrite(server, "1.pt", changed, PIECE_BYTES, secretly=secretly)
    missing = refused(server, reservation)
    assert any(offset <= PIECE_BYTES < offset + length for offset, length in missing)
    send(server, server.transfers.get(reservation.upload.id), state)
    published(server, reservation, state)


def test_bytes_that_changed_are_taken_from_another_checkpoint_that_has_them(server):
    state = pieces(3)
    save(server, state, "1.pt")
    save(server, state, "2.pt")
    overwrite(server, "2.pt", pieces(1)[0])
    reservation = reserve(server, state, "3.pt")
    assert reservation.missing.ranges == []
    published(server, reservation, state)


def test_a_source_that_became_shorter_is_missing(server, tmp_path):
    state = pieces(3)
    save(server, state, "1.pt")
    with nothing_copied(server):
        reservation = reserve(server, state, "2.pt")
        with (tmp_path / "root" / DIRECTORY / "1.pt").open("r+b") as file:
            file.truncate(PIECE_BYTES + 10)
    assert (PIECE_BYTES, 2 * PIECE_BYTES) in refused(server, reservation)
    send(server, server.transfers.get(reservation.upload.id), state)
    published(server, reservation, state)


# bytes that arrive during the copying


def test_bytes_sent_before_they_are_copied_stay_when_the_source_turns_out_wrong(server):
    state = pieces(3)
    save(server, state, "1.pt")
    with nothing_copied(server):
        reservation = reserve(server, state, "2.pt")
        put(server, reservation.upload, state[1], PIECE_BYTES)
        overwrite(server, "1.pt", pieces(1)[0], PIECE_BYTES)
    missing = refused(server, reservation)
    assert (PIECE_BYTES, PIECE_BYTES) not in missing
    send(server, server.transfers.get(reservation.upload.id), state)
    published(server, reservation, state)


def test_a_commit_waits_for_copies_and_takes_bytes_that_were_sent_concurrently(server):
    held = pieces(4)
    save(server, held, "1.pt")
    state = [*held, *pieces(1)]
    with ThreadPoolExecutor(1) as thread:
        with nothing_copied(server):
            reservation = reserve(server, state, "2.pt")
            commit = thread.submit(published, server, reservation, state)
            send(server, reservation, state)
            put(server, reservation.upload, held[0])
            assert not commit.done()
        assert commit.result(timeout=DEADLINE_S).size_bytes == 5 * PIECE_BYTES


def test_bytes_in_flight_when_digests_are_declared_count_only_if_they_match(server):
    state, sent = pieces(3), pieces(1)[0]
    reservation = reserve(server, state, hashed=False, save_id="save-0001")
    upload = reservation.upload
    with server.transfers.receive(upload.id, "x.pt", Span(0, PIECE_BYTES)) as wrong:
        with server.transfers.receive(upload.id, "x.pt", Span(PIECE_BYTES, 2 * PIECE_BYTES)) as right:
            feed(wrong, sent[:100])
            feed(right, state[1][:100])
            told = reserve(server, state, save_id="save-0001")
            assert [missing.span for missing in told.missing.ranges] == [Span(0, 3 * PIECE_BYTES)]
            put(server, upload, state[0])
            feed(right, state[1][100:])
            right.finish()
        with pytest.raises(UploadBusy):
            feed(wrong, sent[100:])
    rest = server.transfers.get(upload.id)
    assert [missing.span for missing in rest.missing.ranges] == [Span(2 * PIECE_BYTES, 3 * PIECE_BYTES)]
    send(server, rest, state)
    published(server, reservation, state)


def test_the_last_of_two_writers_without_digests_is_what_is_committed(server):
    """Even if the bytes were on the disk before: the record is what is on the disk."""
    one, other = pieces(1), pieces(1)
    reservation = reserve(server, one, hashed=False)
    for piece in (one[0], other[0], one[0], other[0]):
        put(server, reservation.upload, piece)
    with pytest.raises(DigestMismatch):
        server.commits.commit(reservation.upload.id, {"x.pt": chunks_of(one)})
    server.commits.commit(reservation.upload.id, {"x.pt": chunks_of(other)})
    assert read(server, "x.pt") == other[0]


def test_one_range_is_written_by_one_thread_at_a_time():
    progress = UploadProgress(upload({"a": b"", "b": b""}))
    entered = []

    def write(path, span):
        with progress.writing(path, span):
            entered.append((path, span))

    with ThreadPoolExecutor(3) as threads:
        with progress.writing("a", Span(0, 10)):
            waiting = threads.submit(write, "a", Span(9, 20))
            for path, span in (("a", Span(10, 20)), ("b", Span(0, 10))):
                threads.submit(write, path, span).result(timeout=DEADLINE_S)
            assert not waiting.done()
        waiting.result(timeout=DEADLINE_S)
    assert entered[-1] == ("a", Span(9, 20))


def test_closing_waits_for_writers_and_refuses_waiting_ones():
    progress = UploadProgress(upload({"a": b""}))
    with ThreadPoolExecutor(2) as threads:
        with progress.writing("a", Span(0, 10)):
            waiting = threads.submit(progress.writing("a", Span(0, 10)).__enter__)
            closing = threads.submit(progress.close)
            assert eventually(lambda: progress.is_closed)
            assert not closing.done()
            with pytest.raises(UploadBusy):
                progress.close(wait=False)
        closing.result(timeout=DEADLINE_S)
        assert isinstance(waiting.exception(timeout=DEADLINE_S), UploadBusy)
    with pytest.raises(UploadBusy), progress.writing("a", Span(0, 10)):
        pass


def test_declaring_digests_and_renewing_the_lease_concurrently_loses_neither(start):
    server = start(upload_lease_s=0.2)
    for number in range(20):
        state = pieces(3)
        reservation = reserve(server, state, f"{number}.pt", hashed=False, save_id=f"save-{number:04}")
        with ThreadPoolExecutor(2) as threads:
            sent = threads.submit(put, server, reservation.upload, state[0])
            told = threads.submit(reserve, server, state, f"{number}.pt", save_id=f"save-{number:04}")
        assert sent.exception() is None
        assert told.exception() is None
        with pytest.raises(DigestMismatch):
            put(server, reservation.upload, pieces(1)[0])
        send(server, server.transfers.get(reservation.upload.id), state)
        published(server, reservation, state)


# aborting and stopping


def test_an_upload_can_be_aborted_during_long_copies_of_other_uploads(server):
    state = pieces(3)
    save(server, state, "1.pt")
    with nothing_copied(server):
        reservation = reserve(server, state, "2.pt")
        aborting = threading.Thread(target=server.aborts.abort, args=[reservation.upload.id])
        aborting.start()
        aborting.join(DEADLINE_S)
        assert not aborting.is_alive()
        with pytest.raises(UploadNotFound):
            server.transfers.get(reservation.upload.id)
    assert server.context.storage.content.uploads() == set()


def test_an_upload_can_be_aborted_at_any_moment_of_its_copying(server):
    state = pieces(200)
    save(server, state, "1.pt")
    shuffled = state[::-1]
    for number in range(20):
        reservation = reserve(server, shuffled, f"copy-{number}.pt")
        server.aborts.abort(reservation.upload.id)
        assert server.context.storage.content.uploads() == set()


def test_an_upload_that_expires_while_it_is_copied_leaves_nothing(start):
    server = start(upload_lease_s=0.05)
    state = pieces(3)
    save(server, state, "1.pt")
    with nothing_copied(server):
        reserve(server, state, "2.pt")
        assert eventually(lambda: server.aborts.expire() or not server.context.storage.content.uploads())
    assert server.context.storage.content.uploads() == set()


def test_a_save_begun_afresh_drops_running_copies(server):
    state = pieces(3)
    save(server, state, "1.pt")
    with nothing_copied(server):
        reserve(server, state, "2.pt", save_id="save-0001")
        with server.single_requests.begin(
            Save(directory=DIRECTORY, name="2.pt", save_id="save-0001", files=(UploadFile("", None),))
        ) as shot:
            feed(shot, b"other bytes")
            shot.finish()
    assert read(server, "2.pt") == b"other bytes"


def test_stopping_does_not_wait_for_all_copies_and_the_next_start_makes_them(start, tmp_path):
    server = start()
    state = pieces(3000)
    save(server, state, "1.pt")
    shuffled = state[::-1]
    reservation = reserve(server, shuffled, "2.pt")
    server = start()
    assert list(server.transfers.get(reservation.upload.id).missing.ranges) == []
    published(server, reservation, shuffled)


def test_copies_that_did_not_start_before_a_stop_are_made_after_it(start, tmp_path):
    server = start()
    state = pieces(3)
    save(server, state, "1.pt")
    with nothing_copied(server):
        reservation = reserve(server, state, "2.pt")
        stopping = threading.Thread(target=server._copies.close)
        stopping.start()
        assert eventually(server._copies._closing.is_set)
    stopping.join()
    incoming = tmp_path / "root" / ".holdfast" / "incoming" / reservation.upload.id / "files" / "2.pt"
    assert not incoming.exists()
    server = start()
    assert list(server.transfers.get(reservation.upload.id).missing.ranges) == []
    published(server, reservation, state)


# the same content under the same name


def test_deferred_copies_of_live_content_do_not_replace_a_later_save(server):
    state, other = pieces(3), pieces(1)
    save(server, state, "elsewhere.pt")
    save(server, state)
    reservation = reserve(server, state)
    save(server, other)
    with pytest.raises(Superseded):
        server.commits.commit(reservation.upload.id)
    assert read(server, "x.pt") == b"".join(other)


def test_content_that_became_live_concurrently_is_not_published_again(server):
    state = pieces(3)
    reservation = reserve(server, state, facts=Facts(epoch=9))
    send(server, reservation, state)
    first = save(server, state)
    with pytest.raises(Superseded):
        server.commits.commit(reservation.upload.id)
    assert server.lookups.latest(DIRECTORY).id == first.id


def test_two_concurrent_commits_of_removed_content_make_one_checkpoint(server):
    state = pieces(50)
    save(server, state, "elsewhere.pt")
    for _ in range(5):
        standing = save(server, state)
        reservation = reserve(server, state)
        delete(server, standing)
        with ThreadPoolExecutor(2) as threads:
            commits = [threads.submit(server.commits.commit, reservation.upload.id) for _ in range(2)]
        done = [commit.result() for commit in commits if commit.exception() is None]
        assert {committed.checkpoint.id for committed in done} == {reservation.upload.id}
        assert {type(commit.exception()) for commit in commits} <= {UploadBusy, type(None)}
        assert read(server, "x.pt") == b"".join(state)


def test_copied_bytes_are_those_of_the_manifest(server):
    state = pieces(4)
    save(server, state, "1.pt")
    checkpoint = published(server, reserve(server, state[::-1], "2.pt"), state[::-1])
    _, maps = server.lookups.maps(checkpoint.id)
    assert maps["2.pt"].chunks == chunks_of(state[::-1])
    assert checkpoint.files[0].digest == digests.of_file(maps["2.pt"].chunks)
