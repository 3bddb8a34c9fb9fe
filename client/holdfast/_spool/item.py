"""Spooled checkpoints on disk: a folder with a file and the facts of its save; for several, see `folder_item`.

It is written as the server writes: every byte is durable under a temporary name first, then the name, then the folder
that holds the name. What is read back is verified, and never unpickled here.
"""

import json
import os
import re
import secrets
import shutil
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .._api import digests
from .._api.wire import Chunk
from .._runtime.file_attributes import FileAttributes
from .._runtime.interruption import reraise, suppress
from .._runtime.parallel import in_parallel
from .._transfer import fsync
from .._transfer.upload_source import Readable
from ..errors import HoldfastError, IntegrityError

FILE, FACTS = "state.pt", "item.json"
HALF_DONE = ".new-"
"""The beginning of the names of folders that are not complete yet, or are being removed."""
VERSION, VERSION_OF_FOLDERS = 1, 2
"""The versions of items of one file, which every client reads, and of several files."""
_NAME = re.compile(r"(\d{12})-(\d+)-([0-9a-f]{32})")
"""The names of folders of checkpoints: number in the order of saving, size in bytes, and id of the save."""
_OWN = threading.local()
"""A read buffer for each thread, shared by all files."""
UNREADABLE = "unreadable"
"""The code of an error of this machine's disk, which does not mean that the checkpoint is corrupt."""


@dataclass(frozen=True, slots=True, order=True)
class SpooledCheckpoint:
    """A checkpoint in a folder of the spool. They sort in the order of saving."""

    order: int
    size_bytes: int
    save_id: str
    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "SpooledCheckpoint | None":
        """Return the checkpoint in a folder, or None if the folder's name is not that of one."""
        found = _NAME.fullmatch(folder.name)
        return cls(int(found[1]), int(found[2]), found[3], folder) if found else None

    @classmethod
    def all_in(cls, folder: Path) -> "list[SpooledCheckpoint]":
        """Return the checkpoints in the folders of a folder, in the order of saving."""
        with suppress(OSError):
            if not folder.is_dir():  # an exception would cost more than all the rest
                return []
            return sorted(item for path in folder.iterdir() if (item := cls.at(path)) is not None and path.is_dir())
        return []

    def facts(self) -> dict[str, Any]:
        """Read the facts of the save; see `read_facts`."""
        return read_facts(self.folder)

    @property
    def name(self) -> str | None:
        """The name of the checkpoint; None if that cannot be read."""
        with suppress(HoldfastError, OSError):
            return str(self.facts()["save"]["name"])
        return None


def write(folder: Path, save: Mapping[str, Any], source: Readable, about: Mapping[str, Any]) -> None:
    """Write a folder that holds a checkpoint, all of it durable except the folder's own name.

    The folder may exist, empty.

    Raises
    ------
    OSError
        It cannot be written; nothing of it is left.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_chunks(descriptor, source)
            facts = {
                "version": VERSION,
                **about,
                "save": dict(save),
                "size_bytes": source.size_bytes,
                "chunks": [[chunk.length, chunk.digest] for chunk in source.chunks()],
                "tensors": source.tensors,
            }
            jobs = [partial(os.fsync, descriptor), partial(write_facts, folder, facts)]
            in_parallel(jobs, lambda job: job())  # both wait for the disk at the same time
        finally:
            os.close(descriptor)
        fsync.sync(folder)
    except BaseException:
        discard(folder)
        raise


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts of a checkpoint into its folder, with a digest by which damage shows; durable except the name."""
    write_json(folder / FACTS, {**facts, "check": _check(facts)})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, durable except its name."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as sink:
        json.dump(value, sink)
        sink.flush()
        os.fsync(sink.fileno())


def discard(folder: Path) -> bool:
    """Remove a folder of this kind; False if it is still at its place.

    It is renamed first: a folder of which a part is missing is corrupt, then, not discarded. A reader that has its file
    open can continue to read.
    """
    gone = folder
    if not folder.name.startswith(HALF_DONE):
        with suppress(OSError):  # it is removed file by file, then
            gone = folder.rename(folder.with_name(f"{HALF_DONE}{secrets.token_hex(4)}-{folder.name}"))
    shutil.rmtree(gone, ignore_errors=True)
    return not folder.exists()


def _write_chunks(descriptor: int, source: Readable) -> None:
    spans = source.spans

    def write_chunk(place: int) -> None:
        data, offset = source.read(place)[0], spans[place][0]
        while data:
            done = os.pwrite(descriptor, data, offset)
            data, offset = data[done:], offset + done

    in_parallel(source.reading_order(), write_chunk)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read the facts of the checkpoint in a folder.

    Raises
    ------
    IntegrityError
        They are not what was written, or another version wrote them.
    FileNotFoundError
        It is no longer there.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
    except ValueError as error:
        reraise(error)
        facts = None
    if isinstance(facts, dict) and facts.get("version", VERSION) not in {VERSION, VERSION_OF_FOLDERS}:
        raise IntegrityError(f"{folder} was written by another version of holdfast", code="other_version")
    if not isinstance(facts, dict) or facts.pop("check", None) != _check(facts):
        raise IntegrityError(f"{folder / FACTS} is not what was written")
    return facts


class SpooledFile:
    """A file of a spooled checkpoint, to be sent or loaded. Close it in the end.

    Parameters
    ----------
    path : Path
        Its path.
    facts : mapping
        Its size, chunks and tensors, of what `read_facts` returns.
    stays_open : bool
        Whether it is open until it is closed, so that it can be read although the checkpoint is discarded. Otherwise it
        is opened for each chunk, as a checkpoint may have more files than a process may open.

    Raises
    ------
    IntegrityError
        The file has another length than it was written with.
    FileNotFoundError
        It is no longer there.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], *, stays_open: bool = True) -> None:
        self.size_bytes: int = facts["size_bytes"]
        self.tensors: list[dict[str, Any]] | None = facts["tensors"]
        self.attributes = FileAttributes.from_json(facts)
        self._chunks: list[Chunk] = []
        for length, digest in facts["chunks"]:
            offset = self._chunks[-1].offset + self._chunks[-1].length if self._chunks else 0
            self._chunks.append(Chunk(offset, length, digest))
        self.spans = [(chunk.offset, chunk.length) for chunk in self._chunks]
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if stays_open else None
        found = path.stat() if self._descriptor is None else os.fstat(self._descriptor)
        if found.st_size != self.size_bytes or (stays_open and not self.size_bytes):
            self.close()
            raise self._of_another_length()

    @property
    def what(self) -> str:
        """The name of the file in messages."""
        return str(self._path)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def __enter__(self) -> "SpooledFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, place: int) -> tuple[memoryview, str]:
        """Read a chunk; returns its bytes and the BLAKE3 digest that they should have."""
        chunk = self._chunks[place]
        buffer = getattr(_OWN, "buffer", b"")
        if len(buffer) < chunk.length:
            buffer = _OWN.buffer = bytearray(max(chunk.length, min(self.size_bytes, digests.CHUNK_BYTES)))
        view = memoryview(buffer)[: chunk.length]
        self._fill(view, chunk.offset)
        return view, chunk.digest

    def chunks(self) -> tuple[Chunk, ...]:
        """Return every chunk with the digest that it should have."""
        return tuple(self._chunks)

    def reading_order(self) -> list[int]:
        """Return the places of all chunks, in the order of the file."""
        return list(range(len(self._chunks)))

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks."""
        return {chunk.digest for chunk in self._chunks[:: max(1, len(self._chunks) // count)][:count]}

    def has_changed(self) -> bool:
        """Tell if the file differs from what was written."""
        return any(digests.of_chunk(self.read(place)[0]) != chunk.digest for place, chunk in enumerate(self._chunks))

    def copy_into(self, view: Callable[[int, int], memoryview], start: int, stop: int) -> None:
        """Copy the chunks that hold a range of bytes, verified.

        Parameters
        ----------
        view : callable
            Returns the memory for a chunk, from its offset and its length in bytes.
        start, stop : int
            The range, in bytes.

        Raises
        ------
        IntegrityError
            The bytes are not those that were saved.
        """
        starts = [chunk.offset for chunk in self._chunks]
        for chunk in self._chunks[bisect_right(starts, start) - 1 : bisect_right(starts, stop - 1)]:
            target = view(chunk.offset, chunk.length)
            self._fill(target, chunk.offset)
            if digests.of_chunk(target) != chunk.digest:
                raise IntegrityError(f"the bytes of {self._path} from {chunk.offset} are not those saved")

    def _fill(self, view: memoryview, offset: int) -> None:
        try:
            with ExitStack() as stack:
                descriptor = self._descriptor
                if descriptor is None:
                    descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                    stack.callback(os.close, descriptor)
                while view:
                    if not (count := os.preadv(descriptor, [view], offset)):
                        raise self._of_another_length()
                    view, offset = view[count:], offset + count
        except FileNotFoundError:
            raise
        except OSError as error:  # not to be mistaken for one of the network
            if isinstance(error, HoldfastError):
                raise
            reraise(error)
            raise IntegrityError(f"{self._path} cannot be read: {error}", code=UNREADABLE) from error

    def _of_another_length(self) -> IntegrityError:
        return IntegrityError(f"{self._path} has another length than it was written with")


def _check(facts: Mapping[str, Any]) -> str:
    return digests.of_chunk(json.dumps(facts, sort_keys=True).encode())
