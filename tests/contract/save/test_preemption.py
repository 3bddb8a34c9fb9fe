"""Saves at the end of a process, by a signal or by itself: they are durable, or named in the log."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from holdfast._spool.spool import Spool
from tests.crash.harness.rounds import IS_LONG
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.jobs import Job, Jobs
from tests.support.live import LiveServer, eventually

PRELUDE = """\
import contextlib, os, signal, sys, threading, time
import torch
from holdfast import CheckpointManager, GracefulStop, HoldfastError

def manager(**options):
    return CheckpointManager(os.environ["DIRECTORY"], max_checkpoints=None, **options)

def state(number):
    return {"number": number, "weights": torch.full((2_000_000,), float(number))}

def sleep():
    while True:
        time.sleep(0.01)

def within_c(released=threading.Event()):  # a call that no signal ends; other threads go on
    import ctypes
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    threading.Thread(target=lambda: released.wait() and library.pthread_mutex_unlock(mutex), daemon=True).start()
    print("within C")
    library.pthread_mutex_lock(mutex)

def announce_save(before=signal.getsignal(signal.SIGTERM)):  # once one is under way, it has put a handler in place
    def watch():
        while signal.getsignal(signal.SIGTERM) == before:
            time.sleep(0.001)
        print("saving")
    threading.Thread(target=watch, daemon=True).start()

def print(*words):  # at once, and each line whole, also where parent and child speak at the same time
    os.write(1, f"{' '.join(map(str, words))}\\n".encode())
"""


class Place:
    """A server in a state in which a job may find it, and the checkpoints that wait for it."""

    def __init__(self, kind: str, url: str, server: LiveServer, directory: str, spool: Path) -> None:
        self.kind, self.url, self.server, self.directory, self.spool = kind, url, server, directory, spool
        self.is_reached = threading.Event()
        self.may_pass = threading.Event()
        self.listener: socket.socket | None = None

    def start(self, jobs: Jobs, script: str) -> Job:
        """Start a job that saves there."""
        return jobs.start(PRELUDE + textwrap.dedent(script), HOLDFAST_URL=self.url, DIRECTORY=self.directory)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Enter once a silent server has received a request, which it does not answer until this ends."""
        assert self.listener is not None
        self.listener.settimeout(60)
        with self.listener.accept()[0] as connection:
            connection.settimeout(60)
            assert connection.recv(1), "nothing was asked"
            yield

    def on_server(self) -> list[int]:
        """Return the epochs that the server has, in order."""
        if self.server.http.get(f"/v1/directories/{self.directory}").status_code == 404:
            return []
        return [_epoch(name) for name in self.server.names(self.directory, order_by="position")]

    def in_spool(self) -> list[int]:
        """Return the epochs that wait, in order, each of them intact."""
        found = []
        for queue in Spool(self.spool).queues():
            for item in queue.items():
                save, file = queue.open(item)
                with file:
                    assert not file.has_changed()
                found.append(_epoch(save["name"]))
        return found

    def durable(self) -> set[int]:
        """Return the epochs that are on the server or in the spool."""
        return {*self.on_server(), *self.in_spool()}


def _epoch(name: str) -> int:
    return int(name.removesuffix(".pt").rpartition("_")[2])


@pytest.fixture
def make_place(server: LiveServer, directory: str, spool: Path, free_port: int) -> Iterator[Callable[[str], Place]]:
    """Makes servers that are up, dead, silent (they accept and never answer), or that fall silent amid a save."""
    with ExitStack() as stack:

        def make(kind: str) -> Place:
            place = Place(kind, server.url, server, directory, spool)
            if kind == "dead":
                place.url = f"http://127.0.0.1:{free_port}"
            elif kind == "silent":
                listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=100)))
                place.listener = listener
                place.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            elif kind == "falling silent":
                place.url = stack.enter_context(Forwarder(server.url, watch=_held(place))).url
                stack.callback(place.may_pass.set)
            return place

        yield make


def _held(place: Place) -> Callable[[bool, bytes], object]:
    """Pass a megabyte, and everything once that is allowed."""
    passed = 0

    def watch(up: bool, piece: bytes) -> None:
        nonlocal passed
        passed += len(piece)
        if passed > 1_000_000:
            place.is_reached.set()
            place.may_pass.wait(DEADLINE_S)

    return watch


KINDS = ["up", "dead", "silent", "falling silent"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    """A server of each kind."""
    return make_place(request.param)


def wait_for_start(place: Place, job: Job) -> None:
    """Wait until a save is under way."""
    job.wait_for("saving")
    if place.kind == "falling silent":
        assert place.is_reached.wait(DEADLINE_S)


# a signal, and no other handler


def test_sigterm_brings_background_saves_to_safety_and_ends_the_process(jobs, place):
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=4)
        for epoch in (1, 2):
            kept.save(state(epoch), epoch=epoch)
        print("saving")
        sleep()
        """,
    )
    wait_for_start(place, job)
    told_at = job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert time.monotonic() - told_at < 4 + 3, "it took longer than the limit and the writing"
    assert place.durable() == {1, 2}
    if place.kind == "up":
        assert place.on_server() == [1, 2]
    else:
        assert f"2 checkpoints of '{place.directory}' wait in {place.spool}" in job.errors()


def test_a_background_save_that_begins_after_sigterm_is_safe_once_it_has_returned(jobs, place):
    job = place.start(
        jobs,
        """
        kept = manager(background=True, max_pending=50, drain_s=4)
        kept.save(state(1), epoch=1)
        print("saving")
        for epoch in range(2, 500):
            kept.save({"number": epoch}, epoch=epoch)
            print("saved", epoch)
        """,
    )
    wait_for_start(place, job)
    job.wait_for("saved 2")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    returned = {int(line.split()[1]) for line in job.output().splitlines() if line.startswith("saved")}
    assert {1, *returned} <= place.durable()


def test_sigterm_amid_a_save_brings_it_to_safety_and_ends_the_process(jobs, place):
    job = place.start(
        jobs,
        """
        kept = manager(drain_s=4)
        announce_save()
        kept.save(state(1), epoch=1)
        sleep()
        """,
    )
    wait_for_start(place, job)
    time.sleep(0.3)  # any moment will do
    told_at = job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert time.monotonic() - told_at < 4 + 3
    assert place.durable() == {1}
    assert (place.kind == "up") or f"1 checkpoint of '{place.directory}' waits in {place.spool}" in job.errors()


def test_looking_whether_a_save_is_under_way_never_stops_the_process(jobs, make_place):
    """A garbage collection that comes amid it may not, either, while threads start and end."""
    job = make_place("silent").start(
        jobs,
        """
        import gc

        def churn():
            while True:
                thread = threading.Thread(target=lambda: None)
                thread.start()
                thread.join()

        kept = manager(background=True, drain_s=0)
        kept.save({"number": 1}, epoch=1)
        (save,) = kept._saver.target.jobs
        while save._runner is None:
            time.sleep(0.01)
        threading.Thread(target=churn, daemon=True).start()
        gc.callbacks.append(lambda phase, info: time.sleep(0.0002))
        gc.set_threshold(1, 1000, 1000)
        found = sum(save.is_alive() for _ in range(2000))
        gc.set_threshold(1000)
        print("found", found)
        os._exit(0)
        """,
    )
    assert job.wait() == 0, job.errors()
    assert job.value("found") == "2000"


def test_what_passes_after_sigterm_arrives_on_the_server(jobs, make_place):
    place = make_place("falling silent")
    job = place.start(jobs, "print('saving')\nmanager().save(state(1), epoch=1)\nsleep()")
    wait_for_start(place, job)
    job.send_signal(signal.SIGTERM)
    place.may_pass.set()
    assert job.wait() == -signal.SIGTERM
    assert (place.on_server(), place.in_spool()) == ([1], [])


@pytest.mark.alone
def test_with_nothing_under_way_sigterm_ends_the_process_at_once(jobs, make_place):
    place = make_place("up")
    job = place.start(jobs, "manager(drain_s=60).save(state(1), epoch=1)\nprint('saved')\nsleep()")
    job.wait_for("saved")
    told_at = job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert time.monotonic() - told_at < 2


@pytest.mark.alone
def test_a_second_sigterm_ends_the_process_at_once(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=60)
        kept.save(state(1), epoch=1)
        print("saving")
        sleep()
        """,
    )
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert eventually(place.in_spool), "nothing was brought to safety"
    told_at = job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert time.monotonic() - told_at < 5
    assert place.in_spool() == [1]


def test_the_process_ends_also_where_its_main_thread_comes_to_be_stuck_outside_of_python(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=3)
        kept.save(state(1), epoch=1)
        print("saving")
        while not any(thread.name == "holdfast-drain" for thread in threading.enumerate()):
            time.sleep(0.001)
        within_c()
        """,
    )
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert job.wait(DEADLINE_S) == -signal.SIGTERM
    assert place.in_spool() == [1]


# a signal while the main thread is within a call to C, so that no handler is called


def test_the_process_ends_also_where_its_main_thread_is_outside_of_python(jobs, place):
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=3)
        kept.save(state(1), epoch=1)
        within_c()
        """,
    )
    job.wait_for("within C")
    job.send_signal(signal.SIGTERM)
    assert job.wait(DEADLINE_S) == -signal.SIGTERM
    assert place.durable() == {1}


@pytest.mark.parametrize("kind", KINDS[2:])
def test_what_is_under_way_is_safe_though_a_handler_of_the_users_is_never_called(jobs, make_place, kind):
    place = make_place(kind)
    job = place.start(
        jobs,
        """
        signal.signal(signal.SIGTERM, lambda *_: print("called"))
        kept = manager(background=True)
        kept.save(state(1), epoch=1)
        within_c()
        """,
    )
    job.wait_for("within C")
    job.send_signal(signal.SIGTERM)
    assert eventually(place.in_spool, seconds=20), "nothing was brought to safety"
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert (place.in_spool(), job.lines()) == ([1], ["within C"])


AROUND = {
    "a handler": """
        signal.signal(signal.SIGTERM, lambda *_: print("called"))
        around = contextlib.nullcontext()
        """,
    "a graceful loop": """
        signal.signal(signal.SIGTERM, lambda *_: print("called"))
        around = GracefulStop()
        """,
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_the_handler_is_called_once_when_the_main_thread_comes_back(jobs, make_place, around):
    place = make_place("silent")
    job = place.start(
        jobs,
        around
        + """
        released = threading.Event()
        def release():
            while not any("state.pt" in names for *_, names in os.walk(os.environ["HOLDFAST_SPOOL"])):
                time.sleep(0.01)
            released.set()
        with around:
            kept = manager(background=True, drain_s=1)
            kept.save(state(1), epoch=1)
            threading.Thread(target=release, daemon=True).start()
            within_c(released)
            kept.save(state(2), epoch=2)
        """,
    )
    job.wait_for("within C")
    job.send_signal(signal.SIGTERM)
    assert job.wait(DEADLINE_S) == 0, job.errors()
    assert (place.in_spool(), job.lines()) == ([1, 2], ["within C", "called"])


def test_what_uses_the_wakeup_descriptor_before_keeps_it(jobs, make_place):
    place = make_place("dead")
    job = place.start(
        jobs,
        """
        import socket
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        signal.signal(signal.SIGUSR1, lambda *_: None)
        kept = manager(background=True, drain_s=1)
        for epoch in (1, 2):
            kept.save(state(epoch), epoch=epoch)
            signal.raise_signal(signal.SIGUSR1)
        print("heard", list(ours.recv(10)) == [signal.SIGUSR1] * 2, signal.set_wakeup_fd(-1) == theirs.fileno())
        sleep()
        """,
    )
    job.wait_for("heard True True")
    job.send_signal(signal.SIGTERM)
    assert job.wait(DEADLINE_S) == -signal.SIGTERM
    assert place.in_spool() == [1, 2]


def test_after_a_loop_of_asyncio_has_used_the_descriptor_the_next_save_takes_it_again(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        import asyncio
        async def listens():
            heard = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 20)
            print("heard")
        kept = manager(background=True, drain_s=1)
        kept.save(state(1), epoch=1)
        asyncio.run(listens())
        kept.save(state(2), epoch=2)
        within_c()
        """,
    )
    job.wait_for("heard")
    job.wait_for("within C")
    job.send_signal(signal.SIGTERM)
    assert job.wait(DEADLINE_S) == -signal.SIGTERM
    assert place.in_spool() == [1, 2]


def test_a_signal_of_a_child_that_shares_the_descriptor_is_not_the_parents(jobs, make_place):
    job = make_place("up").start(
        jobs,
        """
        import ctypes
        from holdfast._runtime import signal_thread as _wakeup
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)
        seen = []
        _wakeup.arm(seen.append)
        child = ctypes.PyDLL(None).fork()  # as code in C forks: Python's hooks are not called
        if child == 0:
            signal.raise_signal(signal.SIGUSR1)
            os._exit(0)
        os.waitpid(child, 0)
        signal.raise_signal(signal.SIGUSR2)
        while not seen:
            time.sleep(0.01)
        print("seen", seen == [signal.SIGUSR2])
        """,
    )
    assert job.wait() == 0, job.errors()
    assert job.value("seen") == "True"


# a signal, and a handler of the user


@pytest.mark.parametrize("installed", ["before", "after"])
def test_a_handler_of_the_users_is_called_once_for_each_signal_and_decides(jobs, make_place, installed):
    place = make_place("silent")
    job = place.start(
        jobs,
        f"""
        calls = []
        def install():
            signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
        if {installed == "before"}:
            install()
        kept = manager(background=True, drain_s=2)
        kept.save(state(1), epoch=1)
        if {installed == "after"}:
            install()
        for count in (1, 2, 3):
            print("count", count)
            while len(calls) < count:
                time.sleep(0.01)
        time.sleep(3)
        print("calls", len(calls))
        """,
    )
    for count in (1, 2, 3):
        job.wait_for(f"count {count}")
        job.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # one that comes too early counts as well
    assert job.wait() == 0
    assert job.value("calls") == "3"
    assert place.in_spool() == [1]


def test_a_handler_that_calls_ours_as_the_former_one_ends_the_process(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=2)
        kept.save(state(1), epoch=1)
        former = signal.getsignal(signal.SIGTERM)
        def handler(number, frame):
            print("called")
            former(number, frame)
        signal.signal(signal.SIGTERM, handler)
        print("saving")
        sleep()
        """,
    )
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert job.lines() == ["saving", "called"]
    assert place.in_spool() == [1]


@pytest.mark.parametrize("error", ["SystemExit", "OSError", "RuntimeError"])
def test_a_save_that_a_handler_of_the_users_breaks_off_is_brought_to_safety(jobs, place, error):
    job = place.start(
        jobs,
        f"""
        class Preempted({error}):
            pass
        def handler(*_):
            raise Preempted
        signal.signal(signal.SIGTERM, handler)
        kept = manager(drain_s=3)
        try:
            announce_save(handler)
            kept.save(state(1), epoch=1)
            sleep()
        except Preempted:
            sys.exit(7)
        """,
    )
    wait_for_start(place, job)
    time.sleep(0.3)  # any moment will do
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 7
    assert place.durable() == {1}


def test_a_signal_that_is_ignored_stays_so(jobs, make_place):
    place = make_place("up")
    job = place.start(
        jobs,
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        kept = manager(background=True)
        kept.save(state(1), epoch=1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        """,
    )
    assert job.wait() == 0, job.errors()
    assert place.on_server() == [1]


@pytest.mark.parametrize("told", [True, False], ids=["told to end", "ends"])
def test_a_manager_that_only_another_thread_uses_breaks_nothing(jobs, make_place, told):
    place = make_place("up")
    job = place.start(
        jobs,
        f"""
        def use():
            kept = manager(background=True)
            kept.save(state(1), epoch=1)
            kept.save(state(2), epoch=2, wait={told})
            print("saved")
        threading.Thread(target=use).start()
        if {told}:
            sleep()
        """,
    )
    if told:
        job.wait_for("saved")
        job.send_signal(signal.SIGTERM)
    assert job.wait() == (-signal.SIGTERM if told else 0)
    assert place.on_server() == [1, 2]


# loops that end gracefully

GRACEFUL = """
kept = manager(drain_s=3, timeout_s={timeout_s}, patience_s=0.1, background={background})
if {saves_before}:
    kept.save(state(1), epoch=1)
with GracefulStop({signals}) as stop, {inner}:
    print("saving")
    while not stop.requested:
        time.sleep(0.01)
    kept.save(state(2), epoch=2)
    print("returned")
print("signal", stop.signal.name)
"""


def graceful(**options: object) -> str:
    """Make the script of a loop that saves once more when a signal asks it to end."""
    usual = {"timeout_s": 60, "background": False, "saves_before": False, "inner": "GracefulStop()"}
    return GRACEFUL.format(**{**usual, "signals": "[signal.SIGTERM, signal.SIGUSR1]", **options})


@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_loop_that_is_told_to_end_saves_once_more(jobs, make_place, kind, background):
    place = make_place(kind)
    job = place.start(jobs, graceful(background=background))
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.errors()
    assert job.value("signal") == "SIGTERM"
    assert (place.on_server(), place.in_spool()) == (([2], []) if kind == "up" else ([], [2]))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_so_it_does_where_it_has_saved_before(jobs, make_place, kind, sign):
    place = make_place(kind)
    job = place.start(jobs, graceful(saves_before=True, timeout_s=1))
    job.wait_for("saving")
    job.send_signal(sign)
    assert job.wait() == 0, job.errors()
    assert job.value("signal") == sign.name
    assert place.durable() == {1, 2}


def test_a_last_save_does_not_wait_for_those_that_hang(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=3)
        with GracefulStop() as stop:
            for epoch in (1, 2):
                kept.save(state(epoch), epoch=epoch)
            print("saving")
            while not stop.requested:
                time.sleep(0.01)
            kept.save(state(3), epoch=3, wait=True)
            print("returned")
        """,
    )
    job.wait_for("saving")
    told_at = job.send_signal(signal.SIGTERM)
    assert job.wait() == 0, job.errors()
    assert time.monotonic() - told_at < 15, "it waited for the server's silence to end"
    assert place.in_spool() == [1, 2, 3]


@pytest.mark.parametrize("saves_after", [False, True], ids=["no save follows", "a save follows"])
@pytest.mark.parametrize("told_before", [False, True], ids=["for the first time", "again"])
def test_after_the_loop_sigterm_ends_the_process_again(jobs, make_place, told_before, saves_after):
    place = make_place("silent")
    job = place.start(
        jobs,
        f"""
        kept = manager(background=True, drain_s=2)
        with GracefulStop() as stop:
            kept.save(state(1), epoch=1)
            if {told_before}:
                os.kill(os.getpid(), signal.SIGTERM)
                while not stop.requested:
                    time.sleep(0.01)
        if {saves_after}:
            kept.save(state(2), epoch=2)
        print("saving")
        sleep()
        """,
    )
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert place.in_spool() == ([1, 2] if saves_after else [1])


def test_a_save_after_sigterm_does_not_overtake_a_large_one_on_the_way_to_the_spool(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=2)
        with GracefulStop() as stop:
            kept.save({"large": torch.ones(100_000_000)}, epoch=1)
            os.kill(os.getpid(), signal.SIGTERM)
            while not stop.requested:
                time.sleep(0.01)
            kept.save({"small": 1}, epoch=2)
        """,
    )
    assert job.wait() == 0, job.errors()
    assert place.in_spool() == [1, 2]


def test_a_loop_that_heeds_another_signal_does_not_keep_sigterm_from_ending_the_process(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=2)
        with GracefulStop([signal.SIGUSR1]) as stop:
            kept.save(state(1), epoch=1)
            print("saving")
            sleep()
        """,
    )
    job.wait_for("saving")
    job.send_signal(signal.SIGUSR1)
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert place.in_spool() == [1]


def test_former_handlers_are_back_after_the_loop(jobs, make_place):
    place = make_place("up")
    job = place.start(
        jobs,
        """
        calls = []
        def users(number, frame):
            calls.append(number)
        signal.signal(signal.SIGTERM, users)
        signal.signal(signal.SIGUSR1, users)
        with GracefulStop([signal.SIGTERM, signal.SIGUSR1]) as outer, GracefulStop() as inner:
            manager().save(state(1), epoch=1)
            os.kill(os.getpid(), signal.SIGTERM)
            while not inner.requested:
                pass
        assert outer.requested and calls == [signal.SIGTERM], calls
        assert signal.getsignal(signal.SIGUSR1) is users
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
        assert calls == [signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1], calls
        """,
    )
    assert job.wait() == 0, job.errors()


# the time that it takes


@pytest.mark.alone
@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_large_last_save_is_durable_in_time(jobs, make_place, kind, tmp_path):
    size_bytes = 2**30 if IS_LONG else 2**28
    place = make_place(kind)
    job = place.start(
        jobs,
        f"""
        kept = manager(drain_s=0.1)
        weights = {{"weights": torch.full(({size_bytes // 4},), 1.5)}}
        with GracefulStop() as stop:
            print("saving")
            while not stop.requested:
                time.sleep(0.001)
            kept.save(weights, epoch=1)
            print("durable", time.monotonic())
        """,
    )
    job.wait_for("saving")
    disk_s = written_in(tmp_path / "disk", size_bytes)
    told_at = job.send_signal(signal.SIGTERM)
    assert job.wait(300) == 0, job.errors()
    assert place.durable() == {1}
    ratio = (float(job.value("durable")) - told_at) / disk_s
    print(f"{kind}: durable {ratio * disk_s:.2f} s after SIGTERM; the disk alone takes {disk_s:.2f} s ({ratio:.1f})")
    assert ratio < 10, "10 s for each GiB where the disk takes one"


def written_in(path: Path, size_bytes: int) -> float:
    """Measure the time, in seconds, that the disk takes for a file."""
    piece = os.urandom(2**24)
    began = time.monotonic()
    with path.open("wb") as file:
        for _ in range(0, size_bytes, len(piece)):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    took_s = time.monotonic() - began
    path.unlink()
    return took_s


# the end of a script

ENDS = [
    pytest.param("pass", 0, id="by itself"),
    pytest.param("sys.exit(3)", 3, id="by sys.exit"),
    pytest.param("raise RuntimeError('the loss is NaN')", 1, id="by an exception"),
]


@pytest.mark.alone
@pytest.mark.parametrize(("end", "status"), ENDS)
@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_end_of_a_script_waits_for_saves(jobs, make_place, kind, end, status):
    place, limit_s = make_place(kind), 20 if kind == "up" else 2
    job = place.start(
        jobs,
        f"""
        kept = manager(background=True, drain_s={limit_s}, patience_s=0.5)
        for epoch in (1, 2):
            kept.save(state(epoch), epoch=epoch)
        print("ends", time.monotonic())
        {end}
        """,
    )
    assert job.wait() == status, job.errors()
    assert (place.on_server(), place.in_spool()) == (([1, 2], []) if kind == "up" else ([], [1, 2]))
    assert kind == "up" or f"2 checkpoints of '{place.directory}' wait in {place.spool}" in job.errors()
    assert time.monotonic() - float(job.value("ends")) < min(limit_s, 4) + 4


def test_nothing_that_this_package_does_at_the_end_comes_before_that(make_place):
    place = make_place("up")
    script = """
kept = manager(background=True)
kept.save(state(0), epoch=0, wait=True)
for epoch in (1, 2):
    kept.save(state(epoch), epoch=epoch)
"""
    environment = {**os.environ, "HOLDFAST_URL": place.url, "DIRECTORY": place.directory}
    prelude = "import holdfast\n" + PRELUDE  # callbacks that other code registers at exit are then called after ours
    done = subprocess.run([sys.executable, "-c", prelude + script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert place.on_server() == [0, 1, 2]


@pytest.mark.alone
@pytest.mark.parametrize("end", ["pass", "raise RuntimeError('the loss is NaN')"], ids=["by itself", "by an exception"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_so_does_the_end_of_a_managers_block(jobs, make_place, kind, end):
    place, limit_s = make_place(kind), 8 if kind == "silent" else 20
    job = place.start(
        jobs,
        f"""
        try:
            with manager(background=True, drain_s={limit_s}, patience_s=0.5) as kept:
                for epoch in (1, 2):
                    kept.save(state(epoch), epoch=epoch)
                began = time.monotonic()
                {end}
        except RuntimeError:
            pass
        print("took", time.monotonic() - began)
        print("ends", time.monotonic())
        """,
    )
    job.wait_for("ends")
    assert job.wait() == 0, job.errors()
    ended_at = time.monotonic()
    assert place.durable() == {1, 2}
    assert kind == "up" or f"2 checkpoints of '{place.directory}' wait in {place.spool}" in job.errors()
    assert float(job.value("took")) < limit_s + 4
    assert ended_at - float(job.value("ends")) < limit_s, "it waited again for what it had waited for"


def test_with_the_server_dead_the_end_does_not_take_as_long_as_it_may(jobs, make_place):
    place = make_place("dead")
    waiting = place.start(jobs, "manager(patience_s=0).save(state(1), epoch=1)")
    assert waiting.wait() == 0
    job = place.start(
        jobs,
        "kept = manager(drain_s=60, patience_s=50)\nkept.save(state(2), epoch=2)\nprint('ends', time.monotonic())",
    )
    assert job.wait() == 0
    assert time.monotonic() - float(job.value("ends")) < 10
    assert place.in_spool() == [1, 2]
    assert "2 checkpoints" in job.errors()


def test_a_manager_that_was_only_made_does_not_put_off_the_end(jobs, make_place):
    place = make_place("silent")
    waiting = place.start(jobs, "manager(patience_s=0, timeout_s=0.5, drain_s=0.1).save(state(1), epoch=1)")
    assert waiting.wait() == 0
    job = place.start(jobs, "manager(drain_s=60)\nprint('ends', time.monotonic())")
    assert job.wait(DEADLINE_S) == 0
    assert time.monotonic() - float(job.value("ends")) < 10


REFUSED = """
manager(mode="max").save(state(1), epoch=1, metric=1.0)
kept = manager(mode="min", background=True)
kept.save(state(2), epoch=2)
"""


@pytest.mark.parametrize("asked", ["kept.wait()", "kept.close()", "while True: kept.save(state(3), epoch=3)"])
def test_the_error_of_a_background_save_is_raised_to_whoever_asks(jobs, make_place, asked):
    job = make_place("up").start(jobs, REFUSED + asked)
    assert job.wait() == 1
    assert "ModeConflict" in job.errors()
    assert "This happened in the background, to checkpoint_epoch_0002.pt." in job.errors()


def test_it_is_raised_at_the_end_of_the_managers_block(jobs, make_place):
    job = make_place("up").start(jobs, REFUSED.replace("kept.save", "with kept: kept.save"))
    assert job.wait() == 1
    assert job.errors().count("ModeConflict") == 1


@pytest.mark.parametrize(("end", "status"), ENDS)
def test_it_is_logged_at_the_end_where_nobody_has_asked(jobs, make_place, end, status):
    job = make_place("up").start(jobs, REFUSED + end)
    assert job.wait() == status
    assert job.errors().count("a checkpoint was not saved") == 1
    assert "checkpoint_epoch_0002.pt" in job.errors()


def test_it_is_not_logged_where_somebody_was_told(jobs, make_place):
    job = make_place("up").start(
        jobs, REFUSED + "try: kept.wait()\nexcept HoldfastError as error: print('told', error)"
    )
    assert job.wait() == 0
    assert job.value("told")
    assert job.errors() == ""


def test_what_can_be_kept_nowhere_is_named(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        """
        with manager(background=True, drain_s=0.5, on_unreachable="raise") as kept:
            kept.save(state(1), epoch=1)
        print("left")
        """,
    )
    assert job.wait() == 0
    assert f"{place.directory}/checkpoint_epoch_0001.pt is not saved yet" in job.errors()
    assert f"{place.directory}/checkpoint_epoch_0001.pt was not saved: the process ends" in job.errors()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGTERM)\nsleep()", "both[0].close()", "pass"])
def test_one_that_cannot_be_written_does_not_hinder_the_others(jobs, make_place, end):
    place = make_place("silent")
    job = place.start(
        jobs,
        f"""
        def fail(place):
            raise RuntimeError("the device is lost")
        kept = manager(background=True, drain_s=1)
        for epoch in (1, 2):
            kept.save(state(epoch), epoch=epoch)
        while not os.path.exists({str(place.spool / "heard")!r}):
            time.sleep(0.01)
        kept._saver.target.jobs[0]._content.read = fail
        both = [kept]
        {end.replace(chr(10), chr(10) + 8 * " ")}
        """,
    )
    with place.heard():  # it has been read for the server before it cannot be read any more
        (place.spool / "heard").touch()
        status = job.wait()
    assert status == (-signal.SIGTERM if "SIGTERM" in end else 0), job.errors()
    assert place.in_spool() == [2]
    assert f"{place.directory}/checkpoint_epoch_0001.pt could not be written to the spool: the device" in job.errors()


@pytest.mark.parametrize("kind", ["silent", "falling silent"])
def test_whoever_interrupts_the_waiting_at_the_end_loses_nothing(jobs, make_place, kind):
    place = make_place(kind)
    job = place.start(
        jobs,
        """
        kept = manager(background=True, drain_s=60)
        for epoch in (1, 2):
            kept.save(state(epoch), epoch=epoch)
        print("saving")
        sleep()
        """,
    )
    wait_for_start(place, job)
    job.send_signal(signal.SIGINT)
    assert eventually(lambda: "KeyboardInterrupt" in job.errors())
    time.sleep(0.3)
    interrupted_at = job.send_signal(signal.SIGINT)
    job.wait()
    assert time.monotonic() - interrupted_at < 10
    assert place.in_spool() == [1, 2]
    assert f"2 checkpoints of '{place.directory}' wait in {place.spool}" in job.errors()


# children

CHILDREN = {
    "os.fork": """
        class Child:
            def __init__(self, target):
                self.pid = os.fork()
                if self.pid == 0:
                    target()
                    sys.exit(0)
            def join(self):
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        """,
    "fork": """
        import multiprocessing
        class Child:
            def __init__(self, target):
                self.process = multiprocessing.get_context("METHOD").Process(target=target)
                self.process.start()
                self.pid = self.process.pid
            def join(self):
                self.process.join()
                return self.process.exitcode
        """,
}
CHILDREN["spawn"] = CHILDREN["fork"].replace("METHOD", "spawn")
CHILDREN["fork"] = CHILDREN["fork"].replace("METHOD", "fork")

FAMILY = """
def child_saves():
    mine = (kept if METHOD == "fork" or METHOD == "os.fork" else manager(background=True))
    mine.save(state(3), epoch=3)
    mine.save(state(4), epoch=4)

def child_saves_gracefully():
    with GracefulStop():
        child_saves()

def child_saves_and_closes():
    began = time.monotonic()
    kept.save(state(2), epoch=2, wait=True)
    kept.close()
    print("took", time.monotonic() - began)

def child_sleeps():
    print("asleep")
    sleep()

def child_ends():
    pass
"""


def family(method: str, script: str) -> str:
    """Make the script of a parent, in a form that its children need not import."""
    lines = "\n".join(f"    {line}" for line in script.strip("\n").split("\n"))
    helpers = "\n".join(line.removeprefix("        ") for line in CHILDREN[method].split("\n"))
    return f"METHOD = {method!r}\n{helpers}\n{FAMILY}\nif __name__ == '__main__':\n{lines}\n"


@pytest.mark.parametrize("method", CHILDREN)
def test_a_child_saves_for_itself_and_leaves_its_parents_saves_alone(jobs, make_place, method):
    place = make_place("falling silent")
    job = place.start(
        jobs,
        family(
            method,
            """
kept = manager(background=True)
for epoch in (1, 2):
    kept.save(state(epoch), epoch=epoch)
print("saving")
time.sleep(0.5)
child = Child(child_saves)
print("forked")
print("child", child.join())
kept.wait()
print("pending", kept.pending)
""",
        ),
    )
    wait_for_start(place, job)
    job.wait_for("forked")
    assert place.on_server() == []
    place.may_pass.set()
    assert job.wait() == 0, job.errors()
    assert job.value("child") == "0", job.errors()
    assert job.value("pending") == "[]"
    assert sorted(place.on_server()) == [1, 2, 3, 4]
    assert place.in_spool() == []


@pytest.mark.parametrize("saves", ["child_saves", "child_saves_gracefully"])
@pytest.mark.parametrize("method", CHILDREN)
def test_a_childs_saves_are_durable_when_it_has_ended(jobs, make_place, method, saves):
    place = make_place("dead")
    job = place.start(
        jobs,
        family(
            method,
            f"""
kept = manager(background=True, drain_s=2, patience_s=0.2)
child = Child({saves})
print("child", child.join())
print("ended")
sleep()
""",
        ),
    )
    job.wait_for("ended")
    assert job.value("child") == "0", job.errors()
    assert place.in_spool() == [3, 4]
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM


@pytest.mark.parametrize("method", ["os.fork", "fork"])
def test_a_child_delivers_for_itself(jobs, make_place, method):
    place = make_place("dead")
    job = place.start(
        jobs,
        family(
            method,
            """
kept = manager(patience_s=0.2, drain_s=20)
kept.save(state(1), epoch=1)  # whoever delivers it is alive from here on
child = Child(child_saves_and_closes)
print("child", child.join())
""",
        ),
    )
    assert job.wait() == 0, job.errors()
    assert job.value("child") == "0", job.errors()
    assert float(job.value("took")) < 10, "it waited for somebody who is not there"
    assert place.in_spool() == [1, 2]


@pytest.mark.alone
@pytest.mark.parametrize("method", CHILDREN)
@pytest.mark.parametrize("around", ["", "with GracefulStop() as stop: "], ids=["plain", "in a graceful loop"])
def test_sigterm_ends_a_child_at_once_and_its_parent_goes_on(jobs, make_place, method, around):
    place = make_place("falling silent")
    job = place.start(
        jobs,
        family(
            method,
            f"""
def main():
    kept.save(state(1), epoch=1)
    print("saving")
    time.sleep(0.5)
    child = Child(child_sleeps)
    while not os.path.exists(os.environ["SENTINEL"]):
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(child.pid, signal.SIGTERM)
    print("child", child.join(), time.monotonic() - began)
    print("joined")
    kept.wait()
kept = manager(background=True, drain_s=60)
{around}main()
""",
        ).replace('os.environ["SENTINEL"]', repr(str(place.spool / "asleep"))),
    )
    wait_for_start(place, job)
    job.wait_for("asleep")
    (place.spool / "asleep").touch()
    job.wait_for("joined")
    status, took_s = job.value("child").split()
    assert (status, float(took_s) < 5) == (str(-signal.SIGTERM), True)
    assert place.durable() == set(), "the child has done what was its parent's to do"
    place.may_pass.set()
    assert job.wait() == 0, job.errors()
    assert place.on_server() == [1]


def test_workers_of_a_data_loader_leave_saves_alone_and_end(jobs, make_place):
    place = make_place("up")
    job = place.start(
        jobs,
        """
        from torch.utils.data import DataLoader
        kept = manager(background=True, drain_s=20)
        with GracefulStop() as stop:
            for epoch in range(3):
                loader = DataLoader(torch.arange(64.0), batch_size=8, num_workers=2)
                total = sum(float(batch.sum()) for batch in loader)
                kept.save(state(epoch), epoch=epoch, total=total)
                workers = iter(loader)  # these are terminated amid their work
                next(workers)
                del workers
        print("left")
        """,
    )
    job.wait_for("left")
    assert job.wait(DEADLINE_S) == 0, job.errors()
    assert place.on_server() == [0, 1, 2]
    assert job.errors() == ""


@pytest.mark.parametrize("method", ["os.fork", "fork"])
def test_a_child_does_not_hold_its_parents_locks(jobs, make_place, method):
    place = make_place("falling silent")
    job = place.start(
        jobs,
        family(
            method,
            """
kept = manager(background=True, patience_s=0.2, timeout_s=2)
kept.save(state(1), epoch=1)  # it goes to the spool, and is under way from there
kept.wait()
import fcntl, pathlib
while not (places := list(pathlib.Path(os.environ["HOLDFAST_SPOOL"]).glob("*/lock"))):
    time.sleep(0.01)
with places[0].open("a") as lock:
    with contextlib.suppress(BlockingIOError):  # until somebody delivers
        while True:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.01)
print("saving")
child = Child(child_sleeps)
print("forked", child.pid)
sleep()
""",
        ),
    )
    wait_for_start(place, job)
    for said in ("asleep", "forked"):
        job.wait_for(said)
    job.send_signal(signal.SIGKILL)
    job.wait()
    try:
        place.may_pass.set()
        again = place.start(jobs, "kept = manager()\nkept.resume()\nkept.close(20)")
        assert again.wait() == 0, again.errors()
        assert (place.on_server(), place.in_spool()) == ([1], [])
    finally:
        os.kill(int(job.value("forked")), signal.SIGKILL)


# no threads any more: Python 3.12 and later start none while they end

WITHOUT_THREADS = """
def start(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def no_more_threads():
    threading.Thread.start = start

import atexit
"""


@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_end_does_without_new_threads(jobs, make_place, kind):
    place = make_place(kind)
    job = place.start(
        jobs,
        WITHOUT_THREADS
        + """
kept = manager(background=True, drain_s=2, patience_s=0.2)
for epoch in (1, 2):
    kept.save(state(epoch), epoch=epoch)
atexit.register(no_more_threads)  # the last to be registered is the first to be called
""",
    )
    assert job.wait() == 0, job.errors()
    assert place.durable() == {1, 2}
    assert "Traceback" not in job.errors()


@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_save_amid_the_end_does_without_threads(jobs, make_place, kind, background):
    place = make_place(kind)
    job = place.start(
        jobs,
        WITHOUT_THREADS
        + f"""
kept = manager(background={background}, drain_s=2, patience_s=0.2, timeout_s=1)
atexit.register(lambda: print("saved", kept.save(state(1), epoch=1)))
atexit.register(no_more_threads)
""",
    )
    assert job.wait(DEADLINE_S) == 0, job.errors()
    assert job.value("saved").endswith("checkpoint_epoch_0001.pt")
    assert place.durable() == {1}
    assert "Traceback" not in job.errors()


def test_sigterm_amid_the_end_does_without_threads(jobs, make_place):
    place = make_place("silent")
    job = place.start(
        jobs,
        WITHOUT_THREADS
        + """
kept = manager(background=True, drain_s=2, patience_s=0.2)
kept.save(state(1), epoch=1)
atexit.register(print, "saving")
atexit.register(no_more_threads)
""",
    )
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
    assert place.in_spool() == [1]
    assert "Traceback" not in job.errors()
