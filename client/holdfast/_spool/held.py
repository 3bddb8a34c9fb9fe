"""Held folders: the files of a background save under names of their own, so that the job may delete its own.

A held folder is locked while its process lives. The next process that looks removes what a killed one has left.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from .._runtime.interruption import reraise, suppress
from .._runtime.parallel import in_parallel
from .._transfer.folders import walk
from .._transfer.folders.local_files import LocalFiles
from ..errors import HoldfastError
from . import item as _items
from .locks import lockable_folder, try_lock

HELD = f"{_items.HALF_DONE}held-"
"""The beginning of the names of held folders."""
_HELD_NAME = re.compile(rf"{re.escape(HELD)}[0-9a-f]{{16}}")
_STALE_S = 86400.0
_ATTEMPTS, _THREADS = 3, 4


class Held:
    """Files, under names that only this process knows. Close it when they are no longer read."""

    def __init__(self, files: LocalFiles, stack: ExitStack) -> None:
        self.files = files
        self._stack = stack

    def close(self) -> None:
        """Remove those names."""
        self._stack.close()


def hold(files: LocalFiles, places: Iterable[Path]) -> Held:
    """Hold a file, or the files of a folder: by links, which take no space; by copies where no place allows links.

    Parameters
    ----------
    files : LocalFiles
        The files.
    places : iterable of Path
        The folders in which a hidden folder may be made, the preferred one first.

    Raises
    ------
    IntegrityError
        A file or the folder was changed meanwhile.
    OSError
        No place can be written.
    """
    places = list(places)
    failure: OSError | None = None
    for put in (_link, _copy):
        for place in places:
            try:
                return _held_in(place, files, put)
            except OSError as error:
                if isinstance(error, HoldfastError):
                    raise
                reraise(error)
                files.refuse_changed()  # a file that is gone is the user's mistake, not the place's
                failure = error
    raise failure if failure is not None else FileNotFoundError("there is no place to hold the files")


def tidy(queue: Path) -> None:
    """Remove from the folder of a queue what killed processes have left: held folders, and half-written items.

    An item is half-written for good if it is a day old.
    """
    tidy_held(queue)
    for left_over in queue.glob(f"{_items.HALF_DONE}*"):
        with suppress(FileNotFoundError):  # it is complete by now
            if not left_over.name.startswith(HELD) and left_over.stat().st_mtime < time.time() - _STALE_S:
                _items.discard(left_over)


def tidy_held(place: Path) -> None:
    """Remove from any folder, also one of the user's, what killed processes have held there."""
    for left_over in place.glob(f"{HELD}*"):
        with suppress(FileNotFoundError):
            if _HELD_NAME.fullmatch(left_over.name) and _is_abandoned(left_over):
                _items.discard(left_over)


def _is_abandoned(held: Path) -> bool:
    try:
        with lockable_folder(held) as descriptor:
            return try_lock(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:  # NFS does not lock folders
        reraise(error)
        return held.stat().st_mtime < time.time() - _STALE_S


def _held_in(place: Path, files: LocalFiles, put: Callable[[walk.Entry, Path], object]) -> Held:
    """Hold files in a place; `OSError` if it allows no links, or cannot be written."""
    tidy_held(place)
    with ExitStack() as stack:
        held = made_in(place, stack)
        for path in files.entries.folders:
            (held / path).mkdir(mode=0o700, exist_ok=True)
        in_parallel(files.entries.files.items(), lambda each: put(each[1], held / each[0]), threads=_THREADS)
        files.refuse_changed()
        moved = files.moved_to(held)
        if put is _copy:
            moved.stamp()
        moved.refuse_changed()
        return Held(moved, stack.pop_all())


def made_in(place: Path, stack: ExitStack) -> Path:
    """Make a folder that is locked until the stack is closed, which removes it; `OSError` if it cannot be made."""
    for _ in range(_ATTEMPTS):
        held = place / f"{HELD}{secrets.token_hex(8)}"
        held.mkdir(mode=0o700)
        stack.callback(_items.discard, held)
        with suppress(FileNotFoundError):  # another process found it before it was locked, and removed it
            descriptor = stack.enter_context(lockable_folder(held))
            with suppress(OSError):  # NFS does not lock folders
                try_lock(descriptor)
            if held.is_dir():
                return held
    raise FileNotFoundError(f"{place} loses what is made in it")


def _link(entry: walk.Entry, to: Path) -> None:
    os.link(os.path.realpath(entry.path) if entry.is_link else entry.path, to)


def _copy(entry: walk.Entry, to: Path) -> None:
    shutil.copyfile(entry.path, to)
    os.utime(to, ns=(entry.like.st_atime_ns, entry.like.st_mtime_ns))
