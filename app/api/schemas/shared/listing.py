"""Lists of open uploads."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from app.api.schemas.uploads import SharedOut
from app.service.query.upload_status import UploadStatus


class OpenUploadOut(BaseModel):
    """An open upload."""

    id: str
    directory: str
    name: str
    save_id: str
    writer: str | None
    created_at: datetime
    expires_at: datetime
    arrived_bytes: int | None = Field(description="Null if the server has not looked since it was started.")
    declared_bytes: int | None = Field(description="Null if the size is not declared.")
    is_committing: bool
    shared: SharedOut | None = Field(description="The writers of a shared upload.")

    @classmethod
    def of(cls, status: UploadStatus) -> Self:
        upload = status.upload
        return cls(
            id=upload.id,
            directory=upload.directory,
            name=upload.name,
            save_id=upload.save_id,
            writer=upload.writer,
            created_at=upload.created_at,
            expires_at=status.expires_at,
            arrived_bytes=status.arrived_bytes,
            declared_bytes=status.declared_bytes,
            is_committing=status.is_committing,
            shared=SharedOut.of(status.shared) if status.shared is not None else None,
        )


class OpenUploadPage(BaseModel):
    """A page of open uploads."""

    uploads: list[OpenUploadOut]
    next_page_token: str | None
