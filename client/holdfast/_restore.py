"""Torch files as states: tensors whose memory is the file's own, of the whole file or of some of its keys."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from . import _zip
from ._blind import BlindUnpickler, Stub
from ._memory import Arena
from ._trust import answering, refuse_bomb
from .errors import HoldfastError

Span = tuple[int, int]
Fetch = Callable[[list[Span]], None]
"""Sees to it that these bytes, each from an offset up to another, are in the arena and verified."""


class _Unusual(Exception):
    """A file that torch may read, but not in the way that needs no copies."""


class _Stored(NamedTuple):
    """A record of the file: where its header and its data begin, and how long the data is."""

    entry: _zip.Entry
    offset: int

    @property
    def header(self) -> int:
        return self.entry.header_offset

    @property
    def size_bytes(self) -> int:
        return self.entry.size_bytes

    def is_where_its_header_says(self, arena: Arena) -> bool:
        return _zip.data_offset(self.entry, arena.bytes(self.header, _zip.LOCAL_BYTES)) == self.offset


def state_in(
    arena: Arena,
    fetch: Fetch,
    *,
    only: Collection[str] | None = None,
    map_location: Any = None,
    weights_only: bool = True,
) -> Any:
    """The state in a torch file whose bytes come into an arena as they are asked for.

    Parameters
    ----------
    arena : Arena
        Where the file's bytes are, or will be; its memory becomes that of the tensors.
    fetch : callable
        Brings bytes there, verified. Called before anything looks at them.
    only : collection of str, optional
        The keys of the state to load; the storages of others are not fetched.

    Raises
    ------
    UnsafeCheckpoint
        It holds more than weights, or unfolds to far more than its size, and ``weights_only`` was not turned off.
    UnreadableCheckpoint
        Torch cannot load it.
    KeyError
        The state has no such key.
    """
    try:
        state = _mapped(arena, fetch, only, map_location, weights_only)
    except _Unusual:
        fetch([(0, arena.size_bytes)])
        if weights_only:
            refuse_bomb(arena)
        state = _loaded(arena, map_location, weights_only, asks_user=callable(map_location))
    return state if only is None else _part(state, only)


def _mapped(arena: Arena, fetch: Fetch, only: Collection[str] | None, map_location: Any, weights_only: bool) -> Any:
    """The state, with storages that lie in the arena."""
    import torch

    if str(map_location) == "meta" or not hasattr(torch.serialization, "skip_data"):
        raise _Unusual
    if only is None:
        fetch([(0, arena.size_bytes)])
    try:
        storages, records = _directory(arena, fetch)
        walked = _Walk(arena, storages, records)
    except HoldfastError:
        raise
    except Exception as error:  # whatever this file is, torch may be able to read it
        raise _Unusual from error
    needed = set(storages) if only is None else walked.keys_of(only)
    if only is not None:
        fetch(_joined((found.header, found.offset + found.size_bytes) for key in needed if (found := storages[key])))
    if any(not storages[key].is_where_its_header_says(arena) for key in needed):
        raise _Unusual
    calls = iter(walked.order)

    def place(storage: Any, location: str) -> Any:
        key, size_bytes = next(calls, ("", -1))
        if size_bytes != storage.nbytes():
            raise _Unusual
        if key in needed and size_bytes:
            buffer = arena.buffer(storages[key].offset, size_bytes)
            storage = torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()
        return _relocated(storage, location, map_location)

    with torch.serialization.skip_data():
        return _loaded(arena, place, weights_only, asks_user=callable(map_location))


def _directory(arena: Arena, fetch: Fetch) -> tuple[dict[str, _Stored], dict[str, _Stored]]:
    """The storages of the file by key, and its other records by name; these are fetched.

    Where a storage lies follows from where the next header begins, so that its own header is not needed.
    """
    size_bytes = arena.size_bytes
    tail = max(0, size_bytes - _zip.TAIL_BYTES)
    fetch([(tail, size_bytes)])
    offset, length = _zip.directory_extent(arena.bytes(tail, size_bytes - tail), size_bytes)
    fetch([(offset, size_bytes)])
    entries = sorted(_zip.entries(arena.bytes(offset, length), offset), key=lambda entry: entry.header_offset)
    storages: dict[str, _Stored] = {}
    others: dict[str, _Stored] = {}
    for entry, following in zip_longest(entries, entries[1:]):
        end = following.header_offset if following is not None else offset
        name = entry.name.partition("/")[2]
        kind, _, key = name.partition("/")
        start = end - entry.descriptor_bytes - entry.size_bytes
        if not entry.is_stored or start < entry.header_offset + _zip.LOCAL_BYTES:
            raise _zip.NotAZip(f"{entry.name} is not stored as torch would")
        if kind == "data" and key:
            storages[key] = _Stored(entry, start)
        else:
            others[name] = _Stored(entry, start)
    fetch(_joined((found.header, found.offset + found.size_bytes) for found in others.values()))
    return storages, others


class _Walk:
    """What a state's pickle says of its storages, read without building any object of it."""

    def __init__(self, arena: Arena, storages: Mapping[str, _Stored], records: Mapping[str, _Stored]) -> None:
        def record(name: str) -> bytes:
            return arena.bytes(records[name].offset, records[name].size_bytes)

        if "byteorder" in records and record("byteorder").decode() != sys.byteorder:
            raise _zip.NotAZip("the bytes are in the other order")
        self._storages = storages
        self.order: list[tuple[str, int]] = []
        self._seen: set[str] = set()
        self._root = BlindUnpickler(record("data.pkl"), self._place).load()

    def keys_of(self, only: Collection[str]) -> set[str]:
        """The keys of the storages that some of the state's keys need."""
        root = self._root
        if isinstance(root, Stub):
            root = root.items
            if not all(name in root for name in only):  # they may be there in a way that only the object knows
                raise _Unusual
        if not isinstance(root, dict):
            raise _Unusual
        return _keys_in([root[name] for name in only if name in root])

    def _place(self, reference: Any) -> "_Key":
        """Torch asks for the place of each storage once, but for those without bytes every time."""
        key = _Key(reference[2])
        size_bytes = self._storages[key].size_bytes
        if size_bytes == 0 or key not in self._seen:
            self._seen.add(key)
            self.order.append((key, size_bytes))
        return key


class _Key(str):
    """The key of a storage, where the storage would be."""


def _keys_in(value: Any) -> set[str]:
    """The keys of all storages within a value of the blind pickle."""
    found, seen, todo = set(), set(), [value]
    while todo:
        value = todo.pop()
        if isinstance(value, _Key):
            found.add(str(value))
        elif id(value) not in seen and isinstance(value, dict | list | tuple | set | frozenset | Stub):
            seen.add(id(value))
            if isinstance(value, Stub):
                todo += [value.parts, value.items]
            else:
                todo += [*value, *value.values()] if isinstance(value, dict) else value
    return found


def _loaded(arena: Arena, map_location: Any, weights_only: bool, *, asks_user: bool) -> Any:
    import torch

    arena.memory.seek(0)
    with answering(is_untrusted=weights_only, asks_user=asks_user, passing=_Unusual):
        return torch.load(arena.memory, map_location=map_location, weights_only=weights_only)  # type: ignore[arg-type]


def _relocated(storage: Any, location: str, map_location: Any) -> Any:
    """A storage where the user wants it, by the rules of ``torch.load``'s ``map_location``."""
    from torch.serialization import default_restore_location

    if callable(map_location):
        found = map_location(storage, location)
        return default_restore_location(storage, location) if found is None else found  # type: ignore[no-untyped-call]
    if isinstance(map_location, Mapping):
        location = map_location.get(location, location)
    elif map_location is not None:
        location = map_location.decode() if isinstance(map_location, bytes) else str(map_location)
    return default_restore_location(storage, location)  # type: ignore[no-untyped-call]


def _part(state: Any, only: Collection[str]) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        raise KeyError(f"the checkpoint is a {type(state).__name__} and has no keys to choose from")
    for name in only:
        if name not in state:
            raise KeyError(f"the checkpoint has no {name!r}; it has {', '.join(map(repr, state))}")
    return {name: state[name] for name in only}


def _joined(spans: Iterable[Span]) -> list[Span]:
    result: list[Span] = []
    for start, stop in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], stop)
        else:
            result.append((start, stop))
    return result
