"""One checkpoint that waits in a spool: a folder with a torch file and what is to be said of it.

It is written like the server writes: every byte durable under a temporary name first, then the name, then the folder
that holds the name. What is read back is verified, and never unpickled here.
"""

import json
import os
import secrets
import shutil
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from .._api import digests
from .._api.wire import Chunk
from .._runtime.interruption import reraise, suppress
from .._runtime.parallel import in_parallel
from ..errors import IntegrityError

FILE, FACTS = "state.pt", "item.json"
HALF_DONE = ".new-"
"""How the names of folders begin that are not there yet, or no more."""
VERSION = 1
UNREADABLE = "unreadable"
"""The code of an error of this machine's disk, which says nothing of what lies there."""


class Readable(Protocol):
    """What can be kept: a file in chunks."""

    size_bytes: int
    tensors: list[dict[str, Any]] | None

    @property
    def spans(self) -> Sequence[tuple[int, int]]: ...
    def reading_order(self) -> list[int]: ...
    def read(self, place: int) -> tuple[memoryview, str]: ...
    def chunks(self) -> tuple[Chunk, ...]: ...


def write(folder: Path, save: Mapping[str, Any], source: Readable, about: Mapping[str, Any]) -> None:
    """Make a folder that holds a checkpoint, all of it durable but for the folder's own name.

    Raises
    ------
    OSError
        It cannot be written. What was written of it is gone.
    """
    folder.mkdir(mode=0o700)
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
            jobs = [
                partial(os.fsync, descriptor),
                partial(write_json, folder / FACTS, facts | {"check": _check(facts)}),
            ]
            in_parallel(jobs, lambda job: job())  # the disk is waited for once
        finally:
            os.close(descriptor)
        sync(folder)
    except BaseException:
        discard(folder)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, durable but for its name."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as sink:
        json.dump(value, sink)
        sink.flush()
        os.fsync(sink.fileno())


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(folder: Path) -> bool:
    """Remove a folder of this kind; whether it is gone from where it lay.

    It goes as a whole, so that one of which something is missing was damaged, not discarded. Whoever reads its file
    goes on reading.
    """
    gone = folder
    if not folder.name.startswith(HALF_DONE):
        with suppress(OSError):  # then piece by piece
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
    """What is said of a checkpoint in a folder.

    Raises
    ------
    IntegrityError
        It is not what was written, or a later version wrote it.
    FileNotFoundError
        It has gone.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
    except ValueError:
        facts = None
    if isinstance(facts, dict) and facts.get("version", VERSION) != VERSION:
        raise IntegrityError(f"{folder} was written by another version of holdfast", code="other_version")
    if not isinstance(facts, dict) or facts.pop("check", None) != _check(facts):
        raise IntegrityError(f"{folder / FACTS} is not what was written")
    return facts


class Kept:
    """The file of a checkpoint that waits, to be sent or loaded. Close it in the end.

    Parameters
    ----------
    folder : Path
        Where it lies.
    facts : mapping
        What `read_facts` gave.

    Raises
    ------
    IntegrityError
        The file is not as long as it was.
    FileNotFoundError
        It has gone.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.size_bytes: int = facts["size_bytes"]
        self.tensors: list[dict[str, Any]] | None = facts["tensors"]
        self._chunks: list[Chunk] = []
        for length, digest in facts["chunks"]:
            offset = self._chunks[-1].offset + self._chunks[-1].length if self._chunks else 0
            self._chunks.append(Chunk(offset, length, digest))
        self.spans = [(chunk.offset, chunk.length) for chunk in self._chunks]
        self._path = folder / FILE
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(self._descriptor).st_size != self.size_bytes or not self.size_bytes:
            self.close()
            raise IntegrityError(f"{self._path} is not as long as it was")
        self._own = threading.local()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, place: int) -> tuple[memoryview, str]:
        """The bytes of a chunk, and the BLAKE3 that they should have."""
        chunk = self._chunks[place]
        buffer = getattr(self._own, "buffer", None)
        if buffer is None or len(buffer) < chunk.length:
            buffer = self._own.buffer = bytearray(max(chunk.length, digests.CHUNK_BYTES))
        view = memoryview(buffer)[: chunk.length]
        self._fill(view, chunk.offset)
        return view, chunk.digest

    def chunks(self) -> tuple[Chunk, ...]:
        """Every chunk with the digest that it should have."""
        return tuple(self._chunks)

    def reading_order(self) -> list[int]:
        """All chunks."""
        return list(range(len(self._chunks)))

    def sample(self, count: int) -> set[str]:
        """The digests of a few chunks."""
        return {chunk.digest for chunk in self._chunks[:: max(1, len(self._chunks) // count)][:count]}

    def has_changed(self) -> bool:
        """Whether the file is another than it was when it was written."""
        return any(digests.of_chunk(self.read(place)[0]) != chunk.digest for place, chunk in enumerate(self._chunks))

    def copy_into(self, view: Callable[[int, int], memoryview], start: int, stop: int) -> None:
        """Copy the chunks that hold these bytes to where ``view(offset, length)`` says, verified.

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
        while view:
            try:
                count = os.preadv(self._descriptor, [view], offset)
            except OSError as error:  # not to be taken for one of the network
                reraise(error)
                raise IntegrityError(f"{self._path} cannot be read: {error}", code=UNREADABLE) from error
            if not count:
                raise IntegrityError(f"{self._path} is not as long as it was")
            view, offset = view[count:], offset + count


def _check(facts: Mapping[str, Any]) -> str:
    return digests.of_chunk(json.dumps(facts, sort_keys=True).encode())
