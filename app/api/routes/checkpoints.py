"""Routes of checkpoints: save in a single request, list, find, change, remove."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.api import facts_response
from app.api.dependencies import (
    Deleter,
    EditsDep,
    Expected,
    LookupsDep,
    PermissionFirstRoute,
    Reader,
    RemovalsDep,
    ServiceDep,
    Writer,
    conditions_of,
)
from app.api.routes.uploads import SAVE_REFUSALS, committed_answer
from app.api.schemas.checkpoints import BestOut, CheckpointOut, CheckpointPage, CommittedOut
from app.api.schemas.layout import ChunksOut, TensorsOut
from app.api.schemas.parameters import By, DirectoryQuery, Id, ModeQuery, PageToken
from app.api.schemas.queries import ListQuery, SaveQuery
from app.api.schemas.requests import ChangeIn, CopyIn
from app.core.errors import (
    Altered,
    BodyAltered,
    CheckpointNotFound,
    CheckpointRemoved,
    DirectoryNotFound,
    FileNotInCheckpoint,
    ForeignFile,
    InvalidName,
    NameTaken,
    NoBest,
    NoCheckpoint,
    NoTensorIndex,
    NotReady,
    Pinned,
    PreconditionFailed,
    QuotaExceeded,
    RecordUnreadable,
    SaveIdReused,
    TooLarge,
    TooManyUploads,
    UploadBusy,
    WrongLength,
)
from app.http.body.described import CHECKPOINT_MEDIA_TYPE
from app.http.body.raw import UNBOUNDED, length_of, receive
from app.http.body.threads import run_for_body
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/checkpoints", tags=["checkpoints"], route_class=PermissionFirstRoute)

FACTS: dict[str, Any] = {
    "description": "The facts; with `Accept: application/vnd.holdfast.checkpoint`, also the bytes of up to 2 MiB.",
    "content": {CHECKPOINT_MEDIA_TYPE: {}},
}
ID_REFUSALS = (CheckpointNotFound, CheckpointRemoved, RecordUnreadable)


@router.post(
    "",
    status_code=201,
    max_body_size=UNBOUNDED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    responses={
        200: {"model": CommittedOut, "description": "The same save was already committed."},
        **refuses(
            InvalidName,
            SaveIdReused,
            WrongLength,
            TooLarge,
            NotReady,
            DirectoryNotFound,
            TooManyUploads,
            UploadBusy,
            BodyAltered,
            PreconditionFailed,
            *SAVE_REFUSALS,
        ),
    },
)
async def save_checkpoint(
    request: Request,
    query: Annotated[SaveQuery, Query()],
    service: ServiceDep,
    response: Response,
    may: Writer,
    expected: Expected,
) -> CommittedOut:
    """Save a checkpoint of one file in a single request.

    The body is the file; the query describes it. `Content-Digest`, `Repr-Digest` and `Content-MD5` are verified. With
    `If-None-Match: *` an existing checkpoint is not replaced, with `If-Match` only one of that digest is. The
    checkpoint is durable when the response arrives. A directory without a policy keeps everything. Idempotent with a
    `save_id`.
    """
    length = length_of(request)
    upload = service.single_requests.begin(query.save(may, expected), length or 0, conditions_of(request))
    return committed_answer(await receive(request, upload, length=length, whole=True), response)


@router.get("", responses=refuses(InvalidName, DirectoryNotFound))
def list_checkpoints(query: Annotated[ListQuery, Query()], lookups: LookupsDep, _: Reader) -> CheckpointPage:
    """List the checkpoints of a directory, filtered and sorted.

    Pages stay consistent while checkpoints are saved and removed.
    """
    listing = query.listing(lookups.own_mode(query.directory))
    key = read_token(
        query.page_token, query.directory, listing.order_by, listing.mode, listing.by, length=listing.key_length
    )
    page = lookups.page(listing, after=key, limit=query.page_size)
    token = None
    if page.next_key is not None:
        token = write_token(page.next_key, query.directory, listing.order_by, listing.mode, listing.by)
    return CheckpointPage(
        checkpoints=[CheckpointOut.of(checkpoint) for checkpoint in page.checkpoints], next_page_token=token
    )


@router.get(
    "/best",
    response_model=BestOut,
    responses={200: FACTS, **refuses(InvalidName, DirectoryNotFound, NoCheckpoint, NoBest)},
)
def get_best(
    request: Request,
    directory: DirectoryQuery,
    service: ServiceDep,
    _: Reader,
    by: By = None,
    mode: ModeQuery = None,
) -> CheckpointOut | Response:
    """Get the best checkpoint of a directory.

    It is ranked by the metric and the directory's mode, unless `by` or `mode` are given.
    """
    checkpoint, ranked_mode, own = service.lookups.best(directory, by=by, mode=mode)
    facts = BestOut.of(checkpoint, ranked_by=by or "metric", mode=ranked_mode, own_mode=own)
    return facts_response.respond(request, service.contents, facts)


@router.get(
    "/latest",
    response_model=CheckpointOut,
    responses={200: FACTS, **refuses(InvalidName, DirectoryNotFound, NoCheckpoint)},
)
def get_latest(request: Request, directory: DirectoryQuery, service: ServiceDep, _: Reader) -> CheckpointOut | Response:
    """Get the latest checkpoint of a directory."""
    facts = CheckpointOut.of(service.lookups.latest(directory))
    return facts_response.respond(request, service.contents, facts)


@router.get(
    "/{checkpoint_id}",
    response_model=CheckpointOut,
    responses={200: FACTS, **refuses(CheckpointNotFound, RecordUnreadable)},
)
def get_checkpoint(request: Request, checkpoint_id: Id, service: ServiceDep, _: Reader) -> CheckpointOut | Response:
    """Get a checkpoint by its id.

    The facts of a removed checkpoint stay available.
    """
    facts = CheckpointOut.of(service.lookups.get(checkpoint_id))
    return facts_response.respond(request, service.contents, facts)


@router.patch("/{checkpoint_id}", responses=refuses(InvalidName, *ID_REFUSALS, PreconditionFailed, TooLarge))
def change_checkpoint(
    checkpoint_id: Id, change: ChangeIn, edits: EditsDep, _: Writer, expected: Expected
) -> CheckpointOut:
    """Change the facts of a checkpoint: pin, tags, epoch, metric, metadata.

    The ranking follows immediately. `If-Match` requires that the checkpoint has that digest.
    """
    return CheckpointOut.of(edits.apply(checkpoint_id, change.change(), expected))


@router.delete("/{checkpoint_id}", responses=refuses(*ID_REFUSALS, PreconditionFailed, Pinned))
def delete_checkpoint(checkpoint_id: Id, removals: RemovalsDep, _: Deleter, expected: Expected) -> CheckpointOut:
    """Delete a checkpoint.

    Its facts stay available. It can be restored until the undo window ends. A pinned checkpoint is not deleted.
    `If-Match` requires that the checkpoint has that digest.
    """
    return CheckpointOut.of(removals.delete(checkpoint_id, expected))


@router.post(
    "/{checkpoint_id}/restore",
    responses=refuses(*ID_REFUSALS, NameTaken, ForeignFile, QuotaExceeded),
)
def restore_checkpoint(checkpoint_id: Id, service: ServiceDep, _: Writer) -> CheckpointOut:
    """Restore a removed checkpoint.

    Possible until the undo window (a setting) ends or the space is needed. The checkpoint keeps its facts and its
    position. It is pinned if the policy would otherwise remove it at the next save.
    """
    return CheckpointOut.of(service.restorations.restore(checkpoint_id))


@router.post(
    "/{checkpoint_id}/copy",
    status_code=201,
    responses={
        200: {"model": CommittedOut, "description": "The same copy was already committed."},
        **refuses(
            InvalidName,
            *ID_REFUSALS,
            FileNotInCheckpoint,
            Altered,
            SaveIdReused,
            TooLarge,
            NotReady,
            DirectoryNotFound,
            TooManyUploads,
            UploadBusy,
            PreconditionFailed,
            *SAVE_REFUSALS,
        ),
    },
)
async def copy_checkpoint(
    request: Request,
    checkpoint_id: Id,
    copy: CopyIn,
    service: ServiceDep,
    response: Response,
    may: Writer,
    expected: Expected,
) -> CommittedOut:
    """Copy a checkpoint under another name, or some of its files, also under other paths.

    No bytes pass through the client. The copy is durable when the response arrives, and is saved as any other
    checkpoint: policies, quotas and names count. Needs the scope `read`, too. `If-Match` and `If-None-Match` work as
    with `POST /v1/checkpoints`. Idempotent with a `save_id`.
    """
    may.reach(copy.directory)
    conditions = conditions_of(request, expected)
    return committed_answer(
        await run_for_body(service.copies.copy, may, checkpoint_id, copy.wanted(), conditions), response
    )


@router.get("/{checkpoint_id}/chunks", responses=refuses(*ID_REFUSALS, Altered))
def get_chunks(checkpoint_id: Id, service: ServiceDep, _: Reader, page_token: PageToken = None) -> ChunksOut:
    """List the chunks of each file with their digests, and the ranges for fetching them.

    A page has up to 50,000 chunks.
    """
    checkpoint, maps = service.lookups.maps(checkpoint_id)
    contents = service.contents
    return ChunksOut.of(checkpoint, maps, contents.range_max_bytes, contents.range_url, page_token)


@router.get("/{checkpoint_id}/tensors", responses=refuses(*ID_REFUSALS, NoTensorIndex, Altered))
def get_tensors(checkpoint_id: Id, lookups: LookupsDep, _: Reader, page_token: PageToken = None) -> TensorsOut:
    """List the tensors in a checkpoint's files.

    The client declared them, or the server found them in the files. A page has up to 20,000 tensors.
    """
    checkpoint, maps = lookups.maps(checkpoint_id)
    if all(found.tensors is None for found in maps.values()):
        raise NoTensorIndex(f"The tensors of {checkpoint.directory}/{checkpoint.name} are not known.")
    return TensorsOut.of(checkpoint, maps, page_token)
