"""Servers that start in a moment: forked from one process that has imported everything. Real processes all the same.

    with Nursery() as nursery, nursery.server(root) as server:
        server.restart()

A server can be given a clock that tests move, and can be robbed of its fsyncs, as a control that must lose data.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from tests.live import PROJECT, LiveServer, eventually

_PR_SET_PDEATHSIG = 1


class Nursery:
    """The process that servers are forked from; they end with it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=PROJECT, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(timeout=30)

    def server(
        self,
        root: Path,
        *,
        clock: Path | None = None,
        synced: bool = True,
        files_synced: bool = True,
        early: bool = True,
        **settings: str,
    ) -> "QuickServer":
        """A server of this nursery, not yet started.

        Parameters
        ----------
        clock : Path, optional
            A file with the seconds by which the server's clock is ahead; read whenever it looks.
        synced : bool
            Whether it makes anything durable.
        files_synced : bool
            Whether it makes files and folders durable; without, only its database is.
        early : bool
            Whether the disk begins with bytes as they come, before anybody waits for them.
        """
        order = {"clock": str(clock) if clock else None, "synced": synced, "files_synced": files_synced, "early": early}
        return QuickServer(self, root, order, settings)

    def fork(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """Start a server; its process id."""
        with self._guard:
            socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
            return int(self._socket.recv(100))

    def reap(self, process_id: int) -> int:
        """The exit status of a server that has ended, as `subprocess` gives it."""
        with self._guard:
            self._socket.send(json.dumps({"reap": process_id}).encode())
            return os.waitstatus_to_exitcode(int(self._socket.recv(100)))


class QuickServer(LiveServer):
    """A live server from a nursery."""

    def __init__(self, nursery: Nursery, root: Path, order: dict[str, Any], settings: dict[str, str]) -> None:
        super().__init__(root, **settings)
        self.nursery, self._order = nursery, order
        self.at_birth: Callable[[int], None] | None = None
        """Called with the process id when it starts, before it does anything."""

    def _launch(self, errors: Any) -> Any:
        reading, writing = os.pipe()
        order = {**self._order, "environment": self._environment, "held": self.at_birth is not None}
        process_id = self.nursery.fork(order, [writing, errors.fileno()])
        os.close(writing)
        forked = _Forked(self.nursery, process_id, reading)
        if self.at_birth is not None:
            assert eventually(lambda: _state(process_id) in "Tt"), "the server did not wait"
            self.at_birth(process_id)
            forked.send_signal(signal.SIGCONT)
        return forked


class _Forked:
    """What `subprocess.Popen` would be for a process that is not our own child."""

    def __init__(self, nursery: Nursery, process_id: int, stdout: int) -> None:
        self.pid = process_id
        self.stdout = os.fdopen(stdout)
        self._nursery = nursery
        self._handle = os.pidfd_open(process_id)

    def send_signal(self, sign: signal.Signals) -> None:
        signal.pidfd_send_signal(self._handle, sign)  # it is a zombie at least until it is reaped

    def wait(self, timeout: float | None = None) -> int:
        ended, _, _ = select.select([self._handle], [], [], timeout)
        if not ended:
            raise TimeoutError(f"the server has not ended within {timeout} s")
        os.close(self._handle)
        return self._nursery.reap(self.pid)


def _state(process_id: int) -> str:
    """What a process is at, as a letter: T for one that was stopped."""
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0]


def _nurse(descriptor: int) -> None:
    """Fork a server for each order that comes, until nobody is there to give any."""
    import app.serving  # noqa: F401  # what servers should find done

    orders = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 2)
        if not message:
            return
        order = json.loads(message)
        if "reap" in order:
            orders.send(str(os.waitpid(order["reap"], 0)[1]).encode())
            continue
        process_id = os.fork()
        if process_id == 0:
            orders.close()
            _serve(order, *descriptors)
        for each in descriptors:
            os.close(each)
        orders.send(str(process_id).encode())


def _serve(order: dict[str, Any], stdout: int, stderr: int) -> None:
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        os.environ.clear()
        os.environ.update(order["environment"])
        if order["held"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        from app.serving import serve
        from app.settings import Settings

        if not order["synced"]:
            _sync_no_database()
        if not (order["synced"] and order["files_synced"]):
            _sync_no_files()
        if not order["early"]:
            _begin_with_nothing()
        status = serve(Settings(), **({"clock": _moved(Path(order["clock"]))} if order["clock"] else {}))
    except BaseException as error:
        print(f"holdfast-server: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _moved(offset: Path) -> Any:
    return lambda: datetime.now(UTC) + timedelta(seconds=float(offset.read_text()))


def _sync_no_files() -> None:
    """Let every fsync of Python's do nothing; SQLite has its own."""
    os.fsync = lambda _: None  # type: ignore[assignment]
    os.fdatasync = lambda _: None  # type: ignore[assignment]


def _begin_with_nothing() -> None:
    """Let the kernel keep bytes in memory until they are synced, as a slow disk would have it."""
    from app.storage import kernel

    kernel.start_writeback = lambda *_: None


def _sync_no_database() -> None:
    """Let SQLite leave it to the kernel when anything reaches the disk."""
    from sqlalchemy import Pool, event

    @event.listens_for(Pool, "checkout")  # each time, as the server asks for more when it connects
    def checked_out(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF").close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end their servers
    _nurse(int(sys.argv[1]))
