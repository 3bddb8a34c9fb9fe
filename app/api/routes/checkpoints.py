"""Routes of checkpoints: save in one shot, list, find, change, remove."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import (
    ChangingDep,
    CheckpointsDep,
    Deleter,
    FindingDep,
    PermissionFirstRoute,
    Reader,
    RemovingDep,
    Writer,
    conditions_of,
)
from app.api.routes.uploads import AGAINST_A_SAVE, committed_answer
from app.api.schemas.answers import BestOut, CheckpointOut, CheckpointPage, CommittedOut
from app.api.schemas.parameters import By, DirectoryQuery, Id, ModeQuery, PageToken
from app.api.schemas.queries import ListQuery, SaveQuery
from app.api.schemas.requests import ChangeIn
from app.api.schemas.transfers import ChunksOut, TensorsOut
from app.core.errors import (
    Altered,
    BodyAltered,
    CheckpointNotFound,
    CheckpointRemoved,
    DirectoryNotFound,
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
    WrongLength,
)
from app.http.body.raw import UNBOUNDED, length_of, receive
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/checkpoints", tags=["checkpoints"], route_class=PermissionFirstRoute)

NOT_CHANGED = (CheckpointNotFound, CheckpointRemoved, RecordUnreadable)


@router.post(
    "",
    status_code=201,
    max_body_size=UNBOUNDED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    responses={
        200: {"model": CommittedOut, "description": "The same save was committed before."},
        **refuses(
            InvalidName,
            SaveIdReused,
            WrongLength,
            TooLarge,
            NotReady,
            DirectoryNotFound,
            TooManyUploads,
            BodyAltered,
            PreconditionFailed,
            *AGAINST_A_SAVE,
        ),
    },
)
async def save_checkpoint(
    request: Request,
    query: Annotated[SaveQuery, Query()],
    checkpoints: CheckpointsDep,
    response: Response,
    may: Writer,
) -> CommittedOut:
    """Save a checkpoint of one file in one shot: the body is the file, the query says what it is.

    `Content-Digest`, `Repr-Digest` and `Content-MD5` are verified. With `If-None-Match: *` no checkpoint is replaced.
    The file is durable when this answers. A directory that no policy was given for keeps everything.
    """
    length = length_of(request)
    shot = checkpoints.single_shot.begin(query.save(may), length or 0, conditions_of(request))
    return committed_answer(await receive(request, shot, length=length, whole=True), response)


@router.get("", responses=refuses(InvalidName, DirectoryNotFound))
def list_checkpoints(query: Annotated[ListQuery, Query()], finding: FindingDep, _: Reader) -> CheckpointPage:
    """The checkpoints of a directory, filtered and in order; pages are stable while checkpoints come and go."""
    listing = query.listing(finding.own_mode(query.directory))
    key = read_token(
        query.page_token, query.directory, listing.order_by, listing.mode, listing.by, length=listing.key_length
    )
    page = finding.page(listing, after=key, limit=query.page_size)
    token = None
    if page.next_key is not None:
        token = write_token(page.next_key, query.directory, listing.order_by, listing.mode, listing.by)
    return CheckpointPage(
        checkpoints=[CheckpointOut.of(checkpoint) for checkpoint in page.checkpoints], next_page_token=token
    )


@router.get("/best", responses=refuses(InvalidName, DirectoryNotFound, NoCheckpoint, NoBest))
def get_best(
    directory: DirectoryQuery, finding: FindingDep, _: Reader, by: By = None, mode: ModeQuery = None
) -> BestOut:
    """The best checkpoint of a directory: by its own mode, or as asked."""
    checkpoint, ranked_mode, own = finding.best(directory, by=by, mode=mode)
    return BestOut.of(checkpoint, ranked_by=by or "metric", mode=ranked_mode, own_mode=own)


@router.get("/latest", responses=refuses(InvalidName, DirectoryNotFound, NoCheckpoint))
def get_latest(directory: DirectoryQuery, finding: FindingDep, _: Reader) -> CheckpointOut:
    """The newest checkpoint of a directory."""
    return CheckpointOut.of(finding.latest(directory))


@router.get("/{checkpoint_id}", responses=refuses(CheckpointNotFound, RecordUnreadable))
def get_checkpoint(checkpoint_id: Id, finding: FindingDep, _: Reader) -> CheckpointOut:
    """A checkpoint by its id; of a removed one, the facts."""
    return CheckpointOut.of(finding.get(checkpoint_id))


@router.patch("/{checkpoint_id}", responses=refuses(InvalidName, *NOT_CHANGED, TooLarge))
def change_checkpoint(checkpoint_id: Id, change: ChangeIn, changing: ChangingDep, _: Writer) -> CheckpointOut:
    """Pin or unpin, tag, add or correct a metric or metadata. The ranking follows at once."""
    return CheckpointOut.of(changing.change(checkpoint_id, change.change()))


@router.delete("/{checkpoint_id}", responses=refuses(*NOT_CHANGED, Pinned))
def delete_checkpoint(checkpoint_id: Id, removing: RemovingDep, _: Deleter) -> CheckpointOut:
    """Remove a checkpoint: its bytes go, its facts stay."""
    return CheckpointOut.of(removing.delete(checkpoint_id))


@router.post(
    "/{checkpoint_id}/restore",
    responses=refuses(*NOT_CHANGED, NameTaken, ForeignFile, QuotaExceeded),
)
def restore_checkpoint(checkpoint_id: Id, checkpoints: CheckpointsDep, _: Writer) -> CheckpointOut:
    """Bring a removed checkpoint back, as long as its bytes are there; see the undo window among the settings.

    It has its facts and its place in the order again. Where the policy would remove it at the next save, it is pinned.
    """
    return CheckpointOut.of(checkpoints.restoring.restore(checkpoint_id))


@router.get("/{checkpoint_id}/chunks", responses=refuses(*NOT_CHANGED, Altered))
def get_chunks(checkpoint_id: Id, checkpoints: CheckpointsDep, _: Reader, page_token: PageToken = None) -> ChunksOut:
    """The chunks of each file with their digests, and the ranges in which to fetch them; 50,000 at a time."""
    checkpoint, maps = checkpoints.finding.maps(checkpoint_id)
    return ChunksOut.of(checkpoint, maps, checkpoints.context.storage.range_max_bytes, page_token)


@router.get("/{checkpoint_id}/tensors", responses=refuses(*NOT_CHANGED, NoTensorIndex, Altered))
def get_tensors(checkpoint_id: Id, finding: FindingDep, _: Reader, page_token: PageToken = None) -> TensorsOut:
    """The tensors in a checkpoint's files, declared by the client or found by the server; 20,000 at a time."""
    checkpoint, maps = finding.maps(checkpoint_id)
    if all(found.tensors is None for found in maps.values()):
        raise NoTensorIndex(f"No tensors are known of {checkpoint.directory}/{checkpoint.name}.")
    return TensorsOut.of(checkpoint, maps, page_token)
