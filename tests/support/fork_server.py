"""Servers of tests, forked from one process that has imported everything. They are real processes.

A server can be given a clock that tests move, and can be robbed of its fsyncs, as a control that must lose data.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_PR_SET_PDEATHSIG = 1


class Nursery:
    """The process that servers are forked from; they and it end with this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())]
        project = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, cwd=project, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours
        self._guard = threading.Lock()

    def fork(self, order: dict[str, Any], stderr: int) -> "Forked":
        """Start a server.

        Parameters
        ----------
        order : dict
            ``environment`` : the whole of it. ``clock`` : a file with the seconds by which the server's clock is ahead,
            read whenever it looks, or None. ``synced``, ``files_synced`` : whether it makes anything durable, or more
            than its database. ``many_synced`` : whether it makes many files durable at once. ``early`` : whether the
            disk begins with bytes as they come. ``held`` : whether it waits for SIGCONT before it does anything.
        stderr : int
            Where its log goes.
        """
        reading, writing = os.pipe()
        with self._guard:
            socket.send_fds(self._socket, [json.dumps(order).encode()], [writing, stderr])
            process_id = int(self._socket.recv(100))
        os.close(writing)
        return Forked(self, process_id, reading)

    def reap(self, process_id: int) -> int:
        """The exit status of a server that has ended, as `subprocess` gives it."""
        with self._guard:
            self._socket.send(json.dumps({"reap": process_id}).encode())
            return os.waitstatus_to_exitcode(int(self._socket.recv(100)))


class Forked:
    """A stand-in for `subprocess.Popen` for a process that is not our own child."""

    def __init__(self, nursery: Nursery, process_id: int, stdout: int) -> None:
        self.pid = process_id
        self.stdout = os.fdopen(stdout)
        self._nursery = nursery
        self._handle = os.pidfd_open(process_id)

    def send_signal(self, sign: signal.Signals) -> None:
        """Send a signal; it is a zombie at least until it is reaped."""
        signal.pidfd_send_signal(self._handle, sign)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended; its exit status."""
        ended, _, _ = select.select([self._handle], [], [], timeout)
        if not ended:
            raise TimeoutError(f"the server has not ended within {timeout} s")
        os.close(self._handle)
        return self._nursery.reap(self.pid)


def _nurse(descriptor: int) -> int:
    """Fork a server for each order, until the tests close the socket; return the exit status."""
    from app.__main__ import main

    _prepare()
    orders = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 2)
        if not message:
            return 0
        order = json.loads(message)
        if "reap" in order:
            orders.send(str(os.waitpid(order["reap"], 0)[1]).encode())
            continue
        process_id = os.fork()
        if process_id == 0:
            orders.close()
            _become(order, *descriptors)
            return main(["serve"])
        for each in descriptors:
            os.close(each)
        orders.send(str(process_id).encode())


def _prepare() -> None:
    """Do once what every server would do: import, describe the API, compile the statements of a first start."""
    import app.cli.commands
    import app.cli.serve  # noqa: F401
    from app.api import openapi
    from app.bootstrap import open_root
    from app.main import create_app
    from app.settings import Settings

    described = create_app(Settings(root=Path(os.devnull))).openapi()
    openapi._described = lambda _: described
    with TemporaryDirectory() as folder:
        for _ in range(2):
            open_root(Settings(root=Path(folder) / "root")).close()
    assert threading.active_count() == 1, "a fork would leave the other threads behind"
    gc.collect()
    gc.freeze()  # a collection in a server looks at what is its own, and copies no page of this process


def _become(order: dict[str, Any], stdout: int, stderr: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ours, number in ((stdout, 1), (stderr, 2)):
        os.dup2(ours, number)
        os.close(ours)
    os.environ.clear()
    os.environ.update(order["environment"])
    if order["held"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    if order["clock"]:
        _move_clock(Path(order["clock"]))
    if not order["synced"]:
        _sync_no_database()
    if not (order["synced"] and order["files_synced"]):
        _sync_no_files()
    if not order["many_synced"]:
        _sync_no_file_system()
    if not order["early"]:
        _begin_with_nothing()


def _move_clock(offset: Path) -> None:
    import app.cli.serve

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(offset.read_text()))

    app.cli.serve.serve = partial(app.cli.serve.serve, clock=clock)


def _sync_no_files() -> None:
    """Let every fsync of Python's do nothing; SQLite has its own."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    os.fdatasync = lambda _: None  # type: ignore[assignment]
    _sync_no_file_system()


def _sync_no_file_system() -> None:
    """Let the sync of a whole file system do nothing."""
    from app.storage.local.disk import linux

    linux.sync_file_system = lambda _: None


def _begin_with_nothing() -> None:
    """Let the kernel keep bytes in memory until they are synced, as a slow disk would have it."""
    from app.storage.local.disk import linux

    linux.start_writeback = lambda *_: None


def _sync_no_database() -> None:
    """Let SQLite leave it to the kernel when anything reaches the disk."""
    from sqlalchemy import Pool, event

    @event.listens_for(Pool, "checkout")  # each time, as the server asks for more when it connects
    def checked_out(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF").close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end their servers
    sys.exit(_nurse(int(sys.argv[1])))
