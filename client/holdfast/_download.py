"""Fetch a checkpoint's files: every chunk is verified before anybody sees it."""

import mmap
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from . import _digests, _names
from ._http import Server
from ._wire import Checkpoint, FileChunks
from .errors import IntegrityError, InvalidRequest

Write = Callable[[int, memoryview], None]


def contents(server: Server, checkpoint: Checkpoint) -> list[FileChunks]:
    """What a checkpoint consists of. `IntegrityError` where that is not what its digest says."""
    answer = server.call("GET", f"/v1/checkpoints/{checkpoint.id}/chunks")
    files = [FileChunks.from_json(found) for found in answer["files"]]
    named = [(file.path, _digests.of_file(file.chunks)) for file in files]
    if _digests.of_checkpoint(named) != checkpoint.digest:
        raise IntegrityError(f"what the server says of {checkpoint.name!r} does not have the checkpoint's digest")
    return files


def into_memory(server: Server, checkpoint: Checkpoint) -> mmap.mmap:
    """The bytes of a checkpoint of one file, verified.

    Raises
    ------
    InvalidRequest
        The checkpoint has several files.
    IntegrityError
        The bytes are not those that were saved.
    """
    files = contents(server, checkpoint)
    if len(files) != 1:
        raise InvalidRequest(
            f"{checkpoint.name!r} has {len(files)} files and is no single state; use download()", code="several_files"
        )
    memory = mmap.mmap(-1, max(1, files[0].size_bytes))

    def write(offset: int, data: memoryview) -> None:
        memory[offset : offset + len(data)] = data

    _fetch(server, files[0], write)
    return memory


def into_files(server: Server, checkpoint: Checkpoint, to: Path) -> Path:
    """Put a checkpoint's file, or folder of files, at a path. Each file replaces what stood there once it is verified.

    Raises
    ------
    IntegrityError
        The bytes are not those that were saved, or a file's path leads out of the checkpoint.
    """
    files = contents(server, checkpoint)
    if [file.path for file in files] == [checkpoint.name]:
        _into_file(server, files[0], to)
        return to
    places = [to.joinpath(*_names.components(file.path)) for file in files]
    for file, place in zip(files, places, strict=True):
        _into_file(server, file, place)
    return to


def _into_file(server: Server, file: FileChunks, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as sink:

            def write(offset: int, data: memoryview) -> None:
                os.pwrite(sink.fileno(), data, offset)

            _fetch(server, file, write)
            os.fsync(sink.fileno())
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)


def _fetch(server: Server, file: FileChunks, write: Write) -> None:
    """Fetch a file's ranges in order, cut them into chunks, verify each, and hand it on."""
    chunks = iter(file.chunks)
    expected = next(chunks, None)
    buffer = bytearray()
    for wanted in file.ranges:
        for piece in server.fetch(wanted.method, wanted.url, wanted.headers, wanted.length):
            buffer += piece
            while expected is not None and len(buffer) >= expected.length:
                with memoryview(buffer) as whole, whole[: expected.length] as data:
                    if _digests.of_chunk(data) != expected.digest:
                        raise IntegrityError(f"the bytes of {file.path!r} from {expected.offset} are not those saved")
                    write(expected.offset, data)
                del buffer[: expected.length]
                expected = next(chunks, None)
    if expected is not None or buffer:
        raise IntegrityError(f"{file.path!r} did not come whole")
