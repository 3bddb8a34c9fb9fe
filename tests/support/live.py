"""A real server in a process of its own, over a real socket, for tests to talk to, kill and start again."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from tests.support.deadlines import DEADLINE_S
from tests.support.fork_server import Forked, Nursery

PROJECT = Path(__file__).parents[2]


class LiveServer:
    """``holdfast-server serve`` on a free port of loopback, as ``with LiveServer(root) as server:``.

    ``server.http`` is an `httpx.Client` for it. The process ends with the block, whatever happens.

    Parameters
    ----------
    python : str or Path, optional
        An interpreter, maybe of another installation, with which the server is started as users start it. Without, the
        server is forked from a process that has imported everything, and the rest is for such servers.
    clock : Path, optional
        A file with the seconds by which the server's clock is ahead; read whenever it looks.
    synced : bool
        Whether it makes anything durable.
    files_synced : bool
        Whether it makes files and folders durable; without, only its database is.
    many_synced : bool
        Whether it makes many files durable at once, with their whole file system.
    early : bool
        Whether write-back begins as bytes come, before any sync waits for them.
    """

    def __init__(
        self,
        root: Path,
        *,
        python: str | Path | None = None,
        clock: Path | None = None,
        synced: bool = True,
        files_synced: bool = True,
        many_synced: bool = True,
        early: bool = True,
        **settings: str,
    ) -> None:
        self.root = root
        self.at_birth: Callable[[int], None] | None = None
        """Called with the process id when it starts, before it does anything."""
        self._log = root.parent / f"{root.name}.log"
        self._python = python
        self._order = {"synced": synced, "files_synced": files_synced, "many_synced": many_synced, "early": early}
        self._order |= {"clock": str(clock) if clock else None}
        self.url = ""
        self.http = httpx.Client(timeout=DEADLINE_S)
        self._environment = {**os.environ, "HOLDFAST_ROOT": str(root), "HOLDFAST_PORT": str(port_to_keep())}
        self._environment |= {f"HOLDFAST_{name.upper()}": value for name, value in settings.items()}
        self._process: subprocess.Popen[str] | Forked | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        self.http.close()

    def start(self) -> None:
        """Start, and wait until it answers. On a restart it takes the port that it had, as clients know it."""
        self.launch()
        assert self._process is not None
        assert self._process.stdout is not None
        found = re.search(r"at (http://\S+):(\d+)", self._process.stdout.readline())
        if found is None:
            self.kill()
            raise RuntimeError(f"the server did not start:\n{self.log()[-3000:]}")
        self.url = f"{found[1]}:{found[2]}"
        self._environment["HOLDFAST_PORT"] = found[2]
        self.http.base_url = self.url
        self.http.get("/health/ready").raise_for_status()

    def launch(self) -> None:
        """Start, and do not wait; `kill` ends it, however far it has come."""
        with self._log.open("a") as errors:
            self._process = self._launch(errors)

    def _launch(self, errors: IO[str]) -> "subprocess.Popen[str] | Forked":
        if self._python is not None:
            command = [self._python, "-P", "-m", "app", "serve"]
            return subprocess.Popen(
                command, cwd=PROJECT, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        order = {**self._order, "environment": self._environment, "held": self.at_birth is not None}
        forked = _nursery().fork(order, errors.fileno())
        if self.at_birth is not None:
            assert eventually(lambda: _state(forked.pid) in "Tt"), "the server did not wait"
            self.at_birth(forked.pid)
            forked.send_signal(signal.SIGCONT)
        return forked

    @property
    def process_id(self) -> int:
        """The process under which it runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, as the kernel would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end, and wait; the exit status."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it, if it runs, and start it again."""
        if self._process is not None:
            self.kill()
        self.start()

    def log(self) -> str:
        """Return its log so far."""
        return self._log.read_text()

    def tell_to_stop(self) -> None:
        """Ask it to end, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Until it has ended; the exit status."""
        return self._end(None)

    def _end(self, sign: signal.Signals | None) -> int:
        assert self._process is not None
        if sign is not None:
            self._process.send_signal(sign)
        status = self._process.wait(timeout=DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status

    # requests that most tests make

    def save(self, directory: str, data: bytes = b"bytes", **query: str | float) -> dict:  # type: ignore[type-arg]
        """A single-shot save that must succeed; its answer."""
        answer = self.http.post("/v1/checkpoints", params={"directory": directory, **query}, content=data)
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def names(self, directory: str, **query: str | float) -> list[str]:
        """The names of the checkpoints of a directory, in the order asked for."""
        answer = self.http.get("/v1/checkpoints", params={"directory": directory, "page_size": 1000, **query})
        assert answer.status_code == 200, answer.text
        return [checkpoint["name"] for checkpoint in answer.json()["checkpoints"]]

    def event_kinds(self, count: int) -> list[str]:
        """The kinds of the first so many events of all."""
        kinds: list[str] = []
        with self.http.stream("GET", "/v1/events", headers={"Last-Event-ID": "0"}) as answer:
            for line in answer.iter_lines():
                kinds += [line.removeprefix("event: ")] if line.startswith("event: ") else []
                if len(kinds) == count:
                    break
        return kinds

    def wait_until_freed(self) -> None:
        """Return once the bytes of all removed checkpoints are gone; freeing happens after the reply."""
        freed = "holdfast_unfreed_checkpoints 0.0"
        assert eventually(lambda: freed in self.http.get("/metrics").text), "removed checkpoints were not freed"

    def incoming(self) -> list[str]:
        """The ids of the uploads that have bytes on the disk."""
        return sorted(path.name for path in (self.root / ".holdfast" / "incoming").iterdir())


@cache
def _nursery() -> Nursery:
    """One for all servers of this process."""
    return Nursery()


def _state(process_id: int) -> str:
    """Return the state of a process as a letter: T if it was stopped."""
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0]


def port_to_keep() -> int:
    """A free port outside the ephemeral range, so that a restarted server finds it free again."""
    while True:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def eventually(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Tell if the condition comes true within that time; poll it often."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())
