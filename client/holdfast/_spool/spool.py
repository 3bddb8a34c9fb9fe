"""The spool: a folder of queues, one for each directory of a server, within a limit of space."""

import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from .._api import identity
from .._runtime.interruption import reraise, suppress
from ..errors import HoldfastError, OutOfSpace
from . import description
from . import item as _items
from .item import SpooledCheckpoint
from .queue import Queue

MAX_BYTES = 100 * 2**30
MAX_SHARE = 0.5
_SURVEY_S = 60.0

log = logging.getLogger("holdfast")


def default_folder() -> Path:
    """Return ``HOLDFAST_SPOOL``, by default a folder below ``XDG_STATE_HOME``, which outlives the process."""
    if given := os.environ.get("HOLDFAST_SPOOL"):
        return Path(given).expanduser()
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except (
        RuntimeError
    ) as error:  # there is no home folder; that this path cannot be made is reported when it is needed
        reraise(error)
        state = Path(os.devnull)
    return state / "holdfast" / "spool"


class Spool:
    """A folder of queues.

    Parameters
    ----------
    folder : Path
        Its path; made when something is put there.
    max_bytes : int
        The number of bytes that may wait, in all queues.
    max_share : float
        The share of its disk that may wait, from 0 to 1.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, max_share: float = MAX_SHARE) -> None:
        self.folder = folder.absolute()
        self.max_bytes = max_bytes
        self.max_share = max_share
        self._used_bytes, self._surveyed_at = 0, -_SURVEY_S

    def queue(self, server: str, directory: str) -> Queue:
        """Return the queue of a server's directory, which may be empty."""
        digest = blake3(f"{server}\0{directory}".encode()).hexdigest()[:12]
        return Queue(self, self.folder / f"{_slug(directory)}-{digest}", server, directory)

    def queues(self, server: str | None = None, directory: str | None = None) -> list[Queue]:
        """Return the queues in which something waits or is parked: of all servers, or of one; of one directory.

        Queues under other URLs are of that server, too, once it has given its id to this process.
        """
        server_id = identity.of(server) if server is not None else None
        found = [
            queue
            for queue in (self.every_queue() if directory is None else self._every_queue_of(directory))
            if server in {None, queue.server} or (server_id is not None and server_id == queue.server_id)
        ]
        return [queue for queue in found if queue.has_items() or queue.parked()]

    def of_directory(self, directory: str) -> list[Queue]:
        """Return the queues for a directory, of any server, in which something waits or is parked."""
        return self.queues(directory=directory)

    def _every_queue_of(self, directory: str) -> list[Queue]:
        return [queue for queue in self.every_queue(f"{_slug(directory)}-*") if queue.directory == directory]

    def every_queue(self, folders: str = "[!.]*") -> list[Queue]:
        """Return all queues in folders that match a pattern, also empty ones."""
        found = []
        with suppress(OSError):
            for folder in sorted(self.folder.glob(folders)):
                if (described := _described(folder)) is not None:
                    found.append(Queue(self, folder, *described))
        return found

    def make_room(self, size_bytes: int, queue: Queue) -> None:
        """Make room for so many bytes in a queue, by dropping the oldest checkpoints that are needed least.

        Raises
        ------
        OutOfSpace
            There is no room, and nothing that may be dropped.
        """
        over = self._excess(size_bytes)
        if over > 0:
            self.drop(over, queue)
            over = self._excess(size_bytes)
        if over > 0:
            raise OutOfSpace(
                f"{size_bytes:,} bytes do not fit into {self.folder}, which may take {self._limit():,} bytes and holds "
                f"{self._used_bytes:,}, none of which may be dropped"
            )
        self._used_bytes += size_bytes

    def drop(self, size_bytes: int, queue: Queue) -> bool:
        """Drop the oldest checkpoints that are needed least, for a new one of a queue; False if they are too small."""
        droppable = [item for each in self.queues() for item in _droppable(each, each == queue)]
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
        """Return the bytes that are missing for a checkpoint of so many bytes; at most 0 if it fits."""
        free = shutil.disk_usage(self.folder).free
        if time.monotonic() - self._surveyed_at > _SURVEY_S or self._used_bytes + size_bytes > self._limit():
            waiting = [item.size_bytes for queue in self.queues() for item in [*queue.items(), *queue.parked()]]
            places = [place for folder in _within(self.folder) for place in _within(folder)]
            half_done = [_size(place) for place in places if place.name.startswith(_items.HALF_DONE)]
            self._used_bytes, self._surveyed_at = sum(waiting) + sum(half_done), time.monotonic()
        return max(self._used_bytes + size_bytes - self._limit(), size_bytes - free)

    def _limit(self) -> int:
        return min(self.max_bytes, int(self.max_share * shutil.disk_usage(self.folder).total))


_unusable: set[Path] = set()
"""The folders that a line in the log has called unusable."""


def _described(folder: Path) -> tuple[str, str] | None:
    """Return the server and the directory of a queue, from ``queue.json``, else from the facts of what waits there."""
    if (described := description.read(folder)) is not None:
        return described
    items: list[Path] = []
    with suppress(OSError):  # another process removes the folder at this moment
        found = [each.parent for pattern in ("*", "parked/*") for each in folder.glob(f"{pattern}/{_items.FACTS}")]
        items = [each for each in found if not each.name.startswith(_items.HALF_DONE)]
    for item in items:
        with suppress(HoldfastError, OSError, KeyError, TypeError):
            facts = _items.read_facts(item)
            return str(facts["server"]), str(facts["save"]["directory"])
    if items and folder not in _unusable:
        _unusable.add(folder)
        log.warning("%s cannot be used: neither queue.json nor what waits there names its server", folder)
    return None


def _slug(directory: str) -> str:
    """Return the beginning of the names of folders for a directory's queues."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", directory).strip(".")[-60:]


def _droppable(queue: Queue, has_newer: bool) -> list[SpooledCheckpoint]:
    """Return what may be dropped if space is short: not the newest, none flagged, pinned, manual or among the best.

    Parameters
    ----------
    has_newer : bool
        Whether a newer one is about to be put.
    """
    waiting = queue.items() if has_newer else queue.items()[:-1]
    saves = {}
    for item in waiting:
        with suppress(HoldfastError, OSError):
            saves[item] = item.facts()["save"]
    ranked = [(metric, item) for item, save in saves.items() if (metric := _ranked_by(save)) is not None]
    count = max((_best_count(save) for save in saves.values()), default=0)
    best = {item for _, item in sorted(ranked)[:count]}
    kept = {item for item, save in saves.items() if any(save.get(fact) for fact in ("is_best", "pinned", "retention"))}
    return [item for item, save in saves.items() if save["kind"] == "regular" and item not in best | kept]


def _within(folder: Path) -> list[Path]:
    """List the paths in a folder; nothing if it is none, or another process has just removed it."""
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _size(folder: Path) -> int:
    """Return the bytes of the files of a checkpoint that is half written, or held."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(where, name).stat().st_size if name != _items.FACTS else 0
    return total


def _age(item: SpooledCheckpoint) -> float:
    with suppress(OSError):
        return item.folder.stat().st_mtime
    return 0.0


def _ranked_by(save: Mapping[str, Any]) -> float | None:
    """Return the value that ranks a save, smaller first; None if it is not ranked."""
    metric = save.get("metric")
    if not isinstance(metric, int | float):
        return None
    return -metric if save.get("policy", {}).get("mode") == "max" else metric


def _best_count(save: Mapping[str, Any]) -> int:
    policy = save.get("policy", {})
    count = policy.get("max_best_checkpoints", 1)
    return 2**62 if count is None else int(count)
