"""Folders of queues are removed once they hold nothing of value, and never during a save of another process."""

import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast import CheckpointManager
from holdfast._spool import disposal
from holdfast._spool.locks import lockable_folder
from holdfast._spool.spool import Spool
from holdfast._torchfile.writer.layout import layout_of
from tests.data.pieces import save_of
from tests.support.live import eventually

URL = "http://127.0.0.1:1"


def put(spool, epoch, directory="runs/a"):
    save = {**save_of(epoch), "directory": directory}
    return Spool(spool).queue(URL, directory).put(save, layout_of({"n": epoch}))


def tidy(spool):
    disposal.tidy(Spool(spool).every_queue(), spool)


def make_old(path):
    os.utime(path, (time.time() - disposal.KNOWN_S - 60,) * 2)


@pytest.fixture
def queue(spool):
    """A queue whose only checkpoint has been delivered."""
    found = Spool(spool).queue(URL, "runs/a")
    put(spool, 1)
    found.clear()
    return found


def test_an_empty_folder_goes(queue, spool):
    tidy(spool)
    assert list(spool.iterdir()) == []


def test_what_is_known_stays_as_long_as_a_job_may_go_on(queue, spool):
    queue.learn(7)
    tidy(spool)
    assert Spool(spool).queue(URL, "runs/a").known == 7
    make_old(queue.folder / "known.json")
    tidy(spool)
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("place", ["000000000001-5-{id}", "parked/000000000001-5-{id}", ".new-{id}"])
def test_what_waits_is_parked_or_is_being_put_stays(queue, spool, place):
    path = queue.folder / place.format(id="a" * 32)
    path.mkdir(parents=True)
    tidy(spool)
    assert path.is_dir()


def test_what_another_process_delivers_stays(queue, spool):
    with queue.claimed() as mine:
        assert mine
        tidy(spool)
    assert queue.folder.is_dir()


def test_what_was_left_of_a_removal_goes_after_a_day(spool):
    left = spool / ".new-0123"
    left.mkdir()
    tidy(spool)
    assert left.is_dir()
    make_old(left)
    tidy(spool)
    assert not left.exists()


def test_a_folder_stays_while_a_save_begins(queue, spool):
    with lockable_folder(spool) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert not disposal.remove(queue)
        assert queue.folder.is_dir()
    assert disposal.remove(queue)


def test_a_save_waits_for_a_removal_that_has_begun(spool):
    with ThreadPoolExecutor() as pool:
        with lockable_folder(spool) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            item = pool.submit(put, spool, 1)
            assert eventually(lambda: list(spool.iterdir()))  # the folder of its queue: it may be removed
            assert not item.done()
            assert not list(spool.glob("*/.new-*"))
        assert item.result().folder.is_dir()


def test_no_save_is_lost_while_the_folder_is_removed_again_and_again(spool):
    """One thread puts, others tidy; separate processes would meet the same locks."""
    ended = threading.Event()
    removals = []

    def empty_and_tidy():
        while not ended.is_set():
            removals.extend(filter(disposal.remove, Spool(spool).every_queue()))

    tidying = [threading.Thread(target=empty_and_tidy) for _ in range(4)]
    for each in tidying:
        each.start()
    try:
        for epoch in range(1, 26):
            item = put(spool, epoch)
            assert item in Spool(spool).queue(URL, "runs/a").items()
            assert [queue.directory for queue in Spool(spool).queues()] == ["runs/a"]
            item.folder.rename(spool.parent / f"{spool.name}-{item.save_id}")  # it has been delivered
    finally:
        ended.set()
        for each in tidying:
            each.join()
    assert removals


def test_a_job_that_delivers_tidies(server, directory, spool):
    put(spool, 1, "runs/long-ago")
    gone = Spool(spool).queue(URL, "runs/long-ago")
    gone.clear()
    save = {**save_of(1), "directory": directory}
    Spool(spool).queue(server.url, directory).put(save, layout_of({"n": 1}))
    with CheckpointManager(directory, server=server.url) as manager:
        manager.load_latest()
    assert eventually(lambda: not gone.folder.exists())
