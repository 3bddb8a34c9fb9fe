"""Request bodies of the writers of a shared upload."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from app.api.schemas.parameters import FilePath
from app.api.schemas.requests import CommittedFileIn, FileIn, RequestBody
from app.api.schemas.values import Count, WriterId
from app.core.limits import MOST
from app.core.models import Chunk, UploadFile

Attempt = Annotated[Count, Field(description="The attempt of the job that has reserved the upload.")]


class WriterIn(RequestBody):
    """A request of one writer of a shared upload."""

    writer: WriterId = Field(description="The name of the writer, which no other writer of the upload has.")
    attempt: Attempt = 0


class SharedFileIn(FileIn):
    """A file of a shared upload. Without `chunks` the server cuts it every 8 MiB."""

    path: FilePath


class DeclareIn(WriterIn):
    """Files that a writer is going to send."""

    files: list[SharedFileIn] = Field(min_length=1, max_length=MOST.files)

    @model_validator(mode="after")
    def _paths_are_unique(self) -> Self:
        if len({file.path for file in self.files}) < len(self.files):
            raise ValueError("must not have two files with the same path")
        return self

    def declared(self) -> list[UploadFile]:
        return [file.file() for file in self.files]


class RenameIn(WriterIn):
    """A file of a writer, and its new path."""

    path: FilePath
    to: FilePath


class SentFileIn(CommittedFileIn):
    """The chunks of a file of a shared upload, hashed while it was sent."""

    path: FilePath


class ReadyIn(WriterIn):
    """A writer that has sent all of its files. Digests that were declared already can be left out."""

    files: list[SentFileIn] = Field(default=[], max_length=MOST.files)

    def digests(self) -> dict[str, tuple[Chunk, ...]]:
        return {file.path: file.declared() for file in self.files}
