"""States as the bytes of a torch file that is never made: read, chunk by chunk, from the tensors' own memory.

``torch.save`` writes into a sink that keeps what is small (headers, the pickle) and only notes where each tensor's
storage would lie. The checksums that a zip file wants are filled in when the storages have been read.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from zlib_ng import zlib_ng

from . import _checksums, _digests, _packages, _zip
from ._digests import CHUNK_BYTES
from ._parallel import in_parallel
from ._sink import ALIGNMENT, Sink, Storage, written
from ._wire import Chunk

BIG_BYTES = 64 * 1024
"""Storages of at least this size have chunks of their own, which stay the same while others change."""


class _Record(NamedTuple):
    """A storage in the file. Its first ``chunks`` are its own; what is left over lies with its neighbours."""

    entry: _zip.Entry
    offset: int
    storage: "Storage"
    chunks: range


class _Extent(NamedTuple):
    """Where a chunk lies, and the storage that it is a part of, if it is one."""

    offset: int
    length: int
    record: int | None


class Layout:
    """The bytes of a state's torch file, in chunks. May be read by several threads.

    Attributes
    ----------
    size_bytes : int
        How long the file is.
    spans : list of (int, int)
        Offset and length, in bytes, of every chunk.
    tensors : list of dict or None
        Name, dtype, shape, offset and size in bytes of every tensor, as far as that can be said.
    """

    def __init__(self, sink: "Sink", tensors: list[dict[str, Any]] | None) -> None:
        self.size_bytes = sink.size_bytes
        self.tensors = tensors
        self._pieces = sink.pieces
        self._starts = [piece.offset for piece in sink.pieces]
        self.extents, self._records = _cut(sink)
        self._patches = sorted(
            (offset, place) for place, record in enumerate(self._records) for offset in _crc_offsets(record)
        )
        self.spans = [(extent.offset, extent.length) for extent in self.extents]
        self._digests: list[str | None] = [None] * len(self.extents)
        self._crcs: list[int | None] = [None] * len(self.extents)

    def read(self, place: int) -> tuple[memoryview, str]:
        """The bytes of a chunk and their BLAKE3 in hex. The bytes hold until this thread reads the next chunk."""
        extent = self.extents[place]
        data = self._joined(extent) if extent.record is None else self._part(extent, self._records[extent.record])
        digest = self._digests[place]
        if digest is None:
            digest = self._digests[place] = _digests.of_chunk(data)
        if extent.record is not None and self._crcs[place] is None:
            self._crcs[place] = zlib_ng.crc32(data)
        return data, digest

    def chunks(self) -> tuple[Chunk, ...]:
        """Every chunk with its digest; what was not read yet is read, on several threads."""
        unread = [place for place in self.reading_order() if self._digests[place] is None]
        in_parallel(unread, self.read, threads=_digests.THREADS)
        return tuple(
            Chunk(extent.offset, extent.length, digest)
            for extent, digest in zip(self.extents, self._digests, strict=True)
            if digest is not None
        )

    def reading_order(self) -> list[int]:
        """All chunks, such that none is read twice: what lies between storages holds their checksums."""
        return sorted(range(len(self.extents)), key=lambda place: self.extents[place].record is None)

    def has_changed(self) -> bool:
        """Whether a chunk is another than it was when it was first read."""
        known = [(extent, digest) for extent, digest in zip(self.extents, self._digests, strict=True) if digest]
        return any(
            _digests.of_chunk(self._part(extent, self._records[extent.record])) != digest
            for extent, digest in known
            if extent.record is not None
        )

    def sample(self, count: int) -> set[str]:
        """The digests of a few chunks, spread over the storages."""
        own = [place for place, extent in enumerate(self.extents) if extent.record is not None]
        return {self.read(place)[1] for place in own[:: max(1, len(own) // count)][:count]}

    def head(self) -> Iterator[bytes]:
        """The bytes before the first storage: in a file of torch, those of the pickle are among them."""
        for piece in self._pieces:
            if not isinstance(piece.data, bytes):
                return
            yield piece.data

    def _part(self, extent: _Extent, record: _Record) -> memoryview:
        start = extent.offset - record.offset
        return record.storage.view(start, start + extent.length)

    def _joined(self, extent: _Extent) -> memoryview:
        """Bytes that lie between the large storages, with the checksums of these."""
        stop = extent.offset + extent.length
        result = bytearray()
        place = max(0, bisect_right(self._starts, extent.offset) - 1)
        while place < len(self._pieces) and self._pieces[place].offset < stop:
            piece = self._pieces[place]
            start = max(0, extent.offset - piece.offset)
            end = min(piece.length, stop - piece.offset)
            result += piece.data[start:end] if isinstance(piece.data, bytes) else piece.data.view(start, end)
            place += 1
        for offset, record in self._patches[bisect_right(self._patches, (extent.offset - 4, len(self._records))) :]:
            if offset >= stop:
                break
            for at, value in enumerate(struct.pack("<I", self._crc(self._records[record])), offset - extent.offset):
                if 0 <= at < len(result):
                    result[at] = value
        return memoryview(result)

    def _crc(self, record: _Record) -> int:
        parts, done = [], 0
        for place in record.chunks:
            if self._crcs[place] is None:
                self.read(place)
            crc, length = self._crcs[place], self.extents[place].length
            assert crc is not None, "it was read"
            parts.append((crc, length))
            done += length
        return zlib_ng.crc32(record.storage.view(done, record.entry.size_bytes), _checksums.combined(parts))


def of(state: Any, copied: Callable[[list[Storage]], list[Storage]] | None = None) -> Layout:
    """The torch file of a state. The state's tensors must stay as they are while it is read.

    Parameters
    ----------
    state : dict
        Whatever ``torch.save`` takes.
    copied : callable, optional
        Gives copies of storages, to be read in their place. Then the state may change at once.

    Raises
    ------
    MissingPackage
        Torch is not installed.
    """
    _packages.torch_for("Saving a checkpoint")
    import torch

    try:
        sink = written(state, torch.serialization.skip_data)
    except RuntimeError:  # torch cannot leave out the data of this state (quantised tensors): it is written to nowhere
        sink = written(state, None)
    tensors = _tensor_index(state, sink)
    if copied is not None:
        sink.replace(copied)
    return Layout(sink, tensors)


def _cut(sink: Sink) -> tuple[tuple[_Extent, ...], list[_Record]]:
    """Where to cut: large storages by themselves, whatever lies between them together, nothing longer than a chunk."""
    extents: list[_Extent] = []
    records: list[_Record] = []
    done = 0

    def add(stop: int, record: int | None) -> None:
        nonlocal done
        for start in range(done, stop, CHUNK_BYTES):
            extents.append(_Extent(start, min(CHUNK_BYTES, stop - start), record))
        done = max(done, stop)

    for entry, piece in sink.records():
        assert isinstance(piece.data, Storage)
        first = len(extents)
        if piece.length >= BIG_BYTES:
            add(piece.offset, None)
            first = len(extents)
            add(piece.offset + piece.length // ALIGNMENT * ALIGNMENT, len(records))
        records.append(_Record(entry, piece.offset, piece.data, range(first, len(extents))))
    add(sink.size_bytes, None)
    return tuple(extents), records


def _crc_offsets(record: _Record) -> Iterator[int]:
    """Where in the file the CRC-32 of a storage stands."""
    yield record.entry.crc_offset
    if record.entry.descriptor_bytes:
        yield record.offset + record.entry.size_bytes + 4


def _tensor_index(state: Any, sink: Sink) -> list[dict[str, Any]] | None:
    """Name, dtype, shape, offset and size in bytes of every tensor, or None where that cannot be said."""
    import torch

    offsets = {p.data.storage._cdata: p.offset for p in sink.pieces if isinstance(p.data, Storage)}
    try:
        return [_entry(name, tensor, offsets) for name, tensor in tensors(state) if tensor.layout is torch.strided]
    except Exception:  # an index is a convenience: whatever torch cannot do here must not cost a save
        return None


def tensors(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every tensor of a state, under the name that it has in the index."""
    import torch

    if isinstance(value, torch.Tensor):
        yield ".".join(path) or "tensor", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from tensors(item, (*path, str(place)))


def _entry(name: str, tensor: Any, offsets: Mapping[int, int]) -> dict[str, Any]:
    start = offsets.get(tensor.untyped_storage()._cdata)
    return {
        "name": name[:1000],
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "offset": start + tensor.storage_offset() * tensor.element_size() if start is not None else None,
        "size_bytes": tensor.numel() * tensor.element_size(),
    }
