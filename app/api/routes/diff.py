"""The route that compares two checkpoints."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import CheckpointsDep, PermissionFirstRoute, Reader
from app.api.schemas.diff import ComparisonOut
from app.api.schemas.parameters import Id, PageToken
from app.api.schemas.transfers import MOST_TENSORS
from app.core.diff import CHANGES, Change
from app.core.errors import Altered, CheckpointNotFound, RecordUnreadable
from app.http.page_tokens import read_number, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/checkpoints", tags=["checkpoints"], route_class=PermissionFirstRoute)

AgainstQuery = Annotated[
    str,
    Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$", description="The id of the one to begin from."),
]
ChangesQuery = Annotated[tuple[Change, ...], Query(max_length=20, description="Which tensors to list; by default all.")]


@router.get("/{checkpoint_id}/comparison", responses=refuses(CheckpointNotFound, Altered, RecordUnreadable))
def compare_checkpoints(
    checkpoint_id: Id,
    against: AgainstQuery,
    checkpoints: CheckpointsDep,
    may: Reader,
    changes: ChangesQuery = CHANGES,
    page_token: PageToken = None,
) -> ComparisonOut:
    """How a checkpoint differs from another one: its files and its tensors, by their digests; neither is sent.

    Either may be removed. A tensor is `uncertain` where its bytes share a chunk with others that changed, and cannot be
    read: because they are gone, or because there are more than 64 MiB of such bytes. So it is where no tensors are
    known of the file of the other checkpoint, and where a tensor was not declared to lie within its file.

    Tensors come 20,000 at a time; files are on the first page, and the counts, of all tensors, on each.
    """
    checkpoints.finding.reach(may, against)
    listing = ("comparison", checkpoint_id, against, sorted(changes))
    start = read_number(page_token, *listing) or 0
    found = checkpoints.comparing.compare(against, checkpoint_id)
    tensors = [tensor for tensor in found.tensors or () if tensor.change in changes]
    following = start + MOST_TENSORS
    token = write_token((following,), *listing) if following < len(tensors) else None
    return ComparisonOut.of(found, tensors[start:following], is_first=not start, next_page_token=token)
