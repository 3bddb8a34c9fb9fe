"""The tensor index of an HDF5 file, as Keras writes ``.weights.h5``, if h5py is installed."""

import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

MOST_LOOKS = 200_000


class Dataset(NamedTuple):
    """A dataset of numbers: its path within the file, and where its bytes are, if they are in one piece."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int | None
    size_bytes: int


def datasets(read: Callable[[int, int], bytes], start: int, size_bytes: int) -> Iterator[Dataset] | None:
    """Yield the datasets of an HDF5 file; return None if h5py is not installed.

    Parameters
    ----------
    read : callable
        Returns the bytes at an offset, of a length, of the file that holds the HDF5 file.
    start, size_bytes : int
        The place of the HDF5 file within it. Offsets count from the beginning of the outer file.
    """
    try:
        import h5py
    except ImportError:
        return None
    return _found(h5py, io.BufferedReader(_Window(read, start, size_bytes)), start)


def _found(h5py: Any, window: io.BufferedIOBase, start: int) -> Iterator[Dataset]:
    looks, seen = 0, set()
    with h5py.File(window, "r") as file:
        todo = [("", file)]
        while todo:
            path, group = todo.pop()
            for name in reversed(list(group)):
                looks += 1
                if looks > MOST_LOOKS:
                    raise ValueError("there is no end of it")
                inner = f"{path}/{name}" if path else name
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                entry = group[name]
                place = h5py.h5o.get_info(entry.id).addr
                if isinstance(entry, h5py.Group) and place not in seen:  # a group may hold itself
                    seen.add(place)
                    todo.append((inner, entry))
                elif isinstance(entry, h5py.Dataset) and entry.shape is not None:
                    yield _dataset(inner, entry, start)


def _dataset(name: str, entry: Any, start: int) -> Dataset:
    """Describe a dataset; Keras keeps bfloat16 as other bytes, and names it in an attribute."""
    offset = entry.id.get_offset() if entry.chunks is None and not entry.external else None
    dtype = entry.attrs.get("dtype", entry.dtype.name)
    size_bytes = entry.size * entry.dtype.itemsize
    return Dataset(name, str(dtype), entry.shape, start + offset if offset is not None else None, size_bytes)


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, read: Callable[[int, int], bytes], start: int, size_bytes: int) -> None:
        super().__init__()
        self._read, self._start, self._size_bytes = read, start, size_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size_bytes}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._size_bytes - self._place))
        data = self._read(self._start + self._place, length)
        view[: len(data)] = data
        self._place += len(data)
        return len(data)
