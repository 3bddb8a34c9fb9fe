"""Routes of file content: the files of a checkpoint, and the best and latest checkpoint of a directory."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.api import file_response
from app.api.dependencies import ContentsDep, Reader
from app.api.schemas.parameters import BatchQuery, By, DirectoryQuery, FilePath, Id, ModeQuery
from app.core import batches
from app.core.errors import (
    Altered,
    CheckpointNotFound,
    CheckpointRemoved,
    DirectoryNotFound,
    FileNotInCheckpoint,
    InvalidName,
    NoBest,
    NoCheckpoint,
    RangeNotSatisfiable,
    RecordUnreadable,
    SeveralFiles,
    TooLarge,
)
from app.http.problems import refuses

router = APIRouter(prefix="/checkpoints", tags=["bytes"])

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": {"application/octet-stream": {}}},
    206: {"description": "The requested range.", "content": {"application/octet-stream": {}}},
    304: {"description": "The file matches `If-None-Match`."},
    412: {"description": "The file does not match `If-Match`."},
}
READ_REFUSALS = (Altered, RecordUnreadable, RangeNotSatisfiable)
BY_DIRECTORY = {**BYTES, **refuses(InvalidName, DirectoryNotFound, NoCheckpoint, NoBest, SeveralFiles, *READ_REFUSALS)}
BY_ID = {**BYTES, **refuses(CheckpointNotFound, CheckpointRemoved, SeveralFiles, *READ_REFUSALS)}


@router.head("/best/content", name="head_best_content", response_class=Response, responses=BY_DIRECTORY)
@router.get("/best/content", response_class=Response, responses=BY_DIRECTORY)
def get_best_content(
    request: Request, directory: DirectoryQuery, contents: ContentsDep, _: Reader, by: By = None, mode: ModeQuery = None
) -> Response:
    """Download the best checkpoint of a directory, if it has one file.

    Refused with `several_files` if it has more.
    """
    return file_response.respond(request, contents.open_best(directory, by=by, mode=mode))


@router.head("/latest/content", name="head_latest_content", response_class=Response, responses=BY_DIRECTORY)
@router.get("/latest/content", response_class=Response, responses=BY_DIRECTORY)
def get_latest_content(request: Request, directory: DirectoryQuery, contents: ContentsDep, _: Reader) -> Response:
    """Download the latest checkpoint of a directory, if it has one file.

    Refused with `several_files` if it has more.
    """
    return file_response.respond(request, contents.open_latest(directory))


FILE_BY_DIRECTORY = {
    **BYTES,
    **refuses(InvalidName, DirectoryNotFound, NoCheckpoint, NoBest, FileNotInCheckpoint, *READ_REFUSALS),
}


@router.head("/best/files/{path:path}", name="head_best_file", response_class=Response, responses=FILE_BY_DIRECTORY)
@router.get("/best/files/{path:path}", response_class=Response, responses=FILE_BY_DIRECTORY)
def get_best_file(
    request: Request,
    path: FilePath,
    directory: DirectoryQuery,
    contents: ContentsDep,
    _: Reader,
    by: By = None,
    mode: ModeQuery = None,
) -> Response:
    """Download one file of the best checkpoint of a directory."""
    return file_response.respond(request, contents.open_best(directory, path, by=by, mode=mode))


@router.head("/latest/files/{path:path}", name="head_latest_file", response_class=Response, responses=FILE_BY_DIRECTORY)
@router.get("/latest/files/{path:path}", response_class=Response, responses=FILE_BY_DIRECTORY)
def get_latest_file(
    request: Request, path: FilePath, directory: DirectoryQuery, contents: ContentsDep, _: Reader
) -> Response:
    """Download one file of the latest checkpoint of a directory."""
    return file_response.respond(request, contents.open_latest(directory, path))


@router.head("/{checkpoint_id}/content", name="head_content", response_class=Response, responses=BY_ID)
@router.get("/{checkpoint_id}/content", response_class=Response, responses=BY_ID)
def get_content(request: Request, checkpoint_id: Id, contents: ContentsDep, _: Reader) -> Response:
    """Download a checkpoint of one file.

    Refused with `several_files` if it has more.
    """
    return file_response.respond(request, contents.open(checkpoint_id))


FILE = {**BY_ID, **refuses(InvalidName, CheckpointNotFound, FileNotInCheckpoint, CheckpointRemoved, *READ_REFUSALS)}


@router.head("/{checkpoint_id}/files/{path:path}", name="head_file", response_class=Response, responses=FILE)
@router.get("/{checkpoint_id}/files/{path:path}", response_class=Response, responses=FILE)
def get_file(request: Request, checkpoint_id: Id, path: FilePath, contents: ContentsDep, _: Reader) -> Response:
    """Download one file of a checkpoint."""
    return file_response.respond(request, contents.open(checkpoint_id, path))


@router.get(
    "/{checkpoint_id}/batch",
    response_class=Response,
    responses={
        200: {"description": "The files, one after another.", "content": {"application/octet-stream": {}}},
        **refuses(CheckpointNotFound, FileNotInCheckpoint, CheckpointRemoved, TooLarge, Altered, RecordUnreadable),
    },
)
def get_batch(checkpoint_id: Id, files: BatchQuery, contents: ContentsDep, _: Reader) -> Response:
    """Download several small files in one response, one after another.

    `GET /v1/checkpoints/{checkpoint_id}/chunks` lists the batches and their URLs.
    """
    return file_response.attachment(contents.read_batch(checkpoint_id, batches.indices_in(files)))
