"""Dependencies of routes: use cases, permissions and preconditions.

Every route declares one of the permissions here; a test verifies that. They are coroutines, as FastAPI would send each
plain function to a worker thread.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from app.api.openapi import query_names
from app.api.schemas.parameters import PrefixQuery
from app.auth.links import Links
from app.core.access import Access, Scope
from app.core.errors import InvalidRequest, Unauthorized
from app.core.models import NO_PRECONDITION, Precondition
from app.http import preconditions
from app.http.body import json_request
from app.http.body.json_response import SerialisedRoute
from app.http.ranges import precondition
from app.service import Service
from app.service.commit.commit import Commits
from app.service.lifecycle.edit import Edits
from app.service.lifecycle.remove import Removals
from app.service.query.contents import Contents
from app.service.query.lookup import Lookups
from app.service.shared.completion import SharedCommits
from app.service.shared.declaration import SharedFiles
from app.service.upload.admission import Conditions
from app.service.upload.reserve import Reservations
from app.service.upload.transfer import Transfers


def service_of(request: Request) -> Service:
    """Return the use cases."""
    found: Service = request.state.service
    return found


async def _service(request: Request) -> Service:
    return service_of(request)


async def _lookups(request: Request) -> Lookups:
    return service_of(request).lookups


async def _contents(request: Request) -> Contents:
    return service_of(request).contents


async def _reservations(request: Request) -> Reservations:
    return service_of(request).reservations


async def _transfers(request: Request) -> Transfers:
    return service_of(request).transfers


async def _commits(request: Request) -> Commits:
    return service_of(request).commits


async def _removals(request: Request) -> Removals:
    return service_of(request).removals


async def _edits(request: Request) -> Edits:
    return service_of(request).edits


async def _links(request: Request) -> Links:
    found: Links = request.state.links
    return found


async def _shared_files(request: Request) -> SharedFiles:
    return service_of(request).shared_files


async def _shared_commits(request: Request) -> SharedCommits:
    return service_of(request).shared_commits


ServiceDep = Annotated[Service, Depends(_service)]
LookupsDep = Annotated[Lookups, Depends(_lookups)]
ContentsDep = Annotated[Contents, Depends(_contents)]
ReservationsDep = Annotated[Reservations, Depends(_reservations)]
TransfersDep = Annotated[Transfers, Depends(_transfers)]
CommitsDep = Annotated[Commits, Depends(_commits)]
RemovalsDep = Annotated[Removals, Depends(_removals)]
EditsDep = Annotated[Edits, Depends(_edits)]
SharedFilesDep = Annotated[SharedFiles, Depends(_shared_files)]
SharedCommitsDep = Annotated[SharedCommits, Depends(_shared_commits)]
LinksDep = Annotated[Links, Depends(_links)]


class Permission:
    """A dependency that requires a scope, and access to every directory that the request's address names.

    Anything outside the token's prefix is reported as not found. For names in a body, the route itself must call
    `Access.reach`.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Access:
        access: Access = request.state.access
        if access.prefix:
            await run_in_threadpool(_require_reach, request, access)
        access.require(self.scope)
        return access


def _require_reach(request: Request, access: Access) -> None:
    for named in (request.path_params, request.query_params):
        if (directory := named.get("directory")) is not None:
            access.reach(directory)
    if (checkpoint_id := request.path_params.get("checkpoint_id")) is not None:
        service_of(request).lookups.reach(access, checkpoint_id)
    if (upload_id := request.path_params.get("upload_id")) is not None:
        service_of(request).transfers.reach(access, upload_id)


class PermissionFirstRoute(SerialisedRoute):
    """A route that checks its permission before it reads the body, and parses large JSON on a worker thread."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        model = _model_of(self.body_field) if self.body_field is not None else None
        permissions = [needed.call for needed in self.dependant.dependencies if isinstance(needed.call, Permission)]

        async def check_then_handle(request: Request) -> Response:
            for permission in permissions:
                if not request.state.access.allows(permission.scope):
                    await permission(request)
            return await json_request.handle(request, model, handle)

        return check_then_handle


def _model_of(body: Any) -> TypeAdapter[Any]:
    found: Any = body.field_info.annotation
    return TypeAdapter(found)


async def _expected(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(description='Entity tags (`"<digest>"` of the checkpoint), or `*`: it must exist and have one of them.'),
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="`*`, or entity tags: no checkpoint may exist that has one of them.")
    ] = None,
) -> Precondition:
    return preconditions.read(if_match, if_none_match, may_read=request.state.access.allows("read"))


Expected = Annotated[Precondition, Depends(_expected)]
"""The precondition of a request that saves, changes or removes a checkpoint, by the checkpoint's digest."""


def conditions_of(request: Request, expected: Precondition = NO_PRECONDITION) -> Conditions:
    """Return the conditions of a commit: its own precondition, and a token that is still valid by then."""
    authenticator, before = request.state.authenticator, request.state.access

    def still_may() -> None:
        access = authenticator.access_of(before.token_id)
        if access is None:
            raise Unauthorized("The token was revoked or expired during the upload; nothing was saved.")
        access.require("write")  # the prefix was checked when the request began, and never changes

    return Conditions(expected, still_may)


async def _expected_policy(request: Request) -> Callable[[str | None], bool]:
    headers = request.headers
    return lambda etag: "if-match" not in headers if etag is None else precondition(headers, etag) is None


ExpectedPolicy = Annotated[Callable[[str | None], bool], Depends(_expected_policy)]
"""The precondition of a request that sets a policy: ``If-Match`` or ``If-None-Match`` with policy ETags."""
Reader = Annotated[Access, Depends(Permission("read"))]
Writer = Annotated[Access, Depends(Permission("write"))]
Deleter = Annotated[Access, Depends(Permission("delete"))]
Admin = Annotated[Access, Depends(Permission("admin"))]


async def _within(request: Request, prefix: PrefixQuery = "") -> str:
    access: Access = request.state.access
    return access.narrowed(prefix)


Within = Annotated[str, Depends(_within)]
"""The requested prefix, narrowed to the token's own."""


async def only_known_queries(request: Request) -> None:
    """Refuse unknown and repeated query parameters: a filter with a typing error must not be ignored."""
    if not request.query_params:
        return
    known = query_names(request.app)[request.scope["route"].name]
    for name in request.query_params:
        if name not in known:
            raise InvalidRequest(f"This address has no query parameter {name!r}.", known=sorted(known))
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise InvalidRequest(f"The query parameter {name!r} is given more than once.")


_CONDITIONAL = frozenset(
    {
        "save_checkpoint",
        "save_small",
        "reserve_upload",
        "commit_upload",
        "copy_checkpoint",
        "change_checkpoint",
        "delete_checkpoint",
        "set_policy",
    }
)
"""The writing routes that support ``If-Match`` or ``If-None-Match``."""


async def only_known_preconditions(request: Request) -> None:
    """Refuse a precondition of a writing request, unless its route supports preconditions."""
    if request.method in {"GET", "HEAD", "OPTIONS"} or request.scope["route"].name in _CONDITIONAL:
        return
    for name in ("If-Match", "If-None-Match"):
        if name in request.headers:
            raise InvalidRequest(f"This request does not support the precondition `{name}`.")
