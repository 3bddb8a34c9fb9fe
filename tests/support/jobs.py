"""Jobs of users: processes of their own that run a script and end like any other, forked from one that knows torch.

with Jobs() as jobs:
    job = jobs.start(script, HOLDFAST_URL=server.url)
    job.wait_for("saving")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == -signal.SIGTERM
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path
from typing import Any, Self

from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, eventually

_PR_SET_PDEATHSIG = 1


class Jobs:
    """The process that jobs are forked from; they end with it.

    Parameters
    ----------
    folder : Path
        For their scripts and what they print.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.jobs", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=PROJECT, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(timeout=DEADLINE_S)

    def start(self, script: str, **environment: str) -> "Job":
        """A job that runs a script."""
        self._count += 1
        place = self._folder / f"job_{self._count}.py"
        place.write_text(textwrap.dedent(script))
        for ending in (".out", ".err"):
            place.with_suffix(ending).touch()
        order = {"script": str(place), "environment": {**os.environ, **environment}}
        self._socket.send(json.dumps(order).encode())
        return Job(self, int(self._socket.recv(100)), place)

    def reap(self, process_id: int) -> int:
        """The exit status of a job that has ended, as `subprocess` gives it."""
        self._socket.send(json.dumps({"reap": process_id}).encode())
        return os.waitstatus_to_exitcode(int(self._socket.recv(100)))


class Job:
    """A running script."""

    def __init__(self, jobs: Jobs, process_id: int, script: Path) -> None:
        self.pid = process_id
        self._jobs = jobs
        self._script = script
        self._handle = os.pidfd_open(process_id)

    def send_signal(self, sign: signal.Signals) -> float:
        """Send a signal; when, of `time.monotonic`."""
        signal.pidfd_send_signal(self._handle, sign)
        return time.monotonic()

    def wait(self, timeout_s: float = 60) -> int:
        """The exit status, as `subprocess` gives it."""
        if not select.select([self._handle], [], [], timeout_s)[0]:
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(f"the job has not ended within {timeout_s} s; it said:\n{self.output()}{self.errors()}")
        os.close(self._handle)
        return self._jobs.reap(self.pid)

    def wait_for(self, line: str) -> None:
        """Until it has printed a line that begins so."""
        found = eventually(lambda: any(each.startswith(line) for each in self.lines()), seconds=60)
        assert found, f"no line {line!r}:\n{self.output()}{self.errors()}"

    def lines(self) -> list[str]:
        """The whole lines that it has printed."""
        return self.output().split("\n")[:-1]

    def value(self, name: str) -> str:
        """Return the text that it has printed behind a name."""
        return next(line.partition(" ")[2] for line in self.lines() if line.split(" ")[0] == name)

    def output(self) -> str:
        """Return its standard output."""
        return self._script.with_suffix(".out").read_text()

    def errors(self) -> str:
        """Return its standard error."""
        return self._script.with_suffix(".err").read_text()


def _nurse(descriptor: int) -> str | None:
    """Fork for each order; return the script to run in the child, and None once no order comes any more."""
    import torch

    import holdfast.manager  # noqa: F401  # what jobs should find done

    torch.set_num_threads(1)
    orders = socket.socket(fileno=descriptor)
    while message := orders.recv(1 << 20):
        order = json.loads(message)
        if "reap" in order:
            orders.send(str(os.waitpid(order["reap"], 0)[1]).encode())
            continue
        process_id = os.fork()
        if process_id == 0:
            orders.close()
            _become(order)
            return str(order["script"])
        orders.send(str(process_id).encode())
    return None


def _become(order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, ending in ((1, ".out"), (2, ".err")):
        file = os.open(Path(order["script"]).with_suffix(ending), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _run(script: str) -> None:
    """Be the main program, as far as others can tell, such as children that are spawned."""
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    sys.argv[:] = [script]
    exec(compile(Path(script).read_text(), script, "exec"), main.__dict__)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end their jobs
    _script = _nurse(int(sys.argv[1]))
    if _script is not None:
        _run(_script)
