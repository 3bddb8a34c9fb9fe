"""Entry of the reader: chooses the format and returns the state, whole or for some of its keys."""

import io
import os
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any

from ..._arguments.state_keys import select_keys
from ..._runtime import gc_pause, packages
from ..._runtime.interruption import reraise
from ...errors import HoldfastError, UnreadableCheckpoint
from . import formats, legacy, numpy_files, safetensors, safety, zip_directory
from .archive import Archive, Fetch, NeedsCopy, unpickle
from .file_memory import FileMemory
from .stub_unpickler import StubUnpickler

_PIECE_BYTES = 64 * 1024 * 1024


def load_state(
    memory: FileMemory,
    fetch: Fetch,
    *,
    only: Collection[Any] | None = None,
    map_location: Any = None,
    weights_only: bool | None = True,
) -> Any:
    """Return the state of a torch file whose bytes arrive in memory on demand, as ``torch.load`` would.

    Parameters
    ----------
    memory : FileMemory
        The memory for the file's bytes, which becomes that of the tensors.
    fetch : callable
        Brings bytes there, verified; called before they are read.
    only : collection, optional
        The keys of the state to load; the storages of others are not fetched.

    Raises
    ------
    UnsafeCheckpoint
        It holds more than weights, or unfolds to far more than its size, and ``weights_only`` was not turned off.
    UnreadableCheckpoint
        Torch cannot load it.
    MissingPackage
        Torch, or a package that the state needs, is not installed.
    KeyError
        The state has no such key.
    """
    packages.torch_for("Loading a checkpoint")
    is_untrusted = safety.is_weights_only(weights_only)
    head = min(formats.HEAD_BYTES, memory.size_bytes)
    fetch([(0, memory.size_bytes if only is None else head)])
    found = formats.detect(memory.bytes(0, head), memory.size_bytes)
    if found is formats.SAFETENSORS:
        return safetensors.load_state(memory, fetch, only=only, map_location=map_location)
    if found in (formats.NUMPY, formats.NUMPY_ARCHIVE):
        is_archive = found is formats.NUMPY_ARCHIVE
        return numpy_files.load_state(memory, fetch, is_archive=is_archive, only=only, is_untrusted=is_untrusted)
    if found not in (formats.ZIP, formats.LEGACY, formats.TAR):
        raise UnreadableCheckpoint(found.refusal)
    try:
        if found is not formats.ZIP:
            raise NeedsCopy
        state = _mapped(memory, fetch, only, map_location, is_untrusted)
    except NeedsCopy:
        fetch([(0, memory.size_bytes)])
        state = _copied(memory, found, map_location, is_untrusted)
    return state if only is None else select_keys(state, only)


def _mapped(
    memory: FileMemory, fetch: Fetch, only: Collection[Any] | None, map_location: Any, is_untrusted: bool
) -> Any:
    """Return the state with storages over the memory."""
    if _needs_torchs_reader(map_location):
        raise NeedsCopy
    try:
        archive = gc_pause.deferred(lambda: Archive(memory, fetch))
        if only is not None:
            archive.narrow(only, fetch)
        if map_location is not None and str(map_location) != "cpu":
            archive.refuse_empty_storages()
    except (HoldfastError, *safety.INTERRUPTIONS):
        raise
    except Exception as error:  # torch may still be able to read this file
        reraise(error)
        raise NeedsCopy from error
    with safety.translate_errors(
        is_untrusted=is_untrusted,
        asks_user=_is_asked(map_location),
        passing=NeedsCopy,
        is_sound=lambda: _is_sound(archive.get_record("data.pkl")),
    ):
        return gc_pause.deferred(lambda: unpickle(archive, map_location, is_untrusted))


def _copied(memory: FileMemory, found: formats.Format, map_location: Any, is_untrusted: bool) -> Any:
    """Return the state by ``torch.load`` alone; refuse beforehand code, excessive memory and missing bytes."""
    import torch

    if found is formats.ZIP:
        safety.refuse_zip(memory, is_untrusted=is_untrusted)
    elif found is formats.TAR:
        if not legacy.is_tarred(memory):
            raise UnreadableCheckpoint(found.refusal)
        if is_untrusted:
            safety.refuse_tar()
    is_sound = found is not formats.LEGACY or _legacy_is_sound(memory)
    with (
        safety.translate_errors(
            is_untrusted=is_untrusted,
            asks_user=_is_asked(map_location),
            passing=NeedsCopy,
            is_sound=lambda: is_sound if found is not formats.ZIP else _is_sound(_pickle_in(memory)),
        ),
        _opened(memory, found) as file,
    ):
        return torch.load(file, map_location=map_location, weights_only=is_untrusted, mmap=False)


def _needs_torchs_reader(map_location: Any) -> bool:
    """Tell if torch wants no data, only the shapes of tensors and the offsets of their bytes."""
    import torch
    from torch import _guards

    is_meta = map_location == "meta" or (isinstance(map_location, torch.device) and map_location.type == "meta")
    return is_meta or _guards.detect_fake_mode(None) is not None


def _is_asked(map_location: Any) -> bool:
    return callable(map_location) and not isinstance(map_location, dict)


@contextmanager
def _opened(memory: FileMemory, found: formats.Format) -> Iterator[Any]:
    """Yield the bytes as a file. The older formats need a file of the system, as torch asks for its descriptor."""
    if found is formats.ZIP:
        with memory.file_for_torch() as file:
            yield file
        return
    with _unnamed() as moved:
        for start in range(0, memory.size_bytes, _PIECE_BYTES):
            length = min(_PIECE_BYTES, memory.size_bytes - start)
            moved.write(memory.view(start, length))
            memory.give_back(start, length)
        moved.seek(0)
        yield moved


def _unnamed() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("holdfast"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


def _legacy_is_sound(memory: FileMemory) -> bool:
    """Tell if the pickles of an older file can be read; refuse a file that lacks storages that they claim."""
    try:
        legacy.refuse_missing_storages(memory)
    except (HoldfastError, *safety.INTERRUPTIONS):
        raise
    except Exception as error:
        reraise(error)
        return False
    return True


def _is_sound(pickled: bytes) -> bool:
    """Tell if a pickle can be read, whatever it names."""
    try:
        StubUnpickler(io.BytesIO(pickled), lambda reference: None).load()
    except safety.INTERRUPTIONS:
        raise
    except Exception as error:
        reraise(error)
        return False
    return True


def _pickle_in(memory: FileMemory) -> bytes:
    """Return the pickle of a torch zip file; empty if there is none."""
    try:
        entries = zip_directory.entries(zip_directory.directory_in(memory.bytes, memory.size_bytes))
        found = next(entry for entry in entries if entry.name.partition("/")[2] == "data.pkl")
        start = zip_directory.data_offset(found, memory.bytes(found.header_offset, zip_directory.LOCAL_BYTES))
        stored = memory.bytes(start, found.stored_bytes)
        return stored if found.is_stored else zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, found.size_bytes)
    except safety.INTERRUPTIONS:
        raise
    except Exception as error:
        reraise(error)
        return b""
