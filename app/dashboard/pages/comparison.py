"""The page that compares two checkpoints: facts, files and tensors, without downloading either."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import Reader, ServiceDep
from app.api.schemas.parameters import Id
from app.core.diff import CHANGES
from app.core.errors import InvalidRequest
from app.core.models import Checkpoint
from app.dashboard.render.page import PageRoute, page

router = APIRouter(route_class=PageRoute)

MOST = 2000
"""The most tensors on the page."""


@router.get("/checkpoints/{checkpoint_id}/comparison")
def show(
    request: Request,
    checkpoint_id: Id,
    service: ServiceDep,
    may: Reader,
    against: Annotated[str, Query(max_length=64)] = "",
    path: Annotated[str, Query(max_length=2000)] = "",
    q: Annotated[str, Query(max_length=1000)] = "",
    same: bool = False,
) -> Response:
    """Show the differences from another checkpoint to this one."""
    if path.strip():
        may.reach(path.strip().rpartition("/")[0])
        against = service.overviews.named(path.strip()).id
    if not against:
        raise InvalidRequest("Choose a checkpoint to compare with, or enter its path.")
    service.lookups.reach(may, against)
    comparison = service.comparisons.compare(against, checkpoint_id)
    words = q.casefold().split()
    tensors = [
        change
        for change in comparison.tensors or ()
        if (same or change.change != "same") and all(word in change.name.casefold() for word in words)
    ]
    tensors.sort(key=lambda change: CHANGES.index(change.change))
    return page(
        request,
        "comparison.html",
        comparison=comparison,
        before=comparison.before,
        after=comparison.after,
        facts=_facts(comparison.before, comparison.after),
        tensors=tensors[:MOST],
        found=len(tensors),
        changes=CHANGES,
        q=q,
        same=same,
    )


def _facts(before: Checkpoint, after: Checkpoint) -> list[tuple[str, object, object]]:
    """Return the facts in which two checkpoints differ, with both values."""
    pairs: list[tuple[str, object, object]] = [
        ("directory", before.directory, after.directory),
        ("kind", before.facts.kind, after.facts.kind),
        ("epoch", before.facts.epoch, after.facts.epoch),
        ("step", before.facts.step, after.facts.step),
        ("metric", before.facts.metric, after.facts.metric),
        ("tags", ", ".join(before.facts.tags), ", ".join(after.facts.tags)),
    ]
    one, other = before.facts.metadata, after.facts.metadata
    pairs += [(key, one.get(key), other.get(key)) for key in sorted({*one, *other})]
    return [pair for pair in pairs if pair[1] != pair[2]]
