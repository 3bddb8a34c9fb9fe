"""The page of a directory: history, checkpoints with the reasons for keeping them, policy, and the next removals."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import Deleter, Reader, ServiceDep
from app.api.schemas.parameters import DirectoryName, PageToken
from app.core.access import ANYONE
from app.core.errors import CheckpointNotFound
from app.dashboard.pages.policies import fields_of
from app.dashboard.render import snippets, urls
from app.dashboard.render.page import Form, PageRoute, page, redirect
from app.http.page_tokens import read_token, write_token
from app.service import Service

router = APIRouter(route_class=PageRoute)

ROWS = 50
ORDERS = {
    "-position": "newest first",
    "position": "oldest first",
    "best": "best first",
    "-epoch": "latest epoch first",
    "-step": "latest step first",
    "-size_bytes": "largest first",
    "name": "by name",
}
NoticeId = Annotated[str | None, Query(max_length=64)]
Order = Literal["-position", "position", "best", "-epoch", "-step", "-size_bytes", "name"]


@router.get("/directories/{directory:path}")
def show(
    request: Request,
    directory: DirectoryName,
    service: ServiceDep,
    may: Reader,
    order: Order = "-position",
    removed: bool = False,
    page_token: PageToken = None,
    deleted: NoticeId = None,
    restored: NoticeId = None,
    applied: bool = False,
    pruned: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Show one directory, with a notice about the form that led here."""
    overviews = service.overviews
    listing = overviews.listing(directory, order_by=order, include_removed=removed)
    about = (directory, order, listing.mode, removed)
    key = read_token(page_token, *about, length=listing.key_length)
    view = overviews.directory(listing, after=key, limit=ROWS)
    following = view.page.next_key
    return page(
        request,
        "directory.html",
        view=view,
        name=directory,
        here=urls.directory(directory, order=order, removed="true" if removed else "", page_token=page_token),
        crumbs=_crumbs(directory),
        order=order,
        orders=ORDERS,
        removed=removed,
        is_first=key is None,
        next_token=write_token(following, *about) if following is not None else None,
        policy_fields=fields_of(view.summary.directory.policy),
        snippets=snippets.of_directory(request, view.summary, is_open=may.token_id == ANYONE),
        undo_window=service.rules.undo_window,
        going_bytes=sum(candidate.size_bytes for candidate in view.next_save.going),
        applied=applied,
        pruned=pruned,
        **_notices(service, directory, deleted=deleted, restored=restored),
    )


@router.post("/prunings/{directory:path}")
def prune(request: Request, directory: DirectoryName, service: ServiceDep, _: Deleter, form: Form) -> Response:
    """Remove the checkpoints that the policy does not keep."""
    gone = service.removals.prune(directory, limit=1, shown="none").tally.goes
    return redirect(request, urls.back(form, urls.directory(directory), pruned=gone))


def _notices(service: Service, directory: str, **ids: str | None) -> dict[str, Any]:
    """Return the checkpoints that notices are about; None for an id outside of this directory."""
    found: dict[str, Any] = {}
    for name, checkpoint_id in ids.items():
        found[name] = None
        with suppress(CheckpointNotFound):
            checkpoint = service.lookups.get(checkpoint_id or "")
            found[name] = checkpoint if checkpoint.directory == directory else None
    return found


def _crumbs(directory: str) -> list[tuple[str, str]]:
    """Return the components above a directory, each with its search text."""
    parts = directory.split("/")
    return [(part, "/".join(parts[: place + 1])) for place, part in enumerate(parts[:-1])]
