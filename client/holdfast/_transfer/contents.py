"""The contents of a checkpoint: its files, their chunks and ranges, checked against the checkpoint's digest."""

from typing import NamedTuple

from .._api import digests
from .._api.server import Server, parse_errors
from .._api.wire import Batch, Checkpoint, FileChunks
from .._runtime.file_attributes import FileAttributes
from ..errors import IntegrityError, InvalidRequest


class Contents(NamedTuple):
    """The files of a checkpoint, the batches in which small ones can be fetched, and the attributes of its folders."""

    files: list[FileChunks]
    batches: tuple[Batch, ...]
    folders: dict[str, FileAttributes]


def contents_of(server: Server, checkpoint: Checkpoint) -> Contents:
    """Ask the server for the contents of a checkpoint. `IntegrityError` if they do not match its digest."""
    files, batches, folders = _listed(server, f"/v1/checkpoints/{checkpoint.id}/chunks")
    for file in files:
        ends = [0, *(chunk.offset + chunk.length for chunk in file.chunks)]
        adds_up = [chunk.offset for chunk in file.chunks] == ends[:-1] and ends[-1] == file.size_bytes
        if not adds_up or any(chunk.length <= 0 for chunk in file.chunks):
            raise IntegrityError(f"the chunks of {file.path!r} do not make up the file")
    named = [(file.path, digests.of_file(file.chunks)) for file in files]
    if digests.of_checkpoint(named) != checkpoint.digest:
        raise IntegrityError(f"the contents of {checkpoint.name!r} do not match the checkpoint's digest")
    return Contents(files, batches, folders)


def _listed(server: Server, path: str) -> Contents:
    """Return the files of all pages, each with its parts from all of them."""
    files: dict[str, FileChunks] = {}
    batches: list[Batch] = []
    folders: dict[str, FileAttributes] = {}
    params: dict[str, str] = {}
    while True:
        answer = server.ask(path, params=params)
        with parse_errors():
            for found in map(FileChunks.from_json, answer["files"]):
                files[found.path] = files[found.path].joined(found) if found.path in files else found
            batches += Batch.all_from_json(answer)
            folders |= {each["path"]: FileAttributes.from_json(each) for each in answer.get("folders") or ()}
            token = answer.get("next_page_token")
        if token is None:
            return Contents(list(files.values()), tuple(batches), folders)
        params["page_token"] = token


def file_of(server: Server, checkpoint: Checkpoint) -> FileChunks:
    """Return the only file of a checkpoint.

    Raises
    ------
    InvalidRequest
        The checkpoint has several files.
    """
    files = contents_of(server, checkpoint).files
    if len(files) != 1:
        raise InvalidRequest(
            f"{checkpoint.name!r} has {len(files)} files and is no single state; use download()", code="several_files"
        )
    return files[0]
