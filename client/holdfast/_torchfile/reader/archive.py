"""Torch's zip files, loaded by torch's own unpickler into storages over the file's bytes."""

import inspect
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple

from ...errors import UnreadableCheckpoint
from . import zip_directory
from .file_memory import FileMemory
from .stub_unpickler import Mapped, Stub, StubUnpickler

Span = tuple[int, int]
Fetch = Callable[[list[Span]], None]
"""Ensures that these spans, each an offset and its end, are in memory and verified."""

_VERSION = b"3\n"


class NeedsCopy(Exception):
    """A file that torch may be able to read, but only with copies."""


class _Record(NamedTuple):
    """A record of the file: its header, and the offset and length of its data."""

    entry: zip_directory.Entry
    offset: int

    @property
    def span(self) -> Span:
        return self.entry.header_offset, self.offset + self.entry.size_bytes


class Archive:
    """A zip file in memory, with the interface that ``torch.serialization._load`` expects of its reader.

    It gives torch storages over the memory, so nothing is copied. Torch does everything else itself, with the user's
    arguments, so the state is the one that ``torch.load`` returns.

    Parameters
    ----------
    memory : FileMemory
        The memory for the file's bytes.
    fetch : callable
        Brings bytes there, verified.

    Raises
    ------
    NeedsCopy
        The file is not as torch writes it.
    """

    def __init__(self, memory: FileMemory, fetch: Fetch) -> None:
        self._memory = memory
        self._storages, self._others = _directory(memory, fetch)
        self._needed: Collection[str] | None = None
        if "constants.pkl" in self._others or self._record("version") != _VERSION:
            raise NeedsCopy

    def narrow(self, only: Collection[Any], fetch: Fetch) -> None:
        """Fetch the storages that some of the state's keys need; the others stay zeros, and take no memory.

        Raises
        ------
        NeedsCopy
            The pickle does not tell which ones.
        """
        import sys

        if "byteorder" not in self._others or self._record("byteorder").decode() != sys.byteorder:
            raise NeedsCopy
        root = StubUnpickler(self._record("data.pkl"), _Key.of).load()
        if isinstance(root, Mapped):
            root = root.items
        if not isinstance(root, dict) or not all(map(_is_plain, root)):  # a stub is equal to no requested key
            raise NeedsCopy
        self._needed = {f"data/{key}" for key in _keys_in([root[name] for name in only if name in root])}
        fetch(joined(self._storages[name].span for name in self._needed if name in self._storages))

    def refuse_empty_storages(self) -> None:
        """Refuse a tensor with elements in an empty storage, such as one that was freed before its save.

        In the file's own memory torch refuses that; on another device, it would make room, and leave it as it is.

        Raises
        ------
        UnreadableCheckpoint
            A tensor does.
        """
        if all(found.entry.size_bytes for found in self._storages.values()):
            return
        root = StubUnpickler(self._record("data.pkl"), _Key.of).load()
        for value in _within(root):
            if not isinstance(value, Stub) or not isinstance(value.parts[0], _Key):
                continue
            shape = next((part for part in value.parts if isinstance(part, tuple)), (0,))
            if not value.parts[0].elements and 0 not in shape:
                raise UnreadableCheckpoint(
                    f"torch cannot load this checkpoint: a tensor of shape {shape} has no bytes in it; its storage was "
                    "freed before it was saved"
                )

    # the interface that torch calls

    def has_record(self, name: str) -> bool:
        return name in self._others or name in self._storages

    def get_record(self, name: str) -> bytes:
        return self._record(name)

    def get_all_records(self) -> list[str]:
        return [*self._others, *self._storages]

    def serialization_id(self) -> str:
        return ""  # goes into torch's log only

    def get_storage_from_record(self, name: str, size_bytes: int, _kind: Any) -> "_Holder":
        found = self._storages.get(name)
        if found is None or found.entry.size_bytes != size_bytes:
            has = f"has {found.entry.size_bytes} bytes" if found is not None else "is not there"
            raise UnreadableCheckpoint(
                f"torch cannot load this checkpoint: the state says that {name!r:.100} has {size_bytes} bytes, and in "
                f"the file it {has}"
            )
        if (self._needed is None or name in self._needed) and not self._is_where_its_header_says(found):
            raise NeedsCopy
        return _Holder(storage_in(self._memory, found.offset, size_bytes))

    def __getattr__(self, name: str) -> Any:
        """Leave whatever else a later torch may ask for to torch's own reader."""
        raise NeedsCopy

    def _record(self, name: str) -> bytes:
        found = self._others.get(name)
        if found is None:
            raise NeedsCopy
        return self._memory.bytes(found.offset, found.entry.size_bytes)

    def _is_where_its_header_says(self, found: _Record) -> bool:
        header = self._memory.bytes(found.entry.header_offset, zip_directory.LOCAL_BYTES)
        try:
            return zip_directory.data_offset(found.entry, header) == found.offset
        except zip_directory.NotAZip:
            return False


class _Holder:
    """A storage, wrapped like the tensor that torch's own reader returns."""

    def __init__(self, storage: Any) -> None:
        self._untyped_storage = storage

    def _typed_storage(self) -> "_Holder":
        return self


def unpickle(archive: Archive, map_location: Any, weights_only: bool) -> Any:
    """Load the state in an archive with torch's own unpickler. `NeedsCopy` if this torch has another one."""
    from torch import serialization

    if not _has_known_loader():
        raise NeedsCopy
    module = serialization._weights_only_unpickler if weights_only else pickle  # type: ignore[attr-defined]
    return serialization._load(archive, map_location, module, encoding="utf-8")  # type: ignore[no-untyped-call]


@cache
def _has_known_loader() -> bool:
    """Tell if torch's private function still has the known signature."""
    from torch import serialization

    if not hasattr(serialization, "_weights_only_unpickler") or not hasattr(serialization, "_load"):
        return False
    first, *others = inspect.signature(serialization._load).parameters.items()
    names = [first[0], *(name for name, found in others if found.default is inspect.Parameter.empty)]
    return names == ["zip_file", "map_location", "pickle_module", "pickle_load_args"]


def storage_in(memory: FileMemory, offset: int, size_bytes: int) -> Any:
    """Return a storage over the file's memory that cannot be resized, whatever modes torch is in."""
    import torch

    with torch._C.DisableTorchFunction():  # such as the mode that changes the default device
        if not size_bytes:  # a resizable storage would hand out memory that was never written to
            return torch.frombuffer(bytearray(1), dtype=torch.uint8).untyped_storage()[0:0]
        return torch.frombuffer(memory.buffer(offset, size_bytes), dtype=torch.uint8).untyped_storage()


def _directory(memory: FileMemory, fetch: Fetch) -> tuple[dict[str, _Record], dict[str, _Record]]:
    """Return the storages of the file and its other records, by their names below the root; fetch the others.

    The place of a storage follows from the start of the next header, so its own header is not needed.
    """
    size_bytes = memory.size_bytes
    tail = max(0, size_bytes - zip_directory.TAIL_BYTES)
    fetch([(tail, size_bytes)])
    offset, length = zip_directory.directory_extent(memory.bytes(tail, size_bytes - tail), size_bytes)
    fetch([(offset, size_bytes)])
    entries = sorted(zip_directory.entries(memory.bytes(offset, length)), key=lambda entry: entry.header_offset)
    storages: dict[str, _Record] = {}
    others: dict[str, _Record] = {}
    root = entries[0].name.partition("/")[0] if entries else ""
    for entry, following in zip_longest(entries, entries[1:]):
        end = following.header_offset if following is not None else offset
        above, _, name = entry.name.partition("/")
        start = end - entry.descriptor_bytes - entry.size_bytes
        if not entry.is_stored or start < entry.header_offset + zip_directory.LOCAL_BYTES or above != root:
            raise zip_directory.NotAZip(f"{entry.name} is not stored as torch would")
        into = storages if name.startswith("data/") else others
        if name in into:
            raise zip_directory.NotAZip(f"{entry.name} occurs twice")
        into[name] = _Record(entry, start)
    fetch(joined(found.span for found in others.values()))
    for found in others.values():
        header = memory.bytes(found.entry.header_offset, zip_directory.LOCAL_BYTES)
        if zip_directory.data_offset(found.entry, header) != found.offset:
            raise zip_directory.NotAZip(f"{found.entry.name} is not where its header says")
    return storages, others


def _is_plain(key: Any) -> bool:
    """Tell if a key, as unpickled without imports, equals the key of the state."""
    if type(key) in {tuple, frozenset}:
        return all(map(_is_plain, key))
    return type(key) in {str, bytes, int, float, bool, type(None)}


class _Key(str):
    """The key of a storage in place of the storage, with the number of its elements."""

    elements: int

    @classmethod
    def of(cls, reference: Any) -> "_Key":
        key = cls(reference[2])
        key.elements = reference[4]
        return key


def _keys_in(value: Any) -> set[str]:
    """Return the keys of all storages within a value that was unpickled without imports."""
    return {str(found) for found in _within(value) if isinstance(found, _Key)}


def _within(value: Any) -> Iterator[Any]:
    """Yield a value that was unpickled without imports and all that it contains; each container once."""
    seen, todo = set(), [value]
    while todo:
        value = todo.pop()
        if not isinstance(value, dict | list | tuple | set | frozenset | Stub):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            yield value
            if isinstance(value, Stub):
                todo += [value.parts, value.items]
            else:
                todo += [*value, *value.values()] if isinstance(value, dict) else value


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans sorted, with adjacent ones merged."""
    result: list[Span] = []
    for start, stop in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], stop)
        else:
            result.append((start, stop))
    return result
