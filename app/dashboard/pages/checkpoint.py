"""The page of a checkpoint: its facts, files and tensors, and forms to pin, tag, delete and restore it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import Deleter, EditsDep, Reader, RemovalsDep, ServiceDep, Writer
from app.api.schemas.parameters import Id
from app.core import names
from app.core.access import ANYONE, Access
from app.core.errors import InvalidRequest, Refusal
from app.dashboard.render import formatting, snippets, urls
from app.dashboard.render.page import Form, PageRoute, accepts_html, page, redirect, required
from app.dashboard.render.tensor_tree import search
from app.service import Service
from app.service.lifecycle.edit import Change

router = APIRouter(route_class=PageRoute)


@router.get("/checkpoints/{checkpoint_id}")
def show(
    request: Request,
    checkpoint_id: Id,
    service: ServiceDep,
    may: Reader,
    q: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """Show one checkpoint, removed or not."""
    return _checkpoint_page(request, checkpoint_id, service, may, q)


def _checkpoint_page(
    request: Request, checkpoint_id: str, service: Service, may: Access, q: str = "", **more: Any
) -> Response:
    """Return the page of a checkpoint, with the error of a form on it if one was refused."""
    checkpoint = service.lookups.get(checkpoint_id)
    is_live = checkpoint.removed_at is None
    is_refresh = "holdfast-refresh" in request.headers  # tensors never change, so refreshes leave them out
    return page(
        request,
        "checkpoint.html",
        checkpoint=checkpoint,
        reasons=service.overviews.reasons(checkpoint) if is_live else (),
        tensors=search(service.overviews.tensors(checkpoint_id), q) if not is_refresh else None,
        q=q,
        others=service.overviews.others(checkpoint),
        snippets=snippets.of_checkpoint(request, checkpoint, is_open=may.token_id == ANYONE) if is_live else {},
        undo_window=service.rules.undo_window,
        **more,
    )


@router.post("/checkpoints/{checkpoint_id}/pin")
def pin(request: Request, checkpoint_id: Id, edits: EditsDep, _: Writer, form: Form) -> Response:
    """Pin or unpin a checkpoint."""
    edits.apply(checkpoint_id, Change({"pinned": _is_true(required(form, "pinned"))}, {}))
    return redirect(request, urls.back(form, urls.checkpoint(checkpoint_id)))


@router.post("/checkpoints/{checkpoint_id}/tags")
def tag(request: Request, checkpoint_id: Id, service: ServiceDep, may: Writer, form: Form) -> Response:
    """Replace the tags of a checkpoint. Invalid tags stay in the form, with the error."""
    typed = required(form, "tags")
    try:
        tags = tuple(map(names.tag, formatting.tags_in(typed)))
        service.edits.apply(checkpoint_id, Change({"tags": tags}, {}))
    except Refusal as refusal:
        if refusal.status != InvalidRequest.status or not accepts_html(request):
            raise
        return _checkpoint_page(
            request, checkpoint_id, service, may, status=refusal.status, fault=refusal.detail, typed=typed
        )
    return redirect(request, urls.back(form, urls.checkpoint(checkpoint_id)))


@router.post("/checkpoints/{checkpoint_id}/delete")
def delete(request: Request, checkpoint_id: Id, removals: RemovalsDep, _: Deleter, form: Form) -> Response:
    """Delete a checkpoint."""
    gone = removals.delete(checkpoint_id)
    return redirect(request, urls.back(form, urls.directory(gone.directory), deleted=gone.id))


@router.post("/checkpoints/{checkpoint_id}/restore")
def restore(request: Request, checkpoint_id: Id, service: ServiceDep, _: Writer, form: Form) -> Response:
    """Restore a removed checkpoint."""
    back = service.restorations.restore(checkpoint_id)
    return redirect(request, urls.back(form, urls.directory(back.directory), restored=back.id))


def _is_true(text: str) -> bool:
    if text not in {"true", "false"}:
        raise InvalidRequest(f"The value must be true or false, not {text!r}.")
    return text == "true"
