"""The policy form of a directory: its fields, a preview of its effect, and applying it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.dependencies import Admin, EditsDep, Reader, ServiceDep
from app.api.schemas.parameters import DirectoryName
from app.core.errors import InvalidRequest
from app.core.models import INTERVALS, LIMITS, Policy, PolicyRequest
from app.dashboard.render import urls
from app.dashboard.render.page import Form, PageRoute, page, redirect, required

router = APIRouter(route_class=PageRoute)

MOST_VERDICTS = 200
"""The most verdicts of each kind in a preview."""
LABELS = {
    "max_checkpoints": "Keep last",
    "max_best_checkpoints": "Keep best",
    "keep_every_epochs": "Keep every N epochs",
    "keep_every_steps": "Keep every N steps",
}
SAVES, NO_LIMIT, AT_MOST = "saves", "none", "number"


@dataclass(frozen=True, slots=True)
class Field:
    """A limit in the form. ``rule`` says if saves decide it, or an operator with a number or without a limit."""

    name: str
    label: str
    rule: str
    number: int | None

    @property
    def is_interval(self) -> bool:
        """True for an interval: without one, none are kept, where without a count all are."""
        return self.name in INTERVALS


def fields_of(policy: Policy) -> list[Field]:
    """Return the form's fields for a policy."""
    return [Field(name, LABELS[name], _rule(policy, name), getattr(policy, name)) for name in LIMITS]


@router.get("/previews/{directory:path}")
def preview(request: Request, directory: DirectoryName, service: ServiceDep, _: Reader) -> Response:
    """Preview the checkpoints that a policy would keep and remove."""
    try:
        ordered = asked(request.query_params)
    except InvalidRequest as refusal:
        return page(request, "preview.html", name=directory, refusal=refusal)
    staying, going = (
        service.removals.preview(directory, ordered, limit=MOST_VERDICTS, shown=shown) for shown in ("staying", "going")
    )
    return page(request, "preview.html", name=directory, refusal=None, staying=staying, going=going, most=MOST_VERDICTS)


@router.post("/policies/{directory:path}")
def apply(request: Request, directory: DirectoryName, edits: EditsDep, _: Admin, form: Form) -> Response:
    """Set the policy of a directory as its operator."""
    edits.set_policy(directory, asked(form))
    return redirect(request, urls.directory(directory, applied="true") + "#policy")


def asked(form: Mapping[str, Any]) -> PolicyRequest:
    """Return the policy in a form.

    Raises
    ------
    InvalidRequest
        A value is invalid, or the form lacks a rule for a limit.
    """
    limits = {name: _limit(name, form) for name in LIMITS if required(form, f"{name}_rule") != SAVES}
    mode = form.get("mode") or None
    if mode not in {None, "min", "max"}:
        raise InvalidRequest("mode must be min or max.")
    return PolicyRequest(mode, limits)


def _limit(name: str, form: Mapping[str, Any]) -> int | None:
    least = 1 if name in INTERVALS else 0
    match form.get(f"{name}_rule"):
        case "none":
            return None
        case "number" if (text := str(form.get(name, "")).strip()).isascii() and text.isdigit() and len(text) < 19:
            if int(text) >= least:
                return int(text)
    raise InvalidRequest(f"{LABELS[name]}: enter a whole number of at least {least}.")


def _rule(policy: Policy, name: str) -> str:
    if name not in policy.operator:
        return SAVES
    return NO_LIMIT if getattr(policy, name) is None else AT_MOST
