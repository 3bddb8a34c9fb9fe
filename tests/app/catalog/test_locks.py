"""A lock per name excludes other threads, and is gone when no thread uses it."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.catalog.locks import NamedLocks
from tests.support.deadlines import DEADLINE_S


def test_a_lock_is_evicted_when_no_thread_uses_it():
    locks = NamedLocks()
    for number in range(10_000):
        with locks.hold(f"runs/{number}"):
            assert len(locks) == 1
    assert len(locks) == 0


def test_a_lock_is_evicted_after_an_exception():
    locks = NamedLocks()
    with pytest.raises(ZeroDivisionError), locks.hold("runs/a"):
        raise ZeroDivisionError
    assert len(locks) == 0
    with locks.hold("runs/a"):
        pass


def test_a_thread_may_hold_a_name_twice_and_several_names_at_once():
    locks = NamedLocks()
    with locks.hold("runs/a"), locks.hold("runs/b"), locks.hold("runs/a"):
        assert len(locks) == 2
    assert len(locks) == 0


def hold_once(locks, name):
    with locks.hold(name):
        pass


def test_another_thread_waits_for_a_name_and_not_for_others():
    locks = NamedLocks()
    waiting, entered = threading.Event(), threading.Event()

    def wait():
        waiting.set()
        with locks.hold("runs/a"):
            entered.set()

    with locks.hold("runs/a"):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(DEADLINE_S)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hold_once, locks, "runs/b").result(10)
        assert not entered.wait(0.05)
    assert entered.wait(DEADLINE_S)
    thread.join()
    assert len(locks) == 0


class Hesitant(str):
    """A name that lets other threads run whenever a dictionary looks it up."""

    __slots__ = ()

    def __hash__(self):
        time.sleep(0)
        return str.__hash__(self)


@pytest.fixture
def eager_switches():
    """Let threads change places as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switches")
def test_no_two_threads_hold_a_name_while_locks_come_and_go():
    """Locks of three names are made and evicted all the time; a second lock of a name would let two threads in."""
    locks, names = NamedLocks(), [Hesitant(name) for name in ("runs/a", "runs/b", "runs/c")]
    inside, counts = [0, 0, 0], [0, 0, 0]

    def work(start):
        for number in range(start, start + 500):
            place = number % 3
            with locks.hold(names[place]):
                inside[place] += 1
                time.sleep(0)
                assert inside[place] == 1
                counts[place] += 1
                inside[place] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sum(counts) == 8 * 500
    assert len(locks) == 0
