"""States as the bytes of a torch file that is never made: read, chunk by chunk, from the tensors' own memory.

``torch.save`` writes into a sink that keeps what is small (headers, the pickle) and only notes where each tensor's
storage would lie. The checksums that a zip file wants are filled in when the storages have been read.
"""

import ctypes
import pickle
import struct
import threading
import types
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any, NamedTuple

from zlib_ng import zlib_ng

from . import _checksums, _digests, _zip
from ._digests import CHUNK_BYTES
from ._wire import Chunk

ALIGNMENT = 4096
"""Storages begin at multiples of this, so that file systems can share their blocks."""
BIG_BYTES = 64 * 1024
"""Storages of at least this size have chunks of their own, which stay the same while others change."""

_STAGING = threading.local()
_ALIGNING = threading.Lock()


class _Piece(NamedTuple):
    """Bytes of the file: at hand, or a storage's."""

    offset: int
    length: int
    data: "bytes | _Storage"


class _Record(NamedTuple):
    """A storage in the file. Its first ``chunks`` are its own; what is left over lies with its neighbours."""

    entry: _zip.Entry
    offset: int
    storage: "_Storage"
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
    extents : tuple
        Offset and length, in bytes, of every chunk.
    tensors : list of dict or None
        Name, dtype, shape, offset and size in bytes of every tensor, as far as that can be said.
    """

    def __init__(self, sink: "_Sink", tensors: list[dict[str, Any]] | None) -> None:
        self.size_bytes = sink.size_bytes
        self.tensors = tensors
        self._pieces = sink.pieces
        self._starts = [piece.offset for piece in sink.pieces]
        self.extents, self._records = _cut(sink)
        self._patches = sorted(
            (offset, place) for place, record in enumerate(self._records) for offset in _crc_offsets(record)
        )
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
        unread = [place for place, digest in enumerate(self._digests) if digest is None]
        # what lies between storages holds their checksums, so it comes after them
        unread.sort(key=lambda place: self.extents[place].record is None)
        with ThreadPoolExecutor(_digests.THREADS) as threads:
            for _ in threads.map(self.read, unread):
                pass
        return tuple(
            Chunk(extent.offset, extent.length, digest)
            for extent, digest in zip(self.extents, self._digests, strict=True)
            if digest is not None
        )

    def sample(self, count: int) -> set[str]:
        """The digests of a few chunks, spread over the storages."""
        own = [place for place, extent in enumerate(self.extents) if extent.record is not None]
        return {self.read(place)[1] for place in own[:: max(1, len(own) // count)][:count]}

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


def of(state: Any) -> Layout:
    """The torch file of a state. The state's tensors must stay as they are while it is read.

    Parameters
    ----------
    state : dict
        Whatever ``torch.save`` takes.
    """
    import torch

    try:
        sink = _written(state, torch.serialization.skip_data)
    except RuntimeError:  # torch cannot leave out the data of this state (quantised tensors): it is written to nowhere
        sink = _written(state, None)
    return Layout(sink, _tensor_index(state, sink))


class _Storage:
    """The bytes of a tensor's storage: its own memory, or, on another device, copies of parts of it."""

    def __init__(self, storage: Any, *, staged: bool | None = None) -> None:
        self.storage = storage
        self.size_bytes = storage.nbytes()
        self._staged = storage.device.type != "cpu" if staged is None else staged

    def view(self, start: int, stop: int) -> memoryview:
        """Some of the bytes; copies hold until this thread asks for others."""
        if start == stop:
            return memoryview(b"")
        if self._staged:
            return self._copied(start, stop)
        kind = ctypes.c_char * (stop - start)
        return memoryview(kind.from_address(self.storage.data_ptr() + start)).cast("B")

    def _copied(self, start: int, stop: int) -> memoryview:
        import torch

        on_cuda = self.storage.device.type == "cuda"
        staging = getattr(_STAGING, "tensor", None)
        if staging is None or staging.numel() < stop - start:
            length = max(CHUNK_BYTES, stop - start)
            staging = _STAGING.tensor = torch.empty(length, dtype=torch.uint8, pin_memory=on_cuda)
        source = torch.empty(0, dtype=torch.uint8, device=self.storage.device).set_(self.storage)
        staging[: stop - start].copy_(source[start:stop])
        kind = ctypes.c_char * (stop - start)
        return memoryview(kind.from_address(staging.data_ptr())).cast("B")


class _Sink:
    """What ``torch.save`` writes to: keeps everything but the data of storages."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.pieces: list[_Piece] = []
        self.storages: dict[str, Any] = {}
        self._name = ""
        self._names_next = False
        self._has_padding = False

    def write(self, data: Any) -> int:
        length = len(data)
        storage = self.storages.get(self._name)
        if self._names_next:
            self._name, self._names_next = bytes(data).decode().partition("/")[2], False
        elif self._has_padding:  # which may be as long as the data
            self._has_padding = False
        elif storage is not None and length == storage.nbytes():
            return self.seek(length, 1)
        elif length == _zip.LOCAL_BYTES and data[:4] == b"PK\x03\x04":
            self._names_next, self._has_padding = True, any(data[28:30])
        self._keep(length, bytes(data))
        return length

    def seek(self, length: int, whence: int) -> int:
        """So much of a storage's data is left out."""
        self._keep(length, _Storage(self.storages[self._name]))
        self._name = ""
        return length

    def flush(self) -> None:
        pass

    def records(self) -> Iterator[tuple[_zip.Entry, _Piece]]:
        """The storages with data, as the directory at the end names them."""
        last = takewhile(lambda data: isinstance(data, bytes), (piece.data for piece in reversed(self.pieces)))
        tail = b"".join(reversed([data for data in last if isinstance(data, bytes)]))
        offset, length = _zip.directory_extent(tail, self.size_bytes)
        start = offset - (self.size_bytes - len(tail))
        entries = sorted(_zip.entries(tail[start : start + length], offset), key=lambda entry: entry.header_offset)
        pieces = iter(piece for piece in self.pieces if isinstance(piece.data, _Storage))
        named = [entry for entry in entries if entry.size_bytes and entry.name.partition("/")[2] in self.storages]
        return zip(named, pieces, strict=True)

    def _keep(self, length: int, data: bytes | _Storage) -> None:
        if length:
            self.pieces.append(_Piece(self.size_bytes, length, data))
            self.size_bytes += length


def _written(state: Any, leaving_out: Callable[[], Any] | None) -> _Sink:
    """Let torch write a state's file, without the data of its storages."""
    import torch
    from torch.utils.serialization import config

    sink = _Sink()
    with _ALIGNING, config.patch("save.storage_alignment", ALIGNMENT):  # type: ignore[attr-defined]
        if leaving_out is None:
            torch.save(state, sink, pickle_module=_recorder(sink))  # type: ignore[arg-type]
        else:
            with leaving_out():
                torch.save(state, sink, pickle_module=_recorder(sink))  # type: ignore[arg-type]
    return sink


def _recorder(sink: _Sink) -> types.ModuleType:
    """The module ``pickle``, whose pickler also tells the sink of every storage that torch meets."""

    class Pickler(pickle.Pickler):
        def __init_subclass__(cls) -> None:
            asked = cls.persistent_id

            def persistent_id(self: Any, value: Any) -> Any:
                found = asked(self, value)
                if found is not None:
                    sink.storages[f"data/{found[2]}"] = getattr(value, "_untyped_storage", value)
                return found

            cls.persistent_id = persistent_id  # type: ignore[method-assign]

    module = types.ModuleType("pickle")
    module.__dict__.update({name: getattr(pickle, name) for name in pickle.__all__})
    module.Pickler = Pickler  # type: ignore[attr-defined]
    return module


def _cut(sink: _Sink) -> tuple[tuple[_Extent, ...], list[_Record]]:
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
        assert isinstance(piece.data, _Storage)
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


def _tensor_index(state: Any, sink: _Sink) -> list[dict[str, Any]] | None:
    """Name, dtype, shape, offset and size in bytes of every tensor, or None where that cannot be said."""
    import torch

    offsets = {p.data.storage._cdata: p.offset for p in sink.pieces if isinstance(p.data, _Storage)}
    try:
        return [_entry(name, tensor, offsets) for name, tensor in _tensors(state, ()) if tensor.layout is torch.strided]
    except Exception:  # an index is a convenience: whatever torch cannot do here must not cost a save
        return None


def _tensors(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield ".".join(path) or "tensor", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _tensors(item, (*path, str(place)))


def _entry(name: str, tensor: Any, offsets: Mapping[int, int]) -> dict[str, Any]:
    start = offsets.get(tensor.untyped_storage()._cdata)
    return {
        "name": name[:1000],
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "offset": start + tensor.storage_offset() * tensor.element_size() if start is not None else None,
        "size_bytes": tensor.numel() * tensor.element_size(),
    }
