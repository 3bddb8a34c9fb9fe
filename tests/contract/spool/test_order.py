"""The order of saves whose answers were lost: what a job saved later stays later, on the server and for a resume."""

import signal

import pytest

from holdfast import CheckpointManager
from holdfast._spool.spool import Spool
from tests.support.forwarder import Forwarder

JOB = """
import os, signal
from holdfast import CheckpointManager
manager = CheckpointManager(os.environ["DIRECTORY"], patience_s=0, max_checkpoints=None)
manager.save({"n": 1}, epoch=1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
manager.save({"n": 10}, epoch=10)
manager.save({"n": 11}, epoch=11)
os._exit(0)
"""


class Lossy(Forwarder):
    """Passes one save on, cuts its answer off, and lets nothing pass from then on until it is told to."""

    def __init__(self, url):
        super().__init__(url, watch=self._look)
        self.is_armed = self.is_away = False

    def _look(self, up, piece):
        if self.is_armed and not up and b"/v1/saves" not in piece and piece.startswith(b"HTTP/1.1 201"):
            self.is_away, self.is_armed = True, False
        return self.is_away


@pytest.fixture
def saved(own_server, directory, spool, jobs):
    """Two saves of a job that has ended: the first has arrived, beyond what the job knew, and its answer was lost."""
    own_server.save(directory, b"before", epoch=0)
    with Lossy(own_server.url) as lossy:
        job = jobs.start(JOB, DIRECTORY=directory, HOLDFAST_URL=lossy.url)
        job.wait_for("ready")
        for epoch in (2, 3):
            own_server.save(directory, b"of another writer", name=f"other_{epoch}.pt", epoch=epoch)
        lossy.is_armed = True
        job.send_signal(signal.SIGUSR1)
        assert job.wait() == 0, job.errors()
        assert len(Spool(spool).queues()[0].items()) == 2
        assert [(row["epoch"], row["saved_after"]) for row in rows(own_server, directory)][-1] == (10, 4)
        lossy.is_away = False
        yield own_server, lossy


def rows(server, directory):
    return server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]


def resumed(lossy, directory):
    return CheckpointManager(directory, server=lossy.url, patience_s=0).resume()


def test_a_resume_takes_the_one_that_waits(saved, directory):
    _, lossy = saved
    assert resumed(lossy, directory)["n"] == 11


def test_the_later_one_is_the_latest_once_both_are_delivered(saved, directory, holdfast):
    server, lossy = saved
    assert holdfast("sync", "--server", lossy.url).status == 0
    assert [row["epoch"] for row in rows(server, directory)] == [0, 1, 2, 3, 10, 11]
    assert resumed(lossy, directory)["n"] == 11


def test_a_resume_knows_the_order_after_the_first_was_delivered(saved, directory, spool, holdfast):
    _, lossy = saved
    later = Spool(spool).queues()[0].items()[1]
    aside = later.folder.rename(spool / "aside")
    assert holdfast("sync", "--server", lossy.url).status == 0
    aside.rename(later.folder)
    assert resumed(lossy, directory)["n"] == 11
