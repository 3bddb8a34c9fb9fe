"""strace on a running server: which system calls it makes, and kills or errors at a chosen one of them."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

CHANGING = (
    *("openat", "mkdir", "mkdirat", "write", "pwrite64", "pwritev", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "copy_file_range"),
)
SYNCING = ("fsync", "fdatasync", "sync_file_range", "syncfs")
_ALL = "trace=" + ",".join(f"?{name}" for name in (*CHANGING, *SYNCING))
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")


@dataclass(frozen=True, order=True)
class Call:
    """A system call of a server: its name, its number among the calls of that name of one thread, and its line."""

    name: str
    number: int
    line: str

    @property
    def changes(self) -> bool:
        """True if it changes something; opening a file and making a folder that exists do not."""
        return " = -1 " not in self.line and (self.name != "openat" or "O_CREAT" in self.line)


class Tracer:
    """strace, attached to all threads of a process from its construction until the block ends or `detach`.

    Counting begins anew for each thread and with each tracer.

    Parameters
    ----------
    options : sequence of str
        Expressions for strace's ``-e``.
    shown_bytes : int
        How much of what is written or sent the log tells.
    """

    def __init__(self, process_id: int, folder: Path, options: Sequence[str], *, shown_bytes: int = 0) -> None:
        self.log = folder / "calls.log"
        said = folder / "strace.log"
        command = ["strace", "-f", "-y", "-s", str(shown_bytes), "-o", str(self.log), "-p", str(process_id)]
        command += [word for option in options for word in ("-e", option)]
        with said.open("w") as messages:
            self._process = subprocess.Popen(command, stdout=messages, stderr=messages)
        attached = eventually(lambda: "attached" in said.read_text() or self._process.poll() is not None)
        assert attached and self._process.poll() is None, said.read_text()  # noqa: PT018

    @classmethod
    def recording(cls, process_id: int, folder: Path) -> Self:
        """Only look at what changes files or makes them durable."""
        return cls(process_id, folder, [_ALL, "signal=none"])

    @classmethod
    def killing(cls, process_id: int, folder: Path, name: str, number: int) -> Self:
        """Kill the process when one of its threads is about to make its n-th call of this name."""
        return cls(process_id, folder, [f"trace={name}", f"inject={name}:signal=SIGKILL:when={number}"])

    @classmethod
    def killing_later(cls, process_id: int, folder: Path, name: str, number: int, rank: int) -> Self:
        """Kill it when one more thread has made its n-th call of this name; ``rank`` 1 is the second to do so.

        strace counts for each thread, so the process is stopped each time and continued until it is that one's turn.
        """
        made = cls(process_id, folder, [f"trace={name}", f"inject={name}:signal=SIGSTOP:when={number}"])
        threading.Thread(target=made._let_pass, args=(process_id, rank), daemon=True).start()
        return made

    def _let_pass(self, process_id: int, rank: int) -> None:
        for passed in range(rank + 1):
            while self.log.read_text().count("--- SIGSTOP {") <= passed:
                if self._process.poll() is not None:
                    return
                time.sleep(0.002)
            with suppress(OSError):  # it is gone
                while Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0] not in "TtZ":
                    time.sleep(0.002)
                os.kill(process_id, signal.SIGCONT if passed < rank else signal.SIGKILL)

    @classmethod
    def failing(cls, process_id: int, folder: Path, name: str, error: str, when: str) -> Self:
        """Let calls of this name fail, not made at all: the n-th, as ``when`` says, or with a plus all from it."""
        return cls(process_id, folder, [_ALL, "signal=none", f"inject={name}:error={error}:when={when}"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def wait(self) -> None:
        """Until the process is dead, which ends the tracer too."""
        self._process.wait(timeout=DEADLINE_S)

    def detach(self) -> None:
        """Detach; the process continues by itself."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:  # it waits for a thread that it missed; the kernel detaches it then
                self._process.kill()
                self._process.wait()

    def struck(self, root: Path) -> bool:
        """Tell if a call on a file or a folder below the root was made to fail."""
        return any("(INJECTED)" in line and str(root) in line for line in self.log.read_text().splitlines())

    def struck_elsewhere(self, root: Path) -> bool:
        """Tell if a call was made to fail that does not concern the disk, such as one that wakes the event loop."""
        return any("(INJECTED)" in line and str(root) not in line for line in self.log.read_text().splitlines())

    def calls(self, root: Path) -> list[Call]:
        """List the calls on files below the root, in the order in which they began."""
        counts: Counter[tuple[str, str]] = Counter()
        found = []
        for line in self.log.read_text().splitlines():
            if match := _CALL.match(line):
                thread, name, rest = match.groups()
                counts[thread, name] += 1
                if str(root) in rest:
                    found.append(Call(name, counts[thread, name], rest))
        return found
