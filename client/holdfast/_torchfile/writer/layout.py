"""The layout of a state's torch file in chunks, read from the tensors' own memory; the whole file never exists.

The checksums that a zip file wants are filled in when the storages have been read.
"""

import io
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from zlib_ng import zlib_ng

from ..._api import digests
from ..._api.digests import CHUNK_BYTES
from ..._api.wire import Chunk
from ..._runtime import gc_pause, packages
from ..._runtime.interruption import reraise, suppress
from ..._runtime.parallel import in_parallel
from ...errors import InvalidRequest
from ..strides import is_non_overlapping_and_dense
from . import crc32
from .parts import ALIGNMENT, BIG_BYTES, Parts
from .pickler import Described
from .records import NoData, Storage, can_be_written, records_of

_THREADED_BYTES = 8 * 1024 * 1024
"""The size, in bytes, from which hashing on several threads takes less time than to start them."""


class _Record(NamedTuple):
    """A large storage in the file. Its first ``chunks`` are its own; the rest is in a chunk with its neighbours."""

    offset: int
    storage: Storage
    chunks: range


class _Extent(NamedTuple):
    """The place of a chunk, and the large storage that it belongs to, if any."""

    offset: int
    length: int
    record: int | None


class Layout:
    """The bytes of a state's torch file, in chunks. Thread-safe.

    Attributes
    ----------
    size_bytes : int
        The length of the file.
    spans : list of (int, int)
        Offset and length, in bytes, of every chunk.
    tensors : list of dict or None
        Name, dtype, shape, offset and size in bytes of every tensor, as far as known.
    warnings : list of str
        Warnings for the user about loading the file.
    """

    def __init__(self, parts: Parts, tensors: list[dict[str, Any]] | None) -> None:
        self._parts = parts
        self.size_bytes = parts.size_bytes
        self.tensors = tensors
        self.warnings: list[str] = []
        self.extents, self._records = _cut(parts)
        self.spans = [(extent.offset, extent.length) for extent in self.extents]
        self._digests: list[str | None] = [None] * len(self.extents)
        self._crcs: list[int | None] = [None] * len(self.extents)
        self._record_crcs: dict[int, int] = {}

    def read(self, place: int) -> tuple[memoryview, str]:
        """Return the bytes of a chunk, valid until this thread reads the next one, and their BLAKE3 in hex."""
        extent = self.extents[place]
        data = self._joined(extent) if extent.record is None else self._part(extent, self._records[extent.record])
        digest = self._digests[place]
        if digest is None:
            digest = self._digests[place] = digests.of_chunk(data)
        if extent.record is not None and self._crcs[place] is None:
            self._crcs[place] = zlib_ng.crc32(data)
        return data, digest

    def chunks(self) -> tuple[Chunk, ...]:
        """Return every chunk with its digest; read the remaining ones on several threads."""
        unread = [place for place in self.reading_order() if self._digests[place] is None]
        length = sum(self.extents[place].length for place in unread)
        in_parallel(unread, self.read, threads=digests.THREADS if length >= _THREADED_BYTES else 1)
        return tuple(
            Chunk(extent.offset, extent.length, digest)
            for extent, digest in zip(self.extents, self._digests, strict=True)
            if digest is not None
        )

    def reading_order(self) -> list[int]:
        """Return all chunks in an order that reads none twice: those between storages contain checksums of storages."""
        return sorted(range(len(self.extents)), key=lambda place: self.extents[place].record is None)

    def has_changed(self) -> bool:
        """Tell if a chunk has changed since it was first read."""
        known = [(extent, digest) for extent, digest in zip(self.extents, self._digests, strict=True) if digest]
        return any(
            digests.of_chunk(self._part(extent, self._records[extent.record])) != digest
            for extent, digest in known
            if extent.record is not None
        )

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks, spread over the storages."""
        own = [place for place, extent in enumerate(self.extents) if extent.record is not None]
        return {self.read(place)[1] for place in own[:: max(1, len(own) // count)][:count]}

    def head(self) -> Iterator[bytes]:
        """Yield the bytes before the first storage; in a torch file, these include the pickle."""
        return self._parts.head()

    def _part(self, extent: _Extent, record: _Record) -> memoryview:
        start = extent.offset - record.offset
        return record.storage.view(start, start + extent.length)

    def _joined(self, extent: _Extent) -> memoryview:
        """Return bytes between the large storages, with the checksums filled in."""
        stop = extent.offset + extent.length
        result = self._parts.joined(extent.offset, stop)
        patches = self._parts.patches
        for offset, number in patches[bisect_left(patches, (extent.offset - 3, 0)) : bisect_left(patches, (stop, 0))]:
            crc, place = self._crc(number).to_bytes(4, "little"), offset - extent.offset
            first, last = max(0, -place), min(4, len(result) - place)
            result[place + first : place + last] = crc[first:last]
        return memoryview(result)

    def _crc(self, number: int) -> int:
        known = self._record_crcs.get(number)
        if known is not None:
            return known
        storage, parts, done = self._parts.storages[number][1], [], 0
        for place in self._records[number].chunks if number in self._records else ():
            if self._crcs[place] is None:
                self.read(place)
            crc, length = self._crcs[place], self.extents[place].length
            assert crc is not None, "it was read"
            parts.append((crc, length))
            done += length
        rest = storage.copy(done, storage.size_bytes)
        found = self._record_crcs[number] = zlib_ng.crc32(rest, crc32.combined(parts))
        return found


Copies = Callable[[list[Storage]], list[Storage]]
"""Returns copies of storages, to be read in their place."""


def layout_of(state: Any, copied: Copies | None = None) -> Layout:
    """Return the torch file of a state. The state's tensors must not change while it is read.

    Parameters
    ----------
    state : dict
        Any state that ``torch.save`` accepts.
    copied : Copies, optional
        With it, the state may change at once.

    Raises
    ------
    InvalidRequest
        A tensor has no data: it is on the device ``meta``, fake, or its memory was freed.
    MissingPackage
        Torch is not installed.
    """
    packages.torch_for("Saving a checkpoint")
    return gc_pause.deferred(lambda: _of(state, copied))


def _of(state: Any, copied: Copies | None) -> Layout:
    if not can_be_written():
        return _whole(state)
    try:
        records = records_of(state)
    except NoData as error:
        raise InvalidRequest(f"{_named(error.tensor, state)} cannot be saved: {error.why}.", code=error.code) from None
    parts = Parts.of(records)
    index = _tensor_index(state, parts, records.described)
    if copied is not None:
        parts.replace(copied)
    layout = Layout(parts, index)
    if records.sharded is not None:
        layout.warnings.append(
            f"{_named(records.sharded, state)} is sharded over several processes, and only this one's part is saved. "
            "To save all of it, gather it with get_model_state_dict(..., "
            "options=StateDictOptions(full_state_dict=True)), or save every part with torch.distributed.checkpoint."
        )
    return layout


def _named(tensor: Any, state: Any) -> str:
    """Name a tensor of a state, for a message."""
    with suppress(Exception):  # a state that cannot be walked
        for name, other in named_tensors(state):
            if other is tensor:
                return f"the tensor {name!r}"
    return f"a tensor of shape {tuple(tensor.shape)}"


def _whole(state: Any) -> Layout:
    """Return the file as torch writes it, held in memory: for versions of torch that write in another way."""
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    return Layout(Parts.whole(file.getvalue()), None)


def _cut(parts: Parts) -> tuple[tuple[_Extent, ...], dict[int, _Record]]:
    """Cut the file: large storages alone, everything between them together, nothing longer than a chunk."""
    extents: list[_Extent] = []
    records: dict[int, _Record] = {}
    done = 0

    def add(stop: int, record: int | None) -> None:
        nonlocal done
        for start in range(done, stop, CHUNK_BYTES):
            extents.append(_Extent(start, min(CHUNK_BYTES, stop - start), record))
        done = max(done, stop)

    for number, (offset, storage) in enumerate(parts.storages):
        if storage.size_bytes >= BIG_BYTES:
            add(offset, None)
            first = len(extents)
            add(offset + storage.size_bytes // ALIGNMENT * ALIGNMENT, number)
            records[number] = _Record(offset, storage, range(first, len(extents)))
    add(parts.size_bytes, None)
    return tuple(extents), records


def _tensor_index(state: Any, parts: Parts, described: Mapping[int, Described]) -> list[dict[str, Any]] | None:
    """Return name, dtype, shape, offset and size in bytes of the tensors, as far as known; None if they cannot be
    listed.
    """
    offsets = {storage.storage._cdata: offset for offset, storage in parts.storages}
    index = []
    try:
        for name, tensor in named_tensors(state):
            known = described.get(id(tensor))
            if known is not None and known[0] is tensor:
                _, dtype, shape, storage, start, size_bytes = known
                entry: dict[str, Any] | None = {
                    "name": name[:1000],
                    "dtype": dtype,
                    "shape": list(shape),
                    "offset": offsets[storage] + start if start is not None else None,
                    "size_bytes": size_bytes,
                }
            else:
                entry = _entry(name, tensor, offsets)
            if entry is not None:
                index.append(entry)
    except (
        Exception
    ) as error:  # a state that cannot be walked, such as one that contains itself, is saved without an index
        reraise(error)
        return None
    return index


def named_tensors(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every tensor of a state under the name that it has in the index."""
    import torch

    if isinstance(value, torch.Tensor):
        yield ".".join(path) or "tensor", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from named_tensors(item, (*path, str(place)))


def _entry(name: str, tensor: Any, offsets: Mapping[int, int]) -> dict[str, Any] | None:
    import torch

    entry: dict[str, Any] | None = None
    try:
        if tensor.layout is not torch.strided:
            return None
        element_bytes = tensor.element_size()
        entry = {
            "name": name[:1000],
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": [int(length) for length in tensor.shape],
            "offset": None,
            "size_bytes": tensor.numel() * element_bytes,
        }
        start = offsets.get(tensor.untyped_storage()._cdata)
        if start is not None and is_non_overlapping_and_dense(tensor.shape, tensor.stride()):
            entry["offset"] = start + tensor.storage_offset() * element_bytes
    except Exception as error:  # an attribute that torch does not give, such as the storage of a wrapper, is left out
        reraise(error)
    return entry
