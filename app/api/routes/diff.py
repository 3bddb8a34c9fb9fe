"""The route that compares two checkpoints."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import PermissionFirstRoute, Reader, ServiceDep
from app.api.schemas.diff import ComparisonOut
from app.api.schemas.layout import MOST_TENSORS
from app.api.schemas.parameters import Id, PageToken
from app.core.diff import CHANGES, Change
from app.core.errors import Altered, CheckpointNotFound, RecordUnreadable
from app.http.page_tokens import read_number, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/checkpoints", tags=["checkpoints"], route_class=PermissionFirstRoute)

AgainstQuery = Annotated[
    str,
    Query(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="The id of the checkpoint to compare with.",
    ),
]
ChangesQuery = Annotated[
    tuple[Change, ...], Query(max_length=20, description="Kinds of changes to list; all by default.")
]


@router.get("/{checkpoint_id}/comparison", responses=refuses(CheckpointNotFound, Altered, RecordUnreadable))
def compare_checkpoints(
    checkpoint_id: Id,
    against: AgainstQuery,
    service: ServiceDep,
    may: Reader,
    changes: ChangesQuery = CHANGES,
    page_token: PageToken = None,
) -> ComparisonOut:
    """Compare a checkpoint with another one by the digests of its files and tensors.

    Either checkpoint may be removed. A tensor is `uncertain` if it shares a chunk with bytes that changed and cannot be
    read, because they are gone or exceed 64 MiB in all. It is also `uncertain` if the tensors of the other file are not
    known, or if its place within its own file was not declared.

    A page has up to 20,000 tensors. Files are on the first page only; the counts on each page cover all tensors.
    """
    service.lookups.reach(may, against)
    listing = ("comparison", checkpoint_id, against, sorted(changes))
    start = read_number(page_token, *listing) or 0
    found = service.comparisons.compare(against, checkpoint_id)
    tensors = [tensor for tensor in found.tensors or () if tensor.change in changes]
    following = start + MOST_TENSORS
    token = write_token((following,), *listing) if following < len(tensors) else None
    return ComparisonOut.of(found, tensors[start:following], is_first=not start, next_page_token=token)
