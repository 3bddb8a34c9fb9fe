"""NumPy's files as states: an array (.npy), or a dict of arrays (.npz), read by NumPy itself."""

import io
import math
import zipfile
from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import Any

from ..._arguments.state_keys import require, select_keys
from ..._runtime import packages
from ..._runtime.interruption import reraise
from ...errors import HoldfastError, UnreadableCheckpoint, UnsafeCheckpoint
from . import safety
from .archive import Fetch
from .file_memory import FileMemory

_SUFFIX = ".npy"
_OBJECTS = "allow_pickle"


def load_state(
    memory: FileMemory, fetch: Fetch, *, is_archive: bool, only: Collection[Any] | None, is_untrusted: bool
) -> Any:
    """Return the array of a file, or the arrays of an archive by name.

    Parameters
    ----------
    memory, fetch
        As for `load_state.load_state`.
    only : collection, optional
        The names of the arrays to load. The whole file is fetched all the same.

    Raises
    ------
    MissingPackage
        NumPy is not installed.
    UnsafeCheckpoint
        It holds pickled objects, or would unfold to far more than its size, and is not trusted.
    UnreadableCheckpoint
        It is damaged.
    KeyError
        There is no such array.
    """
    try:
        import numpy
    except ModuleNotFoundError as error:
        raise packages.missing("numpy", "Loading this checkpoint, which NumPy wrote,") from error
    fetch([(0, memory.size_bytes)])
    if is_archive:
        safety.refuse_unfolding(memory, is_untrusted=is_untrusted)
    try:
        with io.BufferedReader(_File(memory)) as file:
            found = _arrays(numpy, file, memory.size_bytes, is_archive=is_archive, is_untrusted=is_untrusted)
            if not isinstance(found, dict):
                return found() if only is None else select_keys(found(), only)
            names = list(found) if only is None else list(only)
            require(names, found)
            return {name: found[name]() for name in names}
    except (HoldfastError, KeyError, MemoryError, *safety.INTERRUPTIONS):
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for a damaged file
        reraise(error)
        if _OBJECTS in str(error):
            raise UnsafeCheckpoint(
                "This checkpoint holds NumPy arrays of Python objects, which are pickled. If you trust its writer, "
                "weights_only=False loads it."
            ) from error
        raise UnreadableCheckpoint(f"NumPy cannot load this checkpoint: {error}") from error


def _arrays(numpy: Any, file: Any, size_bytes: int, *, is_archive: bool, is_untrusted: bool) -> Any:
    """Return a function that reads the array of a file, or such functions by name for an archive."""
    if not is_archive:
        return partial(_array, numpy, lambda: _rewound(file), size_bytes, is_untrusted)
    archive = zipfile.ZipFile(file)
    members = (member for member in archive.infolist() if member.filename.endswith(_SUFFIX))
    return {
        member.filename.removesuffix(_SUFFIX): partial(
            _array, numpy, partial(archive.open, member), member.file_size, is_untrusted
        )
        for member in members
    }


def _rewound(file: Any) -> Any:
    file.seek(0)
    return nullcontext(file)


def _array(numpy: Any, opened: Callable[[], Any], size_bytes: int, is_untrusted: bool) -> Any:
    """Read an array, once its header is known to claim no more than it has, as NumPy takes memory for the claim."""
    form = numpy.lib.format
    with opened() as file:
        version = form.read_magic(file)
        header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = header(file)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size_bytes:
            raise ValueError("its header claims more than it holds")
    with opened() as file:
        return form.read_array(file, allow_pickle=not is_untrusted)


class _File(io.RawIOBase):
    """The memory as a file that can be read and sought."""

    def __init__(self, memory: FileMemory) -> None:
        self._memory = memory
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._memory.size_bytes}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._memory.size_bytes - self._place))
        view[:count] = self._memory.view(self._place, count) if count else b""
        self._place += count
        return count
