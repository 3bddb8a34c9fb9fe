"""NumPy's files as states: an array (.npy), or a dict of arrays (.npz), read by NumPy itself."""

import io
import zipfile
from collections.abc import Collection
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
            found = numpy.load(file, allow_pickle=not is_untrusted)
            if not is_archive:
                return found if only is None else select_keys(found, only)
            names = list(found.files) if only is None else list(only)
            require(names, found.files)
            return {name: found[name] for name in names}
    except (HoldfastError, KeyError, *safety.INTERRUPTIONS):
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reraise(error)
        if _OBJECTS in str(error):
            raise UnsafeCheckpoint(
                "This checkpoint holds NumPy arrays of Python objects, which are pickled. If you trust its writer, "
                "weights_only=False loads it."
            ) from error
        raise UnreadableCheckpoint(f"NumPy cannot load this checkpoint: {error}") from error


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
