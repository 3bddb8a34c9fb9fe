"""The contents of a checkpoint: its files, their chunks and ranges, checked against the checkpoint's digest."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

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
    """Return the contents of a checkpoint, which the server is asked for unless they came with its facts.

    Raises
    ------
    IntegrityError
        They do not match the checkpoint's digest.
    """
    files, batches, folders = _listed(_pages(server, checkpoint))
    for file in files:
        ends = [0, *(chunk.offset + chunk.length for chunk in file.chunks)]
        adds_up = [chunk.offset for chunk in file.chunks] == ends[:-1] and ends[-1] == file.size_bytes
        if not adds_up or any(chunk.length <= 0 for chunk in file.chunks):
            raise IntegrityError(f"the chunks of {file.path!r} do not make up the file")
    named = [(file.path, digests.of_file(file.chunks)) for file in files]
    if digests.of_checkpoint(named) != checkpoint.digest:
        raise IntegrityError(f"the contents of {checkpoint.name!r} do not match the checkpoint's digest")
    return Contents(files, batches, folders)


def _pages(server: Server, checkpoint: Checkpoint) -> Iterator[Mapping[str, Any]]:
    """Yield the pages of a checkpoint's chunks."""
    if checkpoint.attached is not None:
        yield checkpoint.attached.contents
        return
    params: dict[str, str] = {}
    while True:
        page = server.ask(f"/v1/checkpoints/{checkpoint.id}/chunks", params=params)
        yield page
        token = page.get("next_page_token")
        if token is None:
            return
        params["page_token"] = token


def _listed(pages: Iterator[Mapping[str, Any]]) -> Contents:
    """Return the files of all pages, each with its parts from all of them."""
    files: dict[str, FileChunks] = {}
    batches: list[Batch] = []
    folders: dict[str, FileAttributes] = {}
    for page in pages:
        with parse_errors():
            for found in map(FileChunks.from_json, page["files"]):
                files[found.path] = files[found.path].joined(found) if found.path in files else found
            batches += Batch.all_from_json(page)
            folders |= {each["path"]: FileAttributes.from_json(each) for each in page.get("folders") or ()}
    return Contents(list(files.values()), tuple(batches), folders)


def file_of(server: Server, checkpoint: Checkpoint) -> FileChunks:
    """Return the only file of a checkpoint.

    Raises
    ------
    InvalidRequest
        The checkpoint has several files.
    """
    files = contents_of(server, checkpoint).files
    if len(files) != 1:
        raise several_files(checkpoint.name, len(files))
    return files[0]


def several_files(name: str, count: int) -> InvalidRequest:
    """Return the error for a checkpoint of several files that is to be loaded as a state."""
    what = f"{name!r} has {count} files and is no single state"
    return InvalidRequest(f"{what}; use load_folder() or download()", code="several_files")
