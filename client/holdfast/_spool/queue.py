"""What waits for one directory of a server, in the order of saving.

::

    <spool>/<queue>/                        a directory of a server
      queue.json                            which one, and the id of the server as soon as that is known
      known.json                            the last sequence that is known of it, and what was loaded from it
      000000000012-4194304-<save_id>/       a checkpoint: state.pt, item.json
      parked/000000000011-.../              one that the server refused: refusal.json says why
      order, lock                           who gives numbers; who delivers
"""

import errno
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .._api import identity
from .._runtime.interruption import reraise, suppress
from ..errors import HoldfastError
from . import item as _items
from .item import Kept, Readable
from .locks import is_locked, lockable

_NAME = re.compile(r"(\d{12})-(\d+)-([0-9a-f]{32})")
_ABANDONED_S = 86400.0
T = TypeVar("T")
_PUTS = 20
"""The number of times that a save is put whose folder another process removes meanwhile."""


class Room(Protocol):
    """Where queues lie together, and how much they may take."""

    folder: Path

    def queues(self, server: str | None = None) -> "list[Queue]":
        """The queues in which something waits or is parked, of one server or of all."""

    def of_directory(self, directory: str) -> "list[Queue]":
        """The queues for a directory of any server in which something waits or is parked."""

    def make_room(self, size_bytes: int, queue: "Queue") -> None:
        """See to it that so many bytes may be put. `OutOfSpace` where they may not."""

    def drop(self, size_bytes: int, queue: "Queue") -> bool:
        """Drop so many bytes of what will be missed least, if there are so many."""


def note_of(kind: str) -> str:
    """Where in ``known.json`` it stands which checkpoint of a kind was loaded last."""
    return "loaded" if kind == "regular" else f"loaded_{kind}"


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """A checkpoint that waits. The order is that of saving."""

    order: int
    size_bytes: int
    save_id: str
    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Item | None":
        found = _NAME.fullmatch(folder.name)
        return cls(int(found[1]), int(found[2]), found[3], folder) if found else None

    def facts(self) -> dict[str, Any]:
        """What is said of it; see `_items.read_facts`."""
        return _items.read_facts(self.folder)

    @property
    def name(self) -> str | None:
        """What it will be called; None where that cannot be read."""
        with suppress(HoldfastError, OSError):
            return str(self.facts()["save"]["name"])
        return None


class Queue:
    """What waits for one directory of a server. Any number of processes may put, one of them delivers."""

    def __init__(self, spool: Room, folder: Path, server: str, directory: str) -> None:
        self.spool = spool
        self._recorded_id: str | None = None
        self.folder = folder
        self.server = server
        self.directory = directory
        self._known = 0
        self._is_made = self._is_counted = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # what is known of the server, and of its directory

    @property
    def server_id(self) -> str | None:
        """The id that its server has given to this process, else to an earlier one; None where it has given none."""
        return identity.of(self.server) or self._recorded_id or self._read_id()

    def _read_id(self) -> str | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads((self.folder / "queue.json").read_text())["server_id"]
            self._recorded_id = found if identity.is_id(found) else None
        return self._recorded_id

    def record_server_id(self) -> None:
        """Record the id of its server, if that has given one and the queue is there."""
        found = identity.of(self.server)
        if found is not None and found != self._recorded_id and self.folder.is_dir():
            with suppress(OSError):  # then it is recorded later
                self._say_which()
                self._recorded_id = found

    @property
    def known(self) -> int:
        """The last sequence that anybody on this machine knew when the server last spoke; 0 where nobody knew any."""
        self._known = max(self._known, int(self.recalled().get("sequence", 0)))
        return self._known

    def recalled(self) -> dict[str, Any]:
        """The content of ``known.json``."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / "known.json").read_text())
            if isinstance(found, dict) and isinstance(found.get("sequence", 0), int):
                return found
        return {}

    def learn(self, sequence: int, loaded: Mapping[str, Any] | None = None) -> None:
        """A checkpoint of this sequence is there; it may have been loaded, too."""
        self.record_server_id()
        if sequence <= self.known and loaded is None:
            return
        self._known = max(sequence, self.known)
        with suppress(OSError):  # it is a convenience: without it, a late delivery counts as older than it is
            self.prepare()
            content = {
                **self.recalled(),
                "sequence": self._known,
                **({note_of(str(loaded["kind"])): dict(loaded)} if loaded else {}),
            }
            temporary = _begun(self.folder / f".known-{_own_name()}")
            temporary.write_text(json.dumps(content))
            temporary.replace(self.folder / "known.json")

    def absorb(self, other: "Queue") -> None:
        """Take over what a queue for the same directory of the same server knows of it."""
        self.learn(other.known)
        mine = self.recalled()
        for key, note in other.recalled().items():
            with suppress(TypeError, KeyError):  # it is damaged
                if key == note_of(str(note["kind"])) and note["sequence"] > mine.get(key, {"sequence": 0})["sequence"]:
                    self.learn(note["sequence"], note)

    # putting

    def put(self, save: Mapping[str, Any], source: Readable) -> Item:
        """Keep a checkpoint; durable when this returns.

        Its place in the order is the ``saved_after`` of the save, else what is known of the directory by now.

        Raises
        ------
        OSError
            It cannot be kept; nothing of it is.
        """
        discard_interrupted()
        self._repeat(lambda: self.spool.make_room(source.size_bytes, self))
        try:
            return self._repeat(lambda: self._put(save, source))
        except OSError as error:  # a quota says nothing before it is exceeded
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            if not (is_full and self.spool.drop(source.size_bytes, self)):
                raise
        return self._repeat(lambda: self._put(save, source))

    def _repeat(self, step: Callable[[], T]) -> T:
        """Do a step of a put; again if another process has removed the folder meanwhile, as nothing lay in it."""
        for _ in range(_PUTS - 1):
            try:
                self.prepare()
                return step()
            except FileNotFoundError as error:
                reraise(error)
                self._is_made = self._is_counted = False
        self.prepare()
        return step()

    def _put(self, save: Mapping[str, Any], source: Readable) -> Item:
        folder = self.folder / f"{_items.HALF_DONE}{save['save_id']}"
        _items.discard(folder)
        _begun(folder)
        about = {"server": self.server, "saved_at": datetime.now(UTC).isoformat()}
        try:
            _items.write(folder, {"saved_after": self.known, **save}, source, about)
            with self._numbered() as number:
                folder = folder.rename(self.folder / f"{number:012d}-{source.size_bytes}-{save['save_id']}")
                _items.sync(self.folder)
        except BaseException:
            _items.discard(folder)
            raise
        finally:
            _unfinished.pop(threading.get_ident(), None)
        return Item(number, source.size_bytes, save["save_id"], folder)

    def prepare(self) -> None:
        """Make the folders, durable under their names. `OSError` where that cannot be done.

        They are made again if another process removes them meanwhile, as nothing lay in them.
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
            _items.sync(path.parent)
        self._say_which()
        for place in (self.folder, self.folder / "parked"):
            for half_done in place.glob(f"{_items.HALF_DONE}*"):
                with suppress(FileNotFoundError):  # it is ready by now
                    if half_done.stat().st_mtime < time.time() - _ABANDONED_S:
                        _items.discard(half_done)
        self._is_made = True

    def _say_which(self) -> None:
        """Write whose queue it is, where that cannot be read: nobody would find what waits."""
        about, content = self.folder / "queue.json", {"server": self.server, "directory": self.directory}
        if (server_id := identity.of(self.server)) is not None:
            content["server_id"] = server_id
        with suppress(OSError, ValueError):
            said = json.loads(about.read_text())
            if isinstance(said, dict) and content.items() <= said.items():
                return
        temporary = _begun(self.folder / f".queue-{_own_name()}")
        _items.write_json(temporary, {"version": 1, **content})
        temporary.replace(about)
        _items.sync(self.folder)

    @contextmanager
    def _numbered(self) -> Iterator[int]:
        """The number of the next item; nobody else is given one until it has its name."""
        with lockable(self.folder / "order") as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            said = os.pread(descriptor, 20, 0).strip()
            last = int(said) if said.isdigit() else 0
            if not (last and self._is_counted):  # it is not durable: after a power cut it may be behind, or lost
                last = max([last, *(item.order for item in [*self.items(), *self.parked()])])
                self._is_counted = True
            number = str(last + 1).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, number, 0)
            yield last + 1

    # looking

    def has_items(self) -> bool:
        """Whether anything waits."""
        with suppress(OSError), os.scandir(self.folder) as entries:
            return any(_NAME.fullmatch(entry.name) and entry.is_dir() for entry in entries)
        return False

    def items(self) -> list[Item]:
        """What waits, in the order of saving."""
        return _items_in(self.folder)

    def names(self) -> list[str]:
        """What it is called that waits."""
        return [name for item in self.items() if (name := item.name) is not None]

    def parked(self) -> list[Item]:
        """What the server has refused."""
        return _items_in(self.folder / "parked")

    # delivering

    @contextmanager
    def claimed(self, wait_s: float = 0.0) -> Iterator[bool]:
        """Deliver alone: False where another process or thread does, also after so many seconds."""
        end = time.monotonic() + wait_s
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(lockable(self.folder / "lock"))
            except OSError as error:  # nothing has ever waited here, or it cannot be seen
                reraise(error)
                yield False
                return
            while not (mine := is_locked(descriptor)) and time.monotonic() < end:
                time.sleep(0.02)
            yield mine

    def open(self, item: Item) -> tuple[dict[str, Any], Kept]:
        """What to send of an item, and its file."""
        facts = item.facts()
        return facts["save"], Kept(item.folder, facts)

    def park(self, item: Item, error: Exception) -> Path:
        """Put aside what the server refuses, and why it does; where it lies now."""
        place = self.folder / "parked"
        place.mkdir(mode=0o700, exist_ok=True)
        target = place / item.folder.name
        with suppress(FileNotFoundError):
            item.folder.rename(target)
            why = {"code": getattr(error, "code", "error"), "detail": str(error)}
            with suppress(OSError):  # where there is no room for it, it is in the log
                _items.write_json(target / "refusal.json", {**why, "refused_at": datetime.now(UTC).isoformat()})
            _items.sync(place)
            _items.sync(self.folder)
        return target

    def refusal(self, item: Item) -> str:
        """Why a parked checkpoint was refused."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((item.folder / "refusal.json").read_text())["detail"])
        return "nobody knows why"

    def unpark(self) -> None:
        """Let what was refused wait again, where it stood in the order."""
        for item in self.parked():
            (item.folder / "refusal.json").unlink(missing_ok=True)
            item.folder.rename(self.folder / item.folder.name)

    def clear(self) -> None:
        """Give up what waits and what is parked."""
        for item in [*self.items(), *self.parked()]:
            _items.discard(item.folder)


_unfinished: dict[int, set[Path]] = {}
"""By thread, what it writes under a temporary name."""


def _begun(path: Path) -> Path:
    _unfinished.setdefault(threading.get_ident(), set()).add(path)
    return path


def discard_interrupted() -> None:
    """Remove what this thread began to write and was interrupted at."""
    for path in _unfinished.pop(threading.get_ident(), set()):
        if path.is_dir():
            _items.discard(path)
        else:
            path.unlink(missing_ok=True)


def _own_name() -> str:
    """What no other thread of this machine is called."""
    return f"{os.getpid()}-{threading.get_native_id()}"


def _items_in(folder: Path) -> list[Item]:
    with suppress(OSError):
        return sorted(item for path in folder.iterdir() if (item := Item.at(path)) is not None and path.is_dir())
    return []
