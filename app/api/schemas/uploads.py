"""Responses about uploads: missing ranges, and bytes received."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from app.api.schemas.checkpoints import CheckpointOut
from app.api.schemas.transfers import BatchOut, RangeOut, batches_of, range_of
from app.core import batches
from app.core.models import RangeUrl, Upload
from app.core.spans import Span
from app.service.state.shared_files import SharedStatus
from app.service.upload.transfer import MissingRange, Reservation


class SharedWriterOut(BaseModel):
    """A writer of a shared upload."""

    writer: str
    files: int
    size_bytes: int
    missing_bytes: int | None = Field(description="Null if the server has not looked since it was started.")
    is_ready: bool
    active_at: datetime | None


class SharedOut(BaseModel):
    """The state of a shared upload."""

    attempt: int
    commit_when_ready: bool
    writers: list[SharedWriterOut] = Field(description="The writers that have declared files or are ready.")
    missing_writers: list[str] = Field(description="Writers that the commit waits for.")

    @classmethod
    def of(cls, status: SharedStatus) -> Self:
        writers = [
            SharedWriterOut(
                writer=writer.name,
                files=writer.files,
                size_bytes=writer.size_bytes,
                missing_bytes=writer.missing_bytes,
                is_ready=writer.is_ready,
                active_at=writer.active_at,
            )
            for writer in status.writers
        ]
        return cls(
            attempt=status.terms.attempt,
            commit_when_ready=status.terms.commit_when_ready,
            writers=writers,
            missing_writers=list(status.missing_writers),
        )


class UploadOut(BaseModel):
    """An upload and its missing ranges, or the checkpoint once it is committed."""

    id: str
    state: Literal["open", "committed"]
    directory: str
    name: str
    saved_after: int | None
    missing: list[RangeOut] = Field(description="The first missing ranges, in the order of the files.")
    missing_count: int = Field(description="Number of missing ranges. `GET` the upload again for those not listed.")
    missing_bytes: int = Field(description="Number of missing bytes.")
    batches: list[BatchOut] = Field(description="Small files of `missing` that can be sent in one request.")
    expires_at: datetime | None
    checkpoint: CheckpointOut | None
    shared: SharedOut | None = Field(None, description="The writers, if it is shared and open.")

    @classmethod
    def of(cls, reservation: Reservation) -> Self:
        upload = reservation.upload
        if upload is None:
            checkpoint = reservation.checkpoint
            assert checkpoint is not None
            return cls(
                id=checkpoint.id,
                state="committed",
                directory=checkpoint.directory,
                name=checkpoint.name,
                saved_after=checkpoint.saved_after,
                missing=[],
                missing_count=0,
                missing_bytes=0,
                batches=[],
                expires_at=None,
                checkpoint=CheckpointOut.of(checkpoint),
            )
        missing, shared = reservation.missing, reservation.shared
        more = f"&attempt={shared.terms.attempt}" if shared is not None else ""
        return cls(
            id=upload.id,
            state="open",
            directory=upload.directory,
            name=upload.name,
            saved_after=upload.saved_after,
            missing=[_put(upload.id, upload.expires_at, more, *found) for found in missing.ranges],
            missing_count=missing.count,
            missing_bytes=missing.size_bytes,
            batches=batches_of(
                "PUT",
                f"/v1/uploads/{upload.id}/batch",
                _whole_files(upload, missing.ranges, reservation.places),
                upload.expires_at,
                more,
            ),
            expires_at=upload.expires_at,
            checkpoint=None,
            shared=SharedOut.of(shared) if shared is not None else None,
        )


class ReceivedOut(BaseModel):
    """A range that was verified and written."""

    file: str
    offset: int
    length: int


class BatchReceivedOut(BaseModel):
    """A batch that was verified and written."""

    files: int
    length: int


def _whole_files(
    upload: Upload, missing: Iterable[MissingRange], places: Mapping[str, int]
) -> list[tuple[int, str, int]]:
    """Return the files of which nothing has arrived and which fit into one range, in the order of their places."""
    whole = {path for path, span, _ in missing if span.start == 0}
    found = [
        (places.get(file.path, place), file.path, file.size_bytes)
        for place, file in enumerate(upload.files)
        if file.path in whole and file.size_bytes is not None
    ]
    return sorted(file for file in found if file[0] < batches.MOST_PLACES)


def _put(upload_id: str, expires_at: datetime, more: str, path: str, span: Span, of_store: RangeUrl | None) -> RangeOut:
    query = f"offset={span.start}&length={span.stop - span.start}{more}"
    of_server = RangeUrl(f"/v1/uploads/{upload_id}/files/{quote(path)}?{query}", expires_at=expires_at)
    return range_of("PUT", path, span, of_store or of_server)
