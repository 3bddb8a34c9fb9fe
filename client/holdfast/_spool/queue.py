"""Queues: the checkpoints that wait for one directory of a server, in the order of saving.

::

    <spool>/<queue>/                        a directory of a server
      queue.json                            see `description`
      known.json                            see `notes`
      000000000012-4194304-<save_id>/       a checkpoint: state.pt, or files/; item.json
      parked/000000000011-.../              one that the server refused, with the reason in refusal.json
      order, lock                           locks for numbering and for delivering
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .._runtime.interruption import reraise, suppress
from .._transfer import fsync
from . import folder_item, held, temporary_files
from . import item as _items
from .description import Description
from .folder_item import Content, SpooledFiles
from .item import SpooledCheckpoint, SpooledFile
from .locks import lockable, lockable_folder, try_lock
from .notes import Notes

T = TypeVar("T")
_PUTS = 20
"""The attempts to put a save while another process removes the folder of its queue."""


class SpoolSpace(Protocol):
    """The folder that holds all queues, within a limit."""

    folder: Path

    def queues(self, server: str | None = None) -> "list[Queue]":
        """Return the queues in which something waits or is parked, of one server or of all."""

    def of_directory(self, directory: str) -> "list[Queue]":
        """Return the queues for a directory, of any server, in which something waits or is parked."""

    def make_room(self, size_bytes: int, queue: "Queue") -> None:
        """Make room for so many bytes, or raise `OutOfSpace`."""

    def drop(self, size_bytes: int, queue: "Queue") -> bool:
        """Drop at least so many bytes of the least needed checkpoints; False if there are fewer."""


class Queue:
    """The checkpoints that wait for one directory of a server. Any number of processes may put, one delivers."""

    def __init__(self, spool: SpoolSpace, folder: Path, server: str, directory: str) -> None:
        self.spool = spool
        self.folder = folder
        self.server = server
        self.directory = directory
        self._description = Description(folder, server, directory)
        self._notes = Notes(folder, self._kept)
        self._is_made = self._is_counted = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # what is known of the server, and of its directory

    @property
    def server_id(self) -> str | None:
        """The id that its server has given to this process, or to an earlier one; None if it has given none."""
        return self._description.server_id

    def record_server_id(self) -> None:
        """Record the id of its server, if that has given one and the folder exists."""
        self._description.record_server_id()

    @property
    def known(self) -> int:
        """The last sequence that a process of this machine knew when the server last answered; 0 if none did."""
        return self._notes.sequence

    def notes(self) -> dict[str, Any]:
        """Return what this machine has noted of the directory."""
        return self._notes.read()

    @property
    def delivered_after(self) -> int:
        """The last place in the order that a checkpoint got which was delivered from here; 0 if none did."""
        return self._notes.delivered_after

    def learn(self, sequence: int, loaded: Mapping[str, Any] | None = None, delivered_after: int = 0) -> None:
        """Note that a checkpoint of this sequence exists.

        Parameters
        ----------
        loaded : mapping, optional
            The note on it, if it was loaded.
        delivered_after : int
            Its place in the order, if it was delivered from here.
        """
        self.record_server_id()
        self._notes.learn(sequence, loaded, delivered_after)

    def absorb(self, other: "Queue") -> None:
        """Take over what a queue for the same directory of the same server knows of it."""
        self.record_server_id()
        self._notes.absorb(other._notes)

    # putting

    def put(self, save: Mapping[str, Any], source: Content) -> SpooledCheckpoint:
        """Add a checkpoint; durable when this returns.

        Its place in the order is the ``saved_after`` of the save, by default the last sequence that is known.

        Raises
        ------
        OSError
            It cannot be written; nothing of it is left.
        """
        temporary_files.discard_interrupted()
        self._repeat(lambda: self.spool.make_room(source.size_bytes, self))
        try:
            return self._repeat(lambda: self._put(save, source))
        except OSError as error:  # a quota is not visible before it is exceeded
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            if not (is_full and self.spool.drop(source.size_bytes, self)):
                raise
        return self._repeat(lambda: self._put(save, source))

    def _repeat(self, step: Callable[[], T]) -> T:
        """Do a step of a put; again if another process has removed the folder meanwhile, as it was empty."""
        for _ in range(_PUTS - 1):
            try:
                self.prepare()
                return step()
            except FileNotFoundError as error:
                reraise(error)
                self._is_made = self._is_counted = False
        self.prepare()
        return step()

    def _put(self, save: Mapping[str, Any], source: Content) -> SpooledCheckpoint:
        folder = self.folder / f"{_items.HALF_DONE}{save['save_id']}"
        _items.discard(folder)
        temporary_files.begin(folder)
        about = {"server": self.server, "saved_at": datetime.now(UTC).isoformat()}
        try:
            with self._kept():
                folder.mkdir(mode=0o700)  # from now on, the folder of the queue holds something of value
            folder_item.write(folder, {"saved_after": self.known, **save}, source, about)
            with self._numbered() as number:
                folder = folder.rename(self.folder / f"{number:012d}-{source.size_bytes}-{save['save_id']}")
                fsync.sync(self.folder)
        except BaseException:
            _items.discard(folder)
            raise
        finally:
            temporary_files.end()
        return SpooledCheckpoint(number, source.size_bytes, save["save_id"], folder)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Make the folders; no other process removes them as empty ones during the block.

        Raises
        ------
        OSError
            They cannot be made.
        """
        self.prepare()
        with ExitStack() as stack:
            with suppress(OSError):  # not every file system has locks; a save that fails for that starts again
                fcntl.flock(stack.enter_context(lockable_folder(self.folder.parent)), fcntl.LOCK_SH)
            self.prepare()
            yield

    def prepare(self) -> None:
        """Make the folders, durable under their names; again if another process removes them meanwhile.

        Raises
        ------
        OSError
            They cannot be made.
        """
        for _ in range(_PUTS - 1):
            with suppress(FileNotFoundError):
                return self._prepare()
        return self._prepare()

    def _prepare(self) -> None:
        if self._is_made and self.folder.is_dir():
            return
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            fsync.sync(path.parent)
        self._description.write()
        for place in (self.folder, self.folder / "parked"):
            held.tidy(place)
        self._is_made = True

    @contextmanager
    def _numbered(self) -> Iterator[int]:
        """Yield the number of the next item, under a lock: no other process numbers until this one has its name."""
        with lockable(self.folder / "order") as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            said = os.pread(descriptor, 20, 0).strip()
            last = int(said) if said.isdigit() else 0
            if not (last and self._is_counted):  # it is not durable: after a power cut it may be stale, or lost
                last = max([last, *(item.order for item in [*self.items(), *self.parked()])])
                self._is_counted = True
            number = str(last + 1).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, number, 0)
            yield last + 1

    # looking

    def has_items(self) -> bool:
        """Tell if anything waits."""
        with suppress(OSError), os.scandir(self.folder) as entries:
            return any(SpooledCheckpoint.at(Path(entry)) is not None and entry.is_dir() for entry in entries)
        return False

    def items(self) -> list[SpooledCheckpoint]:
        """Return what waits, in the order of saving."""
        return SpooledCheckpoint.all_in(self.folder)

    def names(self) -> list[str]:
        """Return the names of the checkpoints that wait."""
        return [name for item in self.items() if (name := item.name) is not None]

    def parked(self) -> list[SpooledCheckpoint]:
        """Return what the server has refused."""
        return SpooledCheckpoint.all_in(self.folder / "parked")

    # delivering

    @contextmanager
    def claimed(self, wait_s: float = 0.0) -> Iterator[bool]:
        """Claim the delivery. Yields False if another process or thread still has it after so many seconds."""
        end = time.monotonic() + wait_s
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(lockable(self.folder / "lock"))
            except OSError as error:  # nothing has ever waited here, or it is not readable
                reraise(error)
                yield False
                return
            while not (is_claimed := try_lock(descriptor)) and time.monotonic() < end:
                time.sleep(0.02)
            yield is_claimed

    def open(self, item: SpooledCheckpoint) -> tuple[dict[str, Any], SpooledFile | SpooledFiles]:
        """Return the facts of an item, and its file, open, or its files."""
        facts = item.facts()
        return facts["save"], folder_item.opened(item.folder, facts)

    def park(self, item: SpooledCheckpoint, error: Exception) -> Path:
        """Move what the server refuses to the parked ones, with the reason; returns its new folder."""
        place = self.folder / "parked"
        place.mkdir(mode=0o700, exist_ok=True)
        target = place / item.folder.name
        with suppress(FileNotFoundError):
            item.folder.rename(target)
            why = {"code": getattr(error, "code", "error"), "detail": str(error)}
            with suppress(OSError):  # if there is no room for it, it is in the log
                _items.write_json(target / "refusal.json", {**why, "refused_at": datetime.now(UTC).isoformat()})
            fsync.sync(place)
            fsync.sync(self.folder)
        return target

    def refusal(self, item: SpooledCheckpoint) -> str:
        """Return the reason for which a parked checkpoint was refused."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((item.folder / "refusal.json").read_text())["detail"])
        return "for a reason that is not known"

    def unpark(self) -> None:
        """Let what was refused wait again, at its place in the order."""
        for item in self.parked():
            (item.folder / "refusal.json").unlink(missing_ok=True)
            item.folder.rename(self.folder / item.folder.name)

    def clear(self) -> None:
        """Discard what waits and what is parked."""
        for item in [*self.items(), *self.parked()]:
            _items.discard(item.folder)
