"""The destination of a fetched file: a plain file is replaced, a pipe or device is written to, all else is refused."""

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .._arguments import checks
from .._runtime.interruption import reraise
from .._runtime.redaction import shown_name
from ..errors import InvalidRequest

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(/|$)")
READER_WAIT_S = 5.0
"""The time, in seconds, that a pipe may lack a reader."""


class NoReader(InvalidRequest):
    """A pipe to be written to has no reader."""


def local(name: str, given: str | os.PathLike[str]) -> Path:
    """Return a path of this machine, with ``~`` expanded.

    Raises
    ------
    InvalidRequest
        It is a URL, which would become folders of this machine.
    """
    path = Path(checks.path(name, given, may_be_empty=True))
    if _URL.match(str(path)):
        raise InvalidRequest(
            f"{name} {shown_name(str(given))!a} is a URL: give a path of this machine.", code="invalid_name"
        )
    return path.expanduser()


def names_folder(given: str | os.PathLike[str]) -> bool:
    """Tell if a path can only be a folder, existing or not: it ends with a slash."""
    return os.fspath(given).endswith((os.sep, os.altsep or os.sep, f"{os.sep}."))


def stream_at(path: Path) -> BinaryIO | None:
    """Open the pipe or device at a path for writing; return None for a plain file or a free path.

    Raises
    ------
    NoReader
        It is a pipe from which nothing reads.
    InvalidRequest
        It is a link to a file or to nothing, a folder, a socket, a disk, or a terminal. It stays as it is.
    """
    try:
        found = path.stat()
    except OSError as error:  # the path is free, or unreadable, which the creation of the file will report
        reraise(error)
        found = None
    if found is not None and (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        return _opened(path, is_pipe=stat.S_ISFIFO(found.st_mode))
    if path.is_symlink():
        raise _refused(path, f"is a link to {path.readlink()}: name that path, or remove the link")
    if found is None or stat.S_ISREG(found.st_mode):
        return None
    kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a socket" if stat.S_ISSOCK(found.st_mode) else "a disk"
    raise _refused(path, f"is {kind}: name another path, or remove it")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file; at the end, what was written there replaces the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_member(path: Path) -> None:
    """Check that a file of a folder can take this path; only a plain file is replaced.

    Raises
    ------
    FileExistsError
        A folder is there.
    InvalidRequest
        It is a link, a pipe, a device or a socket.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:  # the path is free, or unreadable, which the creation of the file will report
        reraise(error)
        return
    if stat.S_ISDIR(mode):
        raise FileExistsError(f"{path} is a folder, where a file of the checkpoint belongs")
    if not stat.S_ISREG(mode):
        raise _refused(path, "is not a plain file: name another folder, or remove it")


def _opened(path: Path, *, is_pipe: bool) -> BinaryIO:
    end = time.monotonic() + READER_WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            break
        except OSError as error:
            if not is_pipe or error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= end:
                raise NoReader(
                    f"{path} is a pipe without a reader: nothing was written. Start its reader first.",
                    code="target_unsuitable",
                ) from None
        time.sleep(0.02)
    if os.isatty(descriptor):
        os.close(descriptor)
        raise _refused(path, "is a terminal, and raw bytes do not belong on it: name a file or a pipe")
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def _refused(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {why}. It is left unchanged.", code="target_unsuitable")
