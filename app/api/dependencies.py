"""What routes ask for: use cases, permissions, and names that are checked on the way in.

A route has no permission but by one of these; a test holds every route to one.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from app.api.openapi import query_names
from app.api.schemas.parameters import PrefixQuery
from app.auth.links import Links
from app.core.access import Access, Scope
from app.core.errors import InvalidRequest, Unauthorized
from app.http.body import json_request
from app.http.body.json_response import SerialisedRoute
from app.http.ranges import precondition
from app.service import Checkpoints
from app.service.commit.commit import Committing
from app.service.lifecycle.edit import Changing
from app.service.lifecycle.remove import Removing
from app.service.query.find import Finding
from app.service.upload.admission import Conditions
from app.service.upload.reserve import Uploading


def _checkpoints(request: Request) -> Checkpoints:
    found: Checkpoints = request.state.checkpoints
    return found


def _finding(request: Request) -> Finding:
    return _checkpoints(request).finding


def _uploading(request: Request) -> Uploading:
    return _checkpoints(request).uploading


def _committing(request: Request) -> Committing:
    return _checkpoints(request).committing


def _removing(request: Request) -> Removing:
    return _checkpoints(request).removing


def _changing(request: Request) -> Changing:
    return _checkpoints(request).changing


def _links(request: Request) -> Links:
    found: Links = request.state.links
    return found


CheckpointsDep = Annotated[Checkpoints, Depends(_checkpoints)]
FindingDep = Annotated[Finding, Depends(_finding)]
UploadingDep = Annotated[Uploading, Depends(_uploading)]
CommittingDep = Annotated[Committing, Depends(_committing)]
RemovingDep = Annotated[Removing, Depends(_removing)]
ChangingDep = Annotated[Changing, Depends(_changing)]
LinksDep = Annotated[Links, Depends(_links)]


class Permission:
    """Lets through who has a scope, and reaches whatever the request names in its address.

    What is out of reach is not there. What a body names, the route has to ask for by `Access.reach`.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, request: Request) -> Access:
        access: Access = request.state.access
        if access.prefix:
            _reach_what_is_named(request, access)
        access.require(self.scope)
        return access


def _reach_what_is_named(request: Request, access: Access) -> None:
    for named in (request.path_params, request.query_params):
        if (directory := named.get("directory")) is not None:
            access.reach(directory)
    if (checkpoint_id := request.path_params.get("checkpoint_id")) is not None:
        _finding(request).reach(access, checkpoint_id)
    if (upload_id := request.path_params.get("upload_id")) is not None:
        _uploading(request).reach(access, upload_id)


class PermissionFirstRoute(SerialisedRoute):
    """A route of which a body is not even read, let alone parsed, for those who lack its scope.

    A large JSON body is parsed and validated on a worker thread.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        model = _model_of(self.body_field) if self.body_field is not None else None
        permissions = [needed.call for needed in self.dependant.dependencies if isinstance(needed.call, Permission)]

        async def ask_first(request: Request) -> Response:
            for permission in permissions:
                if not request.state.access.allows(permission.scope):
                    await run_in_threadpool(permission, request)
            return await json_request.handle(request, model, handle)

        return ask_first


def _model_of(body: Any) -> TypeAdapter[Any]:
    found: Any = body.field_info.annotation
    return TypeAdapter(found)


def conditions_of(request: Request) -> Conditions:
    """The conditions of a request that saves: its ``If-None-Match``, and that its token still counts at the commit.

    Raises
    ------
    InvalidRequest
        The precondition is another one than ``If-None-Match: *``: it must not be taken for none.
    """
    absent = request.headers.get("if-none-match")
    if "if-match" in request.headers or absent not in {None, "*"}:
        raise InvalidRequest("A save understands `If-None-Match: *` and no other precondition.")
    authority, before = request.state.authority, request.state.access

    def still_may() -> None:
        access = authority.access_of(before.token_id)
        if access is None:
            raise Unauthorized("The token was revoked or has expired while the bytes came; nothing was saved.")
        access.require("write")  # its prefix never changes, and was asked for when the request came

    return Conditions(only_if_absent=absent is not None, still_may=still_may)


def _expected_policy(request: Request) -> Callable[[str | None], bool]:
    headers = request.headers
    return lambda etag: "if-match" not in headers if etag is None else precondition(headers, etag) is None


ExpectedPolicy = Annotated[Callable[[str | None], bool], Depends(_expected_policy)]
"""The precondition of a request that sets a policy: ``If-Match`` or ``If-None-Match``, with tags of policies."""
Reader = Annotated[Access, Depends(Permission("read"))]
Writer = Annotated[Access, Depends(Permission("write"))]
Deleter = Annotated[Access, Depends(Permission("delete"))]
Admin = Annotated[Access, Depends(Permission("admin"))]


def _within(request: Request, prefix: PrefixQuery = "") -> str:
    access: Access = request.state.access
    return access.narrowed(prefix)


Within = Annotated[str, Depends(_within)]
"""The prefix that was asked for, or as much of it as the token reaches."""


def only_known_queries(request: Request) -> None:
    """Refuse query parameters that the route does not have, or has twice: a filter must not be taken for none."""
    if not request.query_params:
        return
    known = query_names(request.app)[request.scope["route"].name]
    for name in request.query_params:
        if name not in known:
            raise InvalidRequest(f"There is no query parameter {name!r} here.", known=sorted(known))
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise InvalidRequest(f"The query parameter {name!r} is given more than once.")


_CONDITIONAL = frozenset({"save_checkpoint", "commit_upload", "set_policy"})
"""The routes that change something and understand ``If-Match`` or ``If-None-Match``."""


def only_known_preconditions(request: Request) -> None:
    """Refuse a precondition of a request that changes something, unless its route understands it."""
    if request.method in {"GET", "HEAD", "OPTIONS"} or request.scope["route"].name in _CONDITIONAL:
        return
    for name in ("If-Match", "If-None-Match"):
        if name in request.headers:
            raise InvalidRequest(f"There is no precondition `{name}` here, and it is not taken for none.")
