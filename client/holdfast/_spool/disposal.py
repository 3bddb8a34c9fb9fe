"""Disposal of empty queue folders.

A save that another process starts meanwhile is safe: it shares the lock of the spool's folder from before it makes the
queue's folder until something of value is in there, and a removal needs that lock alone. Earlier versions do not know
this lock: a folder is therefore removed as a whole, under the lock that a save needs for its number, and a save that
finds its folder removed starts again.
"""

import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path

from .._runtime.interruption import suppress
from . import held
from .item import HALF_DONE
from .locks import lockable, lockable_folder, try_lock
from .queue import Queue

KNOWN_S = 30 * 86400.0
"""The time, in seconds, after which the notes on a directory are stale."""
_LEFT_OVER_S = 86400.0
_OWN = {"queue.json", "order", "lock"}


def tidy(queues: list[Queue], spool: Path) -> None:
    """Remove the folders of queues that hold nothing of value, and what killed processes have left."""
    for queue in queues:
        with suppress(OSError):
            held.tidy(queue.folder)
        remove(queue)
    for left_over in _left_overs(spool):
        with suppress(OSError):
            if left_over.stat().st_mtime < time.time() - _LEFT_OVER_S:
                shutil.rmtree(left_over, ignore_errors=True)


def _left_overs(spool: Path) -> list[Path]:
    with suppress(OSError):  # the folder is removed at this moment
        return list(spool.glob(f"{HALF_DONE}*"))
    return []


def remove(queue: Queue) -> bool:
    """Remove the folder of a queue if it holds nothing of value; False if it stays."""
    with suppress(OSError):
        if not _has_value(queue.folder):
            with lockable_folder(queue.folder.parent) as descriptor, queue.claimed() as is_claimed:
                return is_claimed and try_lock(descriptor) and _remove(queue.folder)
    return False


def _remove(folder: Path) -> bool:
    with lockable(folder / "order") as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _has_value(folder):
            return False
        gone = folder.rename(folder.with_name(f"{HALF_DONE}{secrets.token_hex(8)}"))
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _has_value(folder: Path) -> bool:
    """Tell if a folder holds a checkpoint, or notes that a resumed job needs."""
    with os.scandir(folder) as entries:
        return any(_is_entry_of_value(entry) for entry in entries)


def _is_entry_of_value(entry: "os.DirEntry[str]") -> bool:
    if entry.name == "parked":
        return any(Path(entry.path).iterdir())
    if entry.name == "known.json":
        return entry.stat().st_mtime > time.time() - KNOWN_S
    return entry.name not in _OWN
