"""Parallel jobs on a few threads."""

import signal
import threading

import pytest

from holdfast import IntegrityError, ServerUnreachable
from holdfast._runtime.parallel import CONNECTIONS, in_parallel
from tests.support.deadlines import DEADLINE_S


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_every_job_is_done_once(count):
    done = []
    in_parallel(range(count), done.append)
    assert sorted(done) == list(range(count))


def test_jobs_are_done_at_the_same_time_but_no_more_than_there_are_connections():
    together = threading.Barrier(CONNECTIONS, timeout=DEADLINE_S)
    at_it, most, guard = set(), [], threading.Lock()

    def work(job):
        with guard:
            at_it.add(job)
            most.append(len(at_it))
        together.wait()
        with guard:
            at_it.discard(job)

    in_parallel(range(4 * CONNECTIONS), work)
    assert max(most) == CONNECTIONS


@pytest.mark.parametrize("count", [1, 20], ids=["one job", "many jobs"])
@pytest.mark.parametrize("kind", [ValueError, IndexError, StopIteration, ServerUnreachable, KeyboardInterrupt])
def test_a_failure_is_raised_and_no_further_job_is_begun(count, kind):
    begun = []

    def work(job):
        begun.append(job)
        raise kind("failed")

    with pytest.raises(kind, match="failed"):
        in_parallel(range(count), work)
    assert len(begun) <= CONNECTIONS


@pytest.mark.parametrize("first", [0, 1])
def test_a_failure_that_no_waiting_mends_is_raised_before_a_broken_connection(first):
    both = threading.Barrier(2, timeout=DEADLINE_S)

    def work(job):
        both.wait()
        raise ServerUnreachable("gone") if job == first else IntegrityError("altered")

    with pytest.raises(IntegrityError):
        in_parallel(range(2), work)


@pytest.fixture
def interruptible():
    """Restore SIGINT, which a shell ignores for tests that run in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_does_not_wait_for_what_is_under_way():
    asked, begun, go_on = threading.Event(), [], threading.Event()

    def work(job):
        begun.append(job)
        if not asked.is_set():
            asked.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert go_on.wait(DEADLINE_S)

    with pytest.raises(KeyboardInterrupt):
        in_parallel(range(20), work)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "holdfast-transfer":
            thread.join(DEADLINE_S)
    assert len(begun) <= CONNECTIONS
