"""A command on a terminal, as its user sees it."""

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from select import select

from tests.support.live import PROJECT

HOLDFAST = (sys.executable, "-m", "holdfast.cli")


def heed_ctrl_c() -> None:
    """Be ended by Ctrl-C, which processes ignore that were started in the background of a shell, and their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A process whose standard input, output and error are a terminal; it ends with the block."""

    def __init__(self, command: Sequence[str], *, columns: int = 100, **environment: str) -> None:
        self._shown = b""
        self._process, self._screen = pty.fork()
        if self._process == 0:
            _become(command, environment)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        os.close(self._screen)

    def type(self, text: str) -> None:
        """Type something; ``\\x03`` is Ctrl-C."""
        os.write(self._screen, text.encode())

    def until(self, text: str, seconds: float = 30) -> str:
        """Return the screen once that text is on it."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            assert self._read(end - time.monotonic()), self.shown
        return self.shown

    def wait(self, seconds: float = 60) -> int:
        """The status with which the process ends; all that it shows is read."""
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])

    @property
    def shown(self) -> str:
        """All that was shown, with what makes colours."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def _read(self, seconds: float) -> bool:
        """Read what comes; False where nothing comes any more."""
        assert select([self._screen], [], [], max(0.0, seconds))[0], f"it does not go on:\n{self.shown}"
        try:
            found = os.read(self._screen, 65536)
        except OSError:  # the other side is closed
            return False
        self._shown += found
        return bool(found)


def _become(command: Sequence[str], environment: Mapping[str, str]) -> None:
    try:
        heed_ctrl_c()
        os.chdir(PROJECT)
        os.execvpe(command[0], list(command), {**os.environ, "TERM": "xterm-256color", **environment})
    finally:
        os._exit(127)
