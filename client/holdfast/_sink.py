"""What ``torch.save`` writes to: it keeps what is small and only notes where each tensor's storage would lie."""

import ctypes
import pickle
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import takewhile
from typing import Any, NamedTuple

from . import _zip
from ._digests import CHUNK_BYTES

ALIGNMENT = 4096
"""Storages begin at multiples of this, so that file systems can share their blocks."""

_STAGING = threading.local()
_ALIGNING = threading.Lock()


class Piece(NamedTuple):
    """Bytes of the file: at hand, or a storage's."""

    offset: int
    length: int
    data: "bytes | Storage"


def written(state: Any, leaving_out: Callable[[], Any] | None) -> "Sink":
    """Let torch write a state's file, without the data of its storages."""
    import torch
    from torch.utils.serialization import config

    sink = Sink()
    with _ALIGNING, config.patch("save.storage_alignment", ALIGNMENT), ExitStack() as stack:  # type: ignore[attr-defined]

        def leave_out() -> None:
            """Not before the pickle is made: what an object saves by itself within it is to be whole."""
            if leaving_out is not None:
                stack.enter_context(leaving_out())

        torch.save(state, sink, pickle_module=_recorder(sink, leave_out))  # type: ignore[arg-type]
    return sink


class Storage:
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
        return memoryview(kind.from_address(self.address + start)).cast("B")

    @property
    def address(self) -> int:
        """Where the bytes lie, on this machine."""
        return int(self.storage.data_ptr())

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


class Sink:
    """What ``torch.save`` writes to: keeps everything but the data of storages."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.pieces: list[Piece] = []
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
        self._keep(length, Storage(self.storages[self._name]))
        self._name = ""
        return length

    def flush(self) -> None:
        pass

    def records(self) -> Iterator[tuple[_zip.Entry, Piece]]:
        """The storages with data, as the directory at the end names them."""
        last = takewhile(lambda data: isinstance(data, bytes), (piece.data for piece in reversed(self.pieces)))
        tail = b"".join(reversed([data for data in last if isinstance(data, bytes)]))
        offset, length = _zip.directory_extent(tail, self.size_bytes)
        start = offset - (self.size_bytes - len(tail))
        entries = sorted(_zip.entries(tail[start : start + length], offset), key=lambda entry: entry.header_offset)
        pieces = iter(piece for piece in self.pieces if isinstance(piece.data, Storage))
        named = [entry for entry in entries if entry.size_bytes and entry.name.partition("/")[2] in self.storages]
        return zip(named, pieces, strict=True)

    def replace(self, copied: Callable[[list[Storage]], list[Storage]]) -> None:
        """Take other storages of the same sizes in place of those that were met."""
        others = iter(copied([piece.data for piece in self.pieces if isinstance(piece.data, Storage)]))
        self.pieces = [
            piece._replace(data=next(others)) if isinstance(piece.data, Storage) else piece for piece in self.pieces
        ]

    def _keep(self, length: int, data: bytes | Storage) -> None:
        if length:
            self.pieces.append(Piece(self.size_bytes, length, data))
            self.size_bytes += length


def _recorder(sink: Sink, pickled: Callable[[], None]) -> types.ModuleType:
    """The module ``pickle``, whose pickler tells the sink of every storage, and when it is done."""

    class Pickler(pickle.Pickler):
        def __init_subclass__(cls) -> None:
            asked = cls.persistent_id

            def persistent_id(self: Any, value: Any) -> Any:
                found = asked(self, value)
                if found is not None:
                    sink.storages[f"data/{found[2]}"] = getattr(value, "_untyped_storage", value)
                return found

            cls.persistent_id = persistent_id  # type: ignore[method-assign]

        def dump(self, value: Any) -> None:
            super().dump(value)
            pickled()

    module = types.ModuleType("pickle")
    module.__dict__.update({name: getattr(pickle, name) for name in pickle.__all__})
    module.Pickler = Pickler  # type: ignore[attr-defined]
    return module
