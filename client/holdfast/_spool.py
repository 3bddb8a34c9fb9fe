"""Where checkpoints wait for a server that is away: in order, within bounds, one queue for each of its directories.

::

    <spool>/<queue>/                        a directory of a server
      queue.json                            which one
      known.json                            the last sequence that is known of it, and what was loaded from it
      000000000012-4194304-<save_id>/       a checkpoint: state.pt, item.json
      parked/000000000011-.../              one that the server refused: refusal.json says why
      order, lock                           who gives numbers; who delivers
"""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from . import _items
from ._items import Kept, Readable
from .errors import HoldfastError, OutOfSpace

MAX_BYTES = 100 * 2**30
MAX_SHARE = 0.5
_NAME = re.compile(r"(\d{12})-(\d+)-([0-9a-f]{32})")
_ABANDONED_S = 86400.0
_SURVEY_S = 60.0

log = logging.getLogger("holdfast")


def default_folder() -> Path:
    """``HOLDFAST_SPOOL``, else a folder below ``XDG_STATE_HOME``, which outlives the process."""
    if given := os.environ.get("HOLDFAST_SPOOL"):
        return Path(given).expanduser()
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # nobody knows whose home it is; a folder that cannot be made says so when it is needed
        state = Path(os.devnull)
    return state / "holdfast" / "spool"


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


class Spool:
    """A folder of queues.

    Parameters
    ----------
    folder : Path
        Where it is; made when something is put there.
    max_bytes : int
        How many bytes may wait, in all queues.
    max_share : float
        How much of its disk may be taken by what waits, from 0 to 1.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, max_share: float = MAX_SHARE) -> None:
        self.folder = folder.absolute()
        self.max_bytes = max_bytes
        self.max_share = max_share
        self._used_bytes, self._surveyed_at = 0, -_SURVEY_S

    def queue(self, server: str, directory: str) -> "Queue":
        """The queue of a server's directory, whether anything waits there or not."""
        digest = blake3(f"{server}\0{directory}".encode()).hexdigest()[:12]
        slug = re.sub(r"[^A-Za-z0-9._-]+", "_", directory).strip(".")[-60:]
        return Queue(self, self.folder / f"{slug}-{digest}", server, directory)

    def queues(self, server: str | None = None) -> list["Queue"]:
        """The queues in which something waits or is parked, of one server or of all."""
        found = []
        with suppress(OSError):
            for folder in sorted(self.folder.iterdir()):
                with suppress(OSError, ValueError, KeyError, TypeError):
                    about = json.loads((folder / "queue.json").read_text())
                    if server in {None, about["server"]}:
                        found.append(Queue(self, folder, about["server"], about["directory"]))
        return [queue for queue in found if queue.has_items() or queue.parked()]

    def make_room(self, size_bytes: int, queue: "Queue") -> None:
        """See to it that so many bytes may be put into a queue, by dropping the oldest that nobody will miss most.

        Raises
        ------
        OutOfSpace
            There is no room, and nothing that may go.
        """
        over = self._excess(size_bytes)
        if over > 0:
            self.drop(over, queue)
            over = self._excess(size_bytes)
        if over > 0:
            raise OutOfSpace(
                f"{size_bytes:,} bytes do not fit into {self.folder}, which may take {self._limit():,} bytes and holds "
                f"{self._used_bytes:,}, none of which may go"
            )
        self._used_bytes += size_bytes

    def drop(self, size_bytes: int, queue: "Queue") -> bool:
        """Drop the oldest that nobody will miss most, for what is put into a queue; False where it is too little."""
        droppable = [item for each in self.queues() for item in each.droppable(each == queue)]
        if sum(item.size_bytes for item in droppable) < size_bytes:
            return False
        for item in sorted(droppable, key=_age):
            if size_bytes <= 0:
                break
            log.warning(
                "the spool is full: %s was dropped from %s before it could be delivered", item.name, item.folder
            )
            _items.discard(item.folder)
            size_bytes -= item.size_bytes
        self._surveyed_at = -_SURVEY_S
        return True

    def _excess(self, size_bytes: int) -> int:
        """By how many bytes too much so many more would be."""
        free = shutil.disk_usage(self.folder).free
        if time.monotonic() - self._surveyed_at > _SURVEY_S or self._used_bytes + size_bytes > self._limit():
            waiting = [item.size_bytes for queue in self.queues() for item in [*queue.items(), *queue.parked()]]
            half_done = [_size(path) for path in self.folder.glob(f"*/{_items.HALF_DONE}*/*")]
            self._used_bytes, self._surveyed_at = sum(waiting) + sum(half_done), time.monotonic()
        return max(self._used_bytes + size_bytes - self._limit(), size_bytes - free)

    def _limit(self) -> int:
        return min(self.max_bytes, int(self.max_share * shutil.disk_usage(self.folder).total))


class Queue:
    """What waits for one directory of a server. Any number of processes may put, one of them delivers."""

    def __init__(self, spool: Spool, folder: Path, server: str, directory: str) -> None:
        self.spool = spool
        self.folder = folder
        self.server = server
        self.directory = directory
        self._known = 0
        self._is_made = self._is_counted = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # what is known of the server's directory

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
        if sequence <= self.known and loaded is None:
            return
        self._known = max(sequence, self.known)
        with suppress(OSError):  # it is a convenience: without it, a late delivery counts as older than it is
            self._make()
            content = {**self.recalled(), "sequence": self._known, **({"loaded": dict(loaded)} if loaded else {})}
            temporary = self.folder / f".known-{_own_name()}"
            temporary.write_text(json.dumps(content))
            temporary.replace(self.folder / "known.json")

    # putting

    def put(self, save: Mapping[str, Any], source: Readable) -> Item:
        """Keep a checkpoint; durable when this returns.

        Raises
        ------
        OSError
            It cannot be kept; nothing of it is.
        """
        self._make()
        self.spool.make_room(source.size_bytes, self)
        try:
            return self._put(save, source)
        except OSError as error:  # a quota says nothing before it is exceeded
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            if not (is_full and self.spool.drop(source.size_bytes, self)):
                raise
        return self._put(save, source)

    def _put(self, save: Mapping[str, Any], source: Readable) -> Item:
        folder = self.folder / f"{_items.HALF_DONE}{save['save_id']}"
        _items.discard(folder)
        about = {"server": self.server, "saved_at": datetime.now(UTC).isoformat()}
        try:
            _items.write(folder, {**save, "saved_after": self.known}, source, about)
            with self._numbered() as number:
                folder = folder.rename(self.folder / f"{number:012d}-{source.size_bytes}-{save['save_id']}")
                _items.sync(self.folder)
        except BaseException:
            _items.discard(folder)
            raise
        return Item(number, source.size_bytes, save["save_id"], folder)

    def prepare(self) -> None:
        """See to it that something can be put. `OSError` where it cannot."""
        self._make()

    def _make(self) -> None:
        """Make the folders, durable under their names."""
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
        with suppress(OSError, ValueError):
            said = json.loads(about.read_text())
            if isinstance(said, dict) and content.items() <= said.items():
                return
        temporary = self.folder / f".queue-{_own_name()}"
        _items.write_json(temporary, {"version": 1, **content})
        temporary.replace(about)
        _items.sync(self.folder)

    @contextmanager
    def _numbered(self) -> Iterator[int]:
        """The number of the next item; nobody else is given one until it has its name."""
        with _lockable(self.folder / "order") as descriptor:
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

    def droppable(self, has_newer: bool) -> list[Item]:
        """What may go when space is short: neither the newest, nor flagged, pinned, or among the best.

        Parameters
        ----------
        has_newer : bool
            Whether one that is newer than all of them is about to be put.
        """
        waiting = self.items() if has_newer else self.items()[:-1]
        saves = {}
        for item in waiting:
            with suppress(HoldfastError, OSError):
                saves[item] = item.facts()["save"]
        ranked = [(metric, item) for item, save in saves.items() if (metric := _ranked_by(save)) is not None]
        count = max((_best_count(save) for save in saves.values()), default=0)
        best = {item for _, item in sorted(ranked)[:count]}
        return [
            item
            for item, save in saves.items()
            if item not in best and save["kind"] == "regular" and not save.get("is_best") and not save.get("pinned")
        ]

    # delivering

    @contextmanager
    def claimed(self, wait_s: float = 0.0) -> Iterator[bool]:
        """Deliver alone: False where another process or thread does, also after so many seconds."""
        end = time.monotonic() + wait_s
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(_lockable(self.folder / "lock"))
            except OSError:  # nothing has ever waited here, or it cannot be seen
                yield False
                return
            while not (mine := _locked(descriptor)) and time.monotonic() < end:
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


_lockables: set[int] = set()


@contextmanager
def _lockable(path: Path) -> Iterator[int]:
    """A descriptor to lock. The lock ends with it, and is not kept by a child that was forked in the meantime."""
    owner = os.getpid()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _lockables.add(descriptor)
    try:
        yield descriptor
    finally:
        if owner == os.getpid():
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            _lockables.discard(descriptor)
            os.close(descriptor)


def _leave_locks_to_parent() -> None:
    for descriptor in _lockables:
        os.close(descriptor)
    _lockables.clear()


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def _locked(descriptor: int) -> bool:
    """Whether a lock could be had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _own_name() -> str:
    """What no other thread of this machine is called."""
    return f"{os.getpid()}-{threading.get_native_id()}"


def _items_in(folder: Path) -> list[Item]:
    with suppress(OSError):
        return sorted(item for path in folder.iterdir() if (item := Item.at(path)) is not None and path.is_dir())
    return []


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _age(item: Item) -> float:
    with suppress(OSError):
        return item.folder.stat().st_mtime
    return 0.0


def _ranked_by(save: Mapping[str, Any]) -> float | None:
    """By what a save is ranked, smaller first; None where it is not."""
    metric = save.get("metric")
    if not isinstance(metric, int | float):
        return None
    return -metric if save.get("policy", {}).get("mode") == "max" else metric


def _best_count(save: Mapping[str, Any]) -> int:
    policy = save.get("policy", {})
    count = policy.get("max_best_checkpoints", 1)
    return 2**62 if count is None else int(count)
