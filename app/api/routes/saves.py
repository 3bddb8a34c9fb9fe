"""The route of small saves: facts and bytes in one request."""

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from app.api.dependencies import Expected, LookupsDep, PermissionFirstRoute, ServiceDep, Writer, conditions_of
from app.api.routes.uploads import BODY_REFUSALS, SAVE_REFUSALS, committed_answer
from app.api.schemas.checkpoints import CommittedOut
from app.api.schemas.requests import UploadIn
from app.core.errors import (
    DigestMismatch,
    DirectoryNotFound,
    InvalidName,
    NotReady,
    PreconditionFailed,
    SaveIdReused,
    TooLarge,
    TooManyUploads,
    UnsupportedMediaType,
    UploadBusy,
    WrongLength,
)
from app.core.models import SMALL_CHECKPOINT_BYTES
from app.http.body import described
from app.http.body.threads import run_for_body
from app.http.problems import refuses
from app.service.state.pending_commits import Committed

router = APIRouter(prefix="/saves", tags=["uploads"], route_class=PermissionFirstRoute)

_SAVE = TypeAdapter(UploadIn)
_FACTS_BYTES = 2 * 1024 * 1024
"""The longest line of JSON before the bytes of the files."""


@router.post(
    "",
    status_code=201,
    max_body_size=_FACTS_BYTES + SMALL_CHECKPOINT_BYTES,
    openapi_extra={"requestBody": {"required": True, "content": {described.MEDIA_TYPE: {}}}},
    responses={
        200: {"model": CommittedOut, "description": "The same save was already committed."},
        **refuses(
            InvalidName,
            SaveIdReused,
            UploadBusy,
            WrongLength,
            DigestMismatch,
            TooLarge,
            UnsupportedMediaType,
            NotReady,
            DirectoryNotFound,
            TooManyUploads,
            PreconditionFailed,
            *BODY_REFUSALS,
            *SAVE_REFUSALS,
        ),
    },
)
async def save_small(
    request: Request, service: ServiceDep, lookups: LookupsDep, response: Response, may: Writer, expected: Expected
) -> CommittedOut:
    """Save a small checkpoint in a single request, its facts and its bytes together.

    The body is a line of JSON, as of `POST /v1/uploads`, and after its line feed the bytes of the files in the order of
    the JSON, 2 MiB at most. Chunks with digests are verified. The checkpoint is durable when the response arrives.
    `If-Match` and `If-None-Match` work as with `POST /v1/checkpoints`. Idempotent with a `save_id`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != described.MEDIA_TYPE:
        raise UnsupportedMediaType(f"The body must have the header `Content-Type: {described.MEDIA_TYPE}`.")
    body, conditions = await request.body(), conditions_of(request)

    def save() -> Committed:
        upload, data = described.read(body, _SAVE, max_json_bytes=request.app.state.max_json_bytes)
        may.reach(upload.directory)
        if len(data) > SMALL_CHECKPOINT_BYTES:
            raise TooLarge(
                f"The files have {len(data)} bytes, more than {SMALL_CHECKPOINT_BYTES}. Use `POST /v1/uploads`."
            )
        base = upload.base if upload.base is not None and lookups.is_readable(may, upload.base) else None
        return service.small_saves.save(upload.save(may, base, expected), data, conditions)

    return committed_answer(await run_for_body(save), response)
