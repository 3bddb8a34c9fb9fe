"""Bounded caches of this process. Each may lose any entry at any time: it is then computed again."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from app.core.models import Chunk, Version

K = TypeVar("K")
V = TypeVar("V")

MOST_VERIFIED = 10_000
MOST_DIRECTORIES = 10_000
MOST_CHUNK_MAPS = 64
MOST_REPORTS = 64
MOST_RECENT_METRICS = 2_000


class LruCache(Generic[K, V]):
    """A mapping of bounded size that evicts the least recently used entry. Thread-safe.

    Parameters
    ----------
    capacity : int
        The number of entries that it holds at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._guard = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Give the value of a key, which becomes the most recently used; None if it is absent or was evicted."""
        with self._guard:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: K, value: V) -> None:
        """Set the value of a key, and evict the least recently used entry if the cache is full."""
        with self._guard:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


class FileState(NamedTuple):
    """The attributes of a stored file at the moment when its bytes were verified."""

    size_bytes: int
    version: Version
    damage: str | None


class CommitsOf(NamedTuple):
    """The commits to a directory up to a sequence number; one of the same name that began later has others."""

    directory: str
    created_at: datetime
    sequence: int


class Report(NamedTuple):
    """The answer to an expensive query, with the last event that it covers and the monotonic time of the query."""

    event_id: int
    computed_at: float
    answer: object


@dataclass(frozen=True)
class Caches:
    """The caches that use cases share."""

    verified: LruCache[tuple[str, str], FileState] = field(default_factory=lambda: LruCache(MOST_VERIFIED))
    """By checkpoint and path, touched files whose bytes were read and found intact."""
    directories: LruCache[str, str] = field(default_factory=lambda: LruCache(MOST_DIRECTORIES))
    """By checkpoint, its directory, which never changes."""
    chunk_maps: LruCache[str, Mapping[str, Sequence[Chunk]]] = field(default_factory=lambda: LruCache(MOST_CHUNK_MAPS))
    """By checkpoint, the chunks of its files."""
    reports: LruCache[tuple[str, ...], Report] = field(default_factory=lambda: LruCache(MOST_REPORTS))
    """By query, reports over the whole catalog."""
    recent_metrics: LruCache[CommitsOf, tuple[float, ...]] = field(
        default_factory=lambda: LruCache(MOST_RECENT_METRICS)
    )
    """The metrics of the last commits to a directory."""
