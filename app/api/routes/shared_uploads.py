"""Routes of open uploads and of the writers of shared ones: list, declare, rename and remove files, be ready."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.api.dependencies import (
    PermissionFirstRoute,
    Reader,
    ServiceDep,
    SharedCommitsDep,
    SharedFilesDep,
    Within,
    Writer,
    conditions_of,
)
from app.api.routes.uploads import SAVE_REFUSALS
from app.api.schemas.parameters import DirectoryName, FilePath, Id, PageSize, PageToken
from app.api.schemas.shared.listing import OpenUploadOut, OpenUploadPage
from app.api.schemas.shared.requests import DeclareIn, ReadyIn, RenameIn
from app.api.schemas.uploads import UploadOut
from app.api.schemas.values import MAX_INT, WriterId
from app.core.errors import (
    AttemptSuperseded,
    DigestMismatch,
    DirectoryNotFound,
    FileNotInCheckpoint,
    FilesMissing,
    InvalidName,
    NoSpace,
    PathTaken,
    PreconditionFailed,
    QuotaExceeded,
    RangesMissing,
    TooLarge,
    UploadBusy,
    UploadNotFound,
    WritersMissing,
)
from app.http.body.threads import run_for_body
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=PermissionFirstRoute)

WRITER_REFUSALS = (UploadNotFound, UploadBusy, AttemptSuperseded)
READY_REFUSALS = (FileNotInCheckpoint, RangesMissing, DigestMismatch, WritersMissing, FilesMissing, PreconditionFailed)


@router.get("", responses=refuses(InvalidName, DirectoryNotFound))
def list_uploads(
    service: ServiceDep,
    _: Reader,
    prefix: Within,
    directory: Annotated[DirectoryName | None, Query(description="Only uploads to this directory.")] = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> OpenUploadPage:
    """List open uploads of a directory, or of all at or below a prefix.

    Of a shared upload, each writer comes with its files, the bytes that it lacks, and whether it is ready.
    """
    after = read_token(page_token, "uploads", prefix, directory, length=1)
    found, following = service.upload_lists.page(
        prefix, directory, after=str(after[0]) if after else "", limit=page_size
    )
    token = write_token((following,), "uploads", prefix, directory) if following is not None else None
    return OpenUploadPage(uploads=[OpenUploadOut.of(status) for status in found], next_page_token=token)


@router.post(
    "/{upload_id}/files",
    responses=refuses(InvalidName, *WRITER_REFUSALS, PathTaken, TooLarge, NoSpace, QuotaExceeded),
)
def declare_files(upload_id: Id, files: DeclareIn, shared_files: SharedFilesDep, _: Writer) -> UploadOut:
    """Declare files of a shared upload by their writer.

    The response lists the ranges of these files to send. All files are declared, or none. Idempotent.
    """
    return UploadOut.of(shared_files.declare(upload_id, files.writer, files.attempt, files.declared()))


@router.post(
    "/{upload_id}/rename",
    status_code=204,
    responses=refuses(InvalidName, *WRITER_REFUSALS, FileNotInCheckpoint, PathTaken),
)
def rename_file(upload_id: Id, rename: RenameIn, shared_files: SharedFilesDep, _: Writer) -> None:
    """Rename a file of a shared upload, with its bytes. Idempotent."""
    shared_files.rename(upload_id, rename.writer, rename.attempt, rename.path, rename.to)


@router.delete(
    "/{upload_id}/files/{path:path}",
    status_code=204,
    responses=refuses(InvalidName, *WRITER_REFUSALS, FileNotInCheckpoint, PathTaken),
)
def remove_file(
    upload_id: Id,
    path: FilePath,
    shared_files: SharedFilesDep,
    _: Writer,
    writer: Annotated[WriterId, Query(description="The writer that has declared it.")],
    attempt: Annotated[int, Query(ge=0, le=MAX_INT, description="The attempt of the job.")] = 0,
) -> None:
    """Remove a file of a shared upload, with its bytes."""
    shared_files.remove(upload_id, writer, attempt, path)


@router.post(
    "/{upload_id}/ready",
    responses=refuses(InvalidName, *WRITER_REFUSALS, *READY_REFUSALS, TooLarge, *SAVE_REFUSALS),
)
async def be_ready(
    request: Request, upload_id: Id, ready: ReadyIn, shared_commits: SharedCommitsDep, _: Writer
) -> UploadOut:
    """Report that a writer of a shared upload has sent all of its files.

    With `commit_when_ready`, the response to the last writer holds the checkpoint; the others `GET` the upload. A
    change of its files makes a writer unready again. Idempotent.
    """

    def work() -> UploadOut:
        conditions = conditions_of(request)
        digests = ready.digests()
        return UploadOut.of(shared_commits.ready(upload_id, ready.writer, ready.attempt, digests, conditions))

    return await run_for_body(work)
