"""Disposal of queue folders in which nothing lies any more.

A save that another process begins meanwhile is safe: a folder goes as a whole, under the lock that a save needs to get
its place, and a save that finds its folder gone begins anew.
"""

import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path

from .._runtime.interruption import suppress
from .item import HALF_DONE
from .locks import lockable
from .queue import Queue

KNOWN_S = 30 * 86400.0
"""The time, in seconds, for which it is kept what is known of a directory, counted from when that was learnt."""
_LEFT_OVER_S = 86400.0
_OWN = {"queue.json", "order", "lock"}


def tidy(queues: list[Queue], spool: Path) -> None:
    """Remove the folders of queues in which nothing of worth lies, and what was left of an earlier removal."""
    for queue in queues:
        remove(queue)
    for left_over in spool.glob(f"{HALF_DONE}*"):
        with suppress(OSError):
            if left_over.stat().st_mtime < time.time() - _LEFT_OVER_S:
                shutil.rmtree(left_over, ignore_errors=True)


def remove(queue: Queue) -> bool:
    """Remove the folder of a queue if nothing of worth lies in it; whether it did."""
    with suppress(OSError):
        if not _is_of_worth(queue.folder):
            with queue.claimed() as mine:
                return mine and _remove(queue.folder)
    return False


def _remove(folder: Path) -> bool:
    with lockable(folder / "order") as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_of_worth(folder):
            return False
        gone = folder.rename(folder.with_name(f"{HALF_DONE}{secrets.token_hex(8)}"))
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _is_of_worth(folder: Path) -> bool:
    """Tell if a folder holds a checkpoint, or what a job that goes on has to know of its directory."""
    with os.scandir(folder) as entries:
        return any(_is_entry_of_worth(entry) for entry in entries)


def _is_entry_of_worth(entry: "os.DirEntry[str]") -> bool:
    if entry.name == "parked":
        return any(Path(entry.path).iterdir())
    if entry.name == "known.json":
        return entry.stat().st_mtime > time.time() - KNOWN_S
    return entry.name not in _OWN
