"""Routes of uploads: reserve, send bytes at offsets, commit."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import (
    CommitsDep,
    Expected,
    LookupsDep,
    PermissionFirstRoute,
    ReservationsDep,
    ServiceDep,
    SharedCommitsDep,
    TransfersDep,
    Writer,
    conditions_of,
)
from app.api.schemas.checkpoints import CommittedOut
from app.api.schemas.parameters import AttemptQuery, BatchQuery, FilePath, Id
from app.api.schemas.requests import CommitIn, UploadIn
from app.api.schemas.uploads import BatchReceivedOut, ReceivedOut, UploadOut
from app.api.schemas.values import MAX_INT, WriterId
from app.core import batches
from app.core.errors import (
    AttemptSuperseded,
    BodyAltered,
    DigestMismatch,
    DirectoryNotFound,
    FileNotInCheckpoint,
    FilesMissing,
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
    WritersDisagree,
    WritersMissing,
    WrongLength,
)
from app.core.spans import Span
from app.http.body.raw import UNBOUNDED, declared_length, receive
from app.http.body.threads import run_for_body
from app.http.problems import refuses
from app.service.state.pending_commits import Committed

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=PermissionFirstRoute)

SAVE_REFUSALS = (ModeConflict, NameTaken, Superseded, Pinned, ForeignFile, NotImproved, NoSpace, QuotaExceeded)
BODY_REFUSALS = (BodyAltered,)
RANGE_REFUSALS = (*BODY_REFUSALS, WrongLength, RangeMisaligned, DigestMismatch, NoSpace)
BATCH_REFUSALS = (*BODY_REFUSALS, WrongLength, DigestMismatch, NoSpace, QuotaExceeded)
COMMIT_REFUSALS = (PreconditionFailed, RangesMissing, DigestMismatch, WrongLength, *SAVE_REFUSALS)


def committed_answer(committed: Committed, response: Response) -> CommittedOut:
    """Return the response of a commit: 201 for a new checkpoint, 200 if the same save was already committed."""
    if committed.repeated:
        response.status_code = 200
    return CommittedOut.from_commit(committed)


@router.post(
    "",
    status_code=201,
    responses={
        200: {"model": UploadOut, "description": "The same save was already reserved or committed."},
        **refuses(
            InvalidName,
            SaveIdReused,
            UploadBusy,
            TooLarge,
            NotReady,
            DirectoryNotFound,
            TooManyUploads,
            PreconditionFailed,
            WritersDisagree,
            AttemptSuperseded,
            *SAVE_REFUSALS,
        ),
    },
)
def reserve_upload(
    upload: UploadIn,
    reservations: ReservationsDep,
    service: ServiceDep,
    lookups: LookupsDep,
    response: Response,
    may: Writer,
    expected: Expected,
) -> UploadOut:
    """Reserve an upload for a checkpoint.

    The response lists the ranges to send, with method, URL and headers. All admission checks of the save run here,
    before any bytes are sent. `If-Match` and `If-None-Match` are checked now, and again at the commit. Idempotent with
    a `save_id`. With `shared`, several writers send the same reservation, and each declares its files.
    """
    may.reach(upload.directory)
    if upload.shared:
        reservation = service.shared_reservations.reserve(upload.save(may, None, expected))
        response.status_code = 201 if reservation.is_new else 200
        return UploadOut.of(reservation)
    base = upload.base if upload.base is not None and lookups.is_readable(may, upload.base) else None
    reservation = reservations.reserve(upload.save(may, base, expected))
    if not reservation.is_new:
        response.status_code = 200
    return UploadOut.of(reservation)


@router.get("/{upload_id}", responses=refuses(UploadNotFound))
def get_upload(
    upload_id: Id,
    transfers: TransfersDep,
    _: Writer,
    writer: Annotated[WriterId | None, Query(description="Of a shared upload, list only files of this writer.")] = None,
) -> UploadOut:
    """Get an upload and its missing ranges, and renew its lease.

    For a committed upload the response holds the checkpoint.
    """
    return UploadOut.of(transfers.get(upload_id, writer))


@router.put(
    "/{upload_id}/files/{path:path}",
    max_body_size=UNBOUNDED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    responses=refuses(InvalidName, UploadNotFound, FileNotInCheckpoint, UploadBusy, AttemptSuperseded, *RANGE_REFUSALS),
)
async def receive_range(
    request: Request,
    upload_id: Id,
    path: FilePath,
    transfers: TransfersDep,
    _: Writer,
    offset: Annotated[int, Query(ge=0, le=MAX_INT, description="Offset of the bytes in the file.")] = 0,
    length: Annotated[
        int | None, Query(ge=0, le=MAX_INT, description="Number of bytes; by default Content-Length.")
    ] = None,
    attempt: AttemptQuery = None,
) -> ReceivedOut:
    """Upload the raw bytes of one range of a file.

    The bytes are verified before they count as arrived. Idempotent.
    """
    length = declared_length(request, length)
    await receive(request, transfers.receive(upload_id, path, Span(offset, offset + length), attempt), length=length)
    return ReceivedOut(file=path, offset=offset, length=length)


@router.put(
    "/{upload_id}/batch",
    max_body_size=UNBOUNDED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    responses=refuses(UploadNotFound, FileNotInCheckpoint, UploadBusy, TooLarge, AttemptSuperseded, *BATCH_REFUSALS),
)
async def receive_batch(
    request: Request,
    upload_id: Id,
    files: BatchQuery,
    transfers: TransfersDep,
    _: Writer,
    attempt: AttemptQuery = None,
) -> BatchReceivedOut:
    """Upload several small files in one request, one after another.

    The reservation lists the batches and their URLs. Idempotent.
    """
    places = batches.indices_in(files)
    length = declared_length(request, None)
    await receive(request, transfers.receive_batch(upload_id, places, length, attempt), length=length)
    return BatchReceivedOut(files=len(places), length=length)


@router.post(
    "/{upload_id}/commit",
    status_code=201,
    responses={
        200: {"model": CommittedOut, "description": "The upload was already committed."},
        **refuses(
            InvalidName,
            UploadNotFound,
            FileNotInCheckpoint,
            UploadBusy,
            TooLarge,
            AttemptSuperseded,
            WritersMissing,
            FilesMissing,
            *COMMIT_REFUSALS,
        ),
    },
)
async def commit_upload(
    request: Request,
    upload_id: Id,
    commits: CommitsDep,
    shared_commits: SharedCommitsDep,
    transfers: TransfersDep,
    response: Response,
    _: Writer,
    expected: Expected,
    commit: CommitIn | None = None,
) -> CommittedOut:
    """Commit an upload as a checkpoint.

    The checkpoint is durable when the response arrives. With `If-None-Match: *` an existing checkpoint is not replaced,
    with `If-Match` only one of that digest is. Idempotent: a repeated commit returns the same checkpoint. A shared
    upload is committed with its `attempt`, once all writers are ready.
    """

    def work() -> Committed:
        if commit is not None and commit.attempt is not None:
            conditions = conditions_of(request, expected)
            return shared_commits.commit(upload_id, commit.attempt, commit.writers, commit.paths, conditions)
        declared = commit.declared(transfers.name_of(upload_id)) if commit is not None else {}
        return commits.commit(upload_id, declared, conditions_of(request, expected))

    return committed_answer(await run_for_body(work), response)


@router.delete("/{upload_id}", status_code=204, responses=refuses(UploadNotFound, UploadBusy, AttemptSuperseded))
def abandon_upload(upload_id: Id, service: ServiceDep, _: Writer, attempt: AttemptQuery = None) -> None:
    """Abort an upload and discard its bytes.

    With `attempt`, a shared upload is aborted only if no later attempt has taken it over.
    """
    service.aborts.abort(upload_id, attempt)
