"""The route of the audit log."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import Admin, LookupsDep, Within
from app.api.schemas.audit import AuditLineOut, AuditPage
from app.api.schemas.parameters import PageSize, PageToken
from app.api.schemas.values import MAX_INT
from app.core.errors import DirectoryNotFound, InvalidName
from app.http.body.json_response import SerialisedRoute
from app.http.page_tokens import read_number, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/audit", tags=["operations"], route_class=SerialisedRoute)

TokenId = Annotated[str | None, Query(min_length=1, max_length=64, description="Only actions of this token.")]


@router.get("", responses=refuses(InvalidName, DirectoryNotFound))
def list_audit(
    lookups: LookupsDep,
    _: Admin,
    prefix: Within,
    token_id: TokenId = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> AuditPage:
    """List the audit log, newest first.

    Each line names the change, the token, the client's address and the request. Lines about tokens, keys and sessions
    belong to no directory: they are listed only without a prefix, and only for an admin of all directories.
    """
    before = read_number(page_token, "audit", prefix, token_id)
    lines, following = lookups.audit(
        before if before is not None else MAX_INT, prefix=prefix, token_id=token_id, limit=page_size
    )
    token = write_token((following,), "audit", prefix, token_id) if following is not None else None
    return AuditPage(lines=[AuditLineOut.of(line) for line in lines], next_page_token=token)
