"""Temporary files and folders of each thread, removed after an interruption."""

import os
import shutil
import threading
from pathlib import Path

_unfinished: dict[int, set[Path]] = {}
"""By thread, the paths that it writes under a temporary name."""


def begin(path: Path) -> Path:
    """Note that this thread writes a file or a folder under a temporary name."""
    _unfinished.setdefault(threading.get_ident(), set()).add(path)
    return path


def end() -> None:
    """Note that this thread has finished, or removed, what it began."""
    _unfinished.pop(threading.get_ident(), None)


def discard_interrupted() -> None:
    """Remove what this thread began to write when it was interrupted."""
    for path in _unfinished.pop(threading.get_ident(), set()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def own_name() -> str:
    """Return a name that no other thread of this machine has."""
    return f"{os.getpid()}-{threading.get_native_id()}"
