"""Responses about uploads: missing ranges, and bytes received."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from app.api.schemas.checkpoints import CheckpointOut
from app.api.schemas.transfers import BatchOut, RangeOut, batches_of, range_of
from app.core.models import RangeUrl, Upload
from app.core.spans import Span
from app.service.upload.transfer import MissingRange, Reservation


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
        missing = reservation.missing
        return cls(
            id=upload.id,
            state="open",
            directory=upload.directory,
            name=upload.name,
            saved_after=upload.saved_after,
            missing=[_put(upload.id, upload.expires_at, *found) for found in missing.ranges],
            missing_count=missing.count,
            missing_bytes=missing.size_bytes,
            batches=batches_of(
                "PUT", f"/v1/uploads/{upload.id}/batch", _whole_files(upload, missing.ranges), upload.expires_at
            ),
            expires_at=upload.expires_at,
            checkpoint=None,
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


def _whole_files(upload: Upload, missing: Iterable[MissingRange]) -> list[tuple[int, str, int]]:
    """Return the files of which nothing has arrived and which fit into one range."""
    whole = {path for path, span, _ in missing if span.start == 0}
    return [
        (place, file.path, file.size_bytes)
        for place, file in enumerate(upload.files)
        if file.path in whole and file.size_bytes is not None
    ]


def _put(upload_id: str, expires_at: datetime, path: str, span: Span, of_store: RangeUrl | None) -> RangeOut:
    query = f"offset={span.start}&length={span.stop - span.start}"
    of_server = RangeUrl(f"/v1/uploads/{upload_id}/files/{quote(path)}?{query}", expires_at=expires_at)
    return range_of("PUT", path, span, of_store or of_server)
