"""Routes of signed links: created with a token, followed without one."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.api import file_response
from app.api.dependencies import ContentsDep, LinksDep, Reader
from app.api.routes.content import BYTES
from app.api.schemas.audit import LinkOut
from app.api.schemas.parameters import FilePath, Id
from app.auth.links import MAX_LIFETIME
from app.core.errors import (
    Altered,
    CheckpointNotFound,
    CheckpointRemoved,
    DiskFailed,
    FileNotInCheckpoint,
    InvalidName,
    InvalidRequest,
    LinkInvalid,
    NoSpace,
    Overloaded,
    RangeNotSatisfiable,
    RecordUnreadable,
    SeveralFiles,
)
from app.http.problems import refuses

router = APIRouter(tags=["bytes"])

LONGEST_S = int(MAX_LIFETIME.total_seconds())
LinkText = Annotated[str, Path(max_length=4096, description="The signed link.")]
FOLLOWED = {
    **BYTES,
    **refuses(
        LinkInvalid,
        CheckpointRemoved,
        Altered,
        RecordUnreadable,
        RangeNotSatisfiable,
        InvalidRequest,
        NoSpace,
        DiskFailed,
        Overloaded,
        public=True,
    ),
}


@router.post(
    "/checkpoints/{checkpoint_id}/links",
    status_code=201,
    responses=refuses(
        InvalidName, CheckpointNotFound, CheckpointRemoved, FileNotInCheckpoint, SeveralFiles, RecordUnreadable
    ),
)
def make_link(
    request: Request,
    checkpoint_id: Id,
    contents: ContentsDep,
    links: LinksDep,
    may: Reader,
    file: Annotated[FilePath | None, Query(description="The file; needed only if there are several.")] = None,
    lifetime_s: Annotated[int, Query(ge=1, le=LONGEST_S, description="How long it is valid, in seconds.")] = 900,
) -> LinkOut:
    """Create a signed link to one file of a checkpoint, for use without a token.

    It is valid until its lifetime ends, the token that created it expires or is revoked, or the checkpoint is removed.
    """
    checkpoint, chosen = contents.select(checkpoint_id, file)
    text, expires_at = links.make(may, checkpoint, chosen, timedelta(seconds=lifetime_s))
    return LinkOut(url=str(request.url_for("follow_link", link=text)), file=chosen.path, expires_at=expires_at)


@router.head("/links/{link}", name="head_link", response_class=Response, responses=FOLLOWED)
@router.get("/links/{link}", response_class=Response, responses=FOLLOWED)
def follow_link(request: Request, link: LinkText, contents: ContentsDep, links: LinksDep) -> Response:
    """Download the file of a signed link. No token is needed."""
    wanted = links.follow(link)
    try:
        found = contents.open(wanted.checkpoint_id, wanted.path)
    except (CheckpointNotFound, FileNotInCheckpoint) as error:
        raise LinkInvalid("The file of this link no longer exists.") from error
    if found.file.digest != wanted.digest:
        found.opened.close()
        raise LinkInvalid("The file of this link no longer exists.")
    return file_response.respond(request, found)
