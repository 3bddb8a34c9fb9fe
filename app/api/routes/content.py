"""Routes of bytes: a checkpoint's files, and the best and the latest of a directory."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.api import file_response
from app.api.dependencies import FindingDep, Reader
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
    206: {"description": "The range that was asked for.", "content": {"application/octet-stream": {}}},
    304: {"description": "The file has the ETag that was named."},
    412: {"description": "The file does not have the ETag that was named."},
}
NOT_SERVED = (Altered, RecordUnreadable, RangeNotSatisfiable)
BY_DIRECTORY = {**BYTES, **refuses(InvalidName, DirectoryNotFound, NoCheckpoint, NoBest, SeveralFiles, *NOT_SERVED)}
BY_ID = {**BYTES, **refuses(CheckpointNotFound, CheckpointRemoved, SeveralFiles, *NOT_SERVED)}


@router.head("/best/content", name="head_best_content", response_class=Response, responses=BY_DIRECTORY)
@router.get("/best/content", response_class=Response, responses=BY_DIRECTORY)
def get_best_content(
    request: Request, directory: DirectoryQuery, finding: FindingDep, _: Reader, by: By = None, mode: ModeQuery = None
) -> Response:
    """The bytes of the best checkpoint of a directory; `several_files` where it has more than one."""
    return file_response.respond(request, finding.open_best(directory, by=by, mode=mode))


@router.head("/latest/content", name="head_latest_content", response_class=Response, responses=BY_DIRECTORY)
@router.get("/latest/content", response_class=Response, responses=BY_DIRECTORY)
def get_latest_content(request: Request, directory: DirectoryQuery, finding: FindingDep, _: Reader) -> Response:
    """The bytes of the newest checkpoint of a directory; `several_files` where it has more than one."""
    return file_response.respond(request, finding.open_latest(directory))


@router.head("/{checkpoint_id}/content", name="head_content", response_class=Response, responses=BY_ID)
@router.get("/{checkpoint_id}/content", response_class=Response, responses=BY_ID)
def get_content(request: Request, checkpoint_id: Id, finding: FindingDep, _: Reader) -> Response:
    """The bytes of a checkpoint of one file; `several_files` where it has more."""
    return file_response.respond(request, finding.open(checkpoint_id))


FILE = {**BY_ID, **refuses(InvalidName, CheckpointNotFound, FileNotInCheckpoint, CheckpointRemoved, *NOT_SERVED)}


@router.head("/{checkpoint_id}/files/{path:path}", name="head_file", response_class=Response, responses=FILE)
@router.get("/{checkpoint_id}/files/{path:path}", response_class=Response, responses=FILE)
def get_file(request: Request, checkpoint_id: Id, path: FilePath, finding: FindingDep, _: Reader) -> Response:
    """The bytes of one file of a checkpoint."""
    return file_response.respond(request, finding.open(checkpoint_id, path))


@router.get(
    "/{checkpoint_id}/batch",
    response_class=Response,
    responses={
        200: {"description": "The bytes of the files.", "content": {"application/octet-stream": {}}},
        **refuses(CheckpointNotFound, FileNotInCheckpoint, CheckpointRemoved, TooLarge, Altered, RecordUnreadable),
    },
)
def get_batch(checkpoint_id: Id, files: BatchQuery, finding: FindingDep, _: Reader) -> Response:
    """The bytes of several small files, one after another; `chunks` says which, and how they are named here."""
    return file_response.attachment(finding.read_batch(checkpoint_id, batches.places(files)))
