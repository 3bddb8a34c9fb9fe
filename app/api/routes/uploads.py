"""Routes of uploads: reserve, send bytes at offsets, commit."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import (
    CheckpointsDep,
    CommittingDep,
    FindingDep,
    PermissionFirstRoute,
    UploadingDep,
    Writer,
    conditions_of,
)
from app.api.schemas.answers import CommittedOut
from app.api.schemas.parameters import BatchQuery, FilePath, Id
from app.api.schemas.requests import CommitIn, UploadIn
from app.api.schemas.transfers import BatchReceivedOut, ReceivedOut, UploadOut
from app.api.schemas.values import MAX_INT
from app.core import batches
from app.core.errors import (
    BodyAltered,
    DigestMismatch,
    DirectoryNotFound,
    FileNotInCheckpoint,
    ForeignFile,
    InvalidName,
    ModeConflict,
    NameTaken,
    NoSpace,
    NotImproved,
    NotReady,
    Pinned,
    PreconditionFailed,
    QuotaExceeded,
    RangeMisaligned,
    RangesMissing,
    SaveIdReused,
    Superseded,
    TooLarge,
    TooManyUploads,
    UploadBusy,
    UploadNotFound,
    WrongLength,
)
from app.core.spans import Span
from app.http.body.raw import UNBOUNDED, declared_length, receive
from app.http.problems import refuses
from app.service.commit.publish import Committed

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=PermissionFirstRoute)

AGAINST_A_SAVE = (ModeConflict, NameTaken, Superseded, Pinned, ForeignFile, NotImproved, NoSpace, QuotaExceeded)
AGAINST_A_BODY = (BodyAltered,)
AGAINST_A_RANGE = (*AGAINST_A_BODY, WrongLength, RangeMisaligned, DigestMismatch, NoSpace)
AGAINST_A_BATCH = (*AGAINST_A_BODY, WrongLength, DigestMismatch, NoSpace, QuotaExceeded)
AGAINST_A_COMMIT = (PreconditionFailed, RangesMissing, DigestMismatch, WrongLength, *AGAINST_A_SAVE)


def committed_answer(committed: Committed, response: Response) -> CommittedOut:
    """201 for a checkpoint that is new, 200 for one that the same save had made before."""
    if committed.repeated:
        response.status_code = 200
    return CommittedOut.from_commit(committed)


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": UploadOut, "description": "The same save was begun or committed before."},
        **refuses(InvalidName, SaveIdReused, TooLarge, NotReady, DirectoryNotFound, TooManyUploads, *AGAINST_A_SAVE),
    },
)
def reserve_upload(
    upload: UploadIn, uploading: UploadingDep, finding: FindingDep, response: Response, may: Writer
) -> UploadOut:
    """Reserve a place for a checkpoint; the answer says which ranges to send, and how.

    Whatever stands against the save is said here, before any byte is sent.
    """
    may.reach(upload.directory)
    base = upload.base if upload.base is not None and finding.is_readable(may, upload.base) else None
    reservation = uploading.reserve(upload.save(may, base))
    if not reservation.is_new:
        response.status_code = 200
    return UploadOut.of(reservation)


@router.get("/{upload_id}", responses=refuses(UploadNotFound))
def get_upload(upload_id: Id, uploading: UploadingDep, _: Writer) -> UploadOut:
    """An upload and what it still lacks, its lease renewed; or the checkpoint that it became."""
    return UploadOut.of(uploading.get(upload_id))


@router.put(
    "/{upload_id}/files/{path:path}",
    max_body_size=UNBOUNDED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    responses=refuses(InvalidName, UploadNotFound, FileNotInCheckpoint, UploadBusy, *AGAINST_A_RANGE),
)
async def receive_range(
    request: Request,
    upload_id: Id,
    path: FilePath,
    uploading: UploadingDep,
    _: Writer,
    offset: Annotated[int, Query(ge=0, le=MAX_INT, description="Where the bytes belong.")] = 0,
    length: Annotated[int | None, Query(ge=0, le=MAX_INT, description="How many come; else Content-Length.")] = None,
) -> ReceivedOut:
    """Send the raw bytes of a range. They are verified before they are written, and sending them again is harmless."""
    length = declared_length(request, length)
    await receive(request, uploading.receive(upload_id, path, Span(offset, offset + length)), length=length)
    return ReceivedOut(file=path, offset=offset, length=length)


@router.put(
    "/{upload_id}/batch",
    max_body_size=UNBOUNDED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    responses=refuses(UploadNotFound, FileNotInCheckpoint, UploadBusy, TooLarge, *AGAINST_A_BATCH),
)
async def receive_batch(
    request: Request, upload_id: Id, files: BatchQuery, uploading: UploadingDep, _: Writer
) -> BatchReceivedOut:
    """Send several small files, one after another; a reservation says which. Sending them again is harmless."""
    places = batches.places(files)
    length = declared_length(request, None)
    await receive(request, uploading.receive_batch(upload_id, places, length), length=length)
    return BatchReceivedOut(files=len(places), length=length)


@router.post(
    "/{upload_id}/commit",
    status_code=201,
    responses={
        200: {"model": CommittedOut, "description": "The upload was committed before."},
        **refuses(InvalidName, UploadNotFound, FileNotInCheckpoint, UploadBusy, TooLarge, *AGAINST_A_COMMIT),
    },
)
def commit_upload(
    request: Request,
    upload_id: Id,
    committing: CommittingDep,
    uploading: UploadingDep,
    response: Response,
    _: Writer,
    commit: CommitIn | None = None,
) -> CommittedOut:
    """Make a checkpoint of an upload, durable when this answers. Repeating it gives the same checkpoint.

    With `If-None-Match: *` no checkpoint is replaced.
    """
    declared = commit.declared(uploading.get(upload_id).name) if commit is not None else {}
    return committed_answer(committing.commit(upload_id, declared, conditions_of(request)), response)


@router.delete("/{upload_id}", status_code=204, responses=refuses(UploadNotFound, UploadBusy))
def abandon_upload(upload_id: Id, checkpoints: CheckpointsDep, _: Writer) -> None:
    """Forget an upload and the bytes that came."""
    checkpoints.abandoning.abandon(upload_id)
