"""Responses about the tree."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from app.service.query.tree import Entry, EntryType, TreePage


class TreeEntryOut(BaseModel):
    """Something in the tree. What is not known, or does not apply, is null."""

    name: str = Field(description="The last component of the path; empty for the root.")
    path: str = Field(description="The path from the root, with the name that an alias stands for.")
    type: EntryType
    size_bytes: int | None = Field(description="Of a file, or of all files of a checkpoint.")
    created_at: datetime | None = Field(description="Time of the commit; of a directory, of its first save.")
    modified_at: datetime | None = Field(description="Time of the commit; of a directory, of its last save.")
    checkpoint_id: str | None = Field(description="Id of the checkpoint that this is, or is in.")
    digest: str | None = Field(description="Of a file or a checkpoint.")
    etag: str | None = Field(description="ETag of a file, as its download has it.")
    url: str | None = Field(description="Address of the bytes of a file, relative to the server.")

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(**_values(entry))


class TreeOut(TreeEntryOut):
    """The thing at a path, and a page of its entries by name. `next_page_token` is null on the last page."""

    entries: list[TreeEntryOut]
    next_page_token: str | None

    @classmethod
    def of_page(cls, page: TreePage, next_page_token: str | None) -> Self:
        entries = [TreeEntryOut.of(entry) for entry in page.entries]
        return cls(**_values(page.entry), entries=entries, next_page_token=next_page_token)


def _values(entry: Entry) -> Mapping[str, Any]:
    is_file = entry.file is not None
    return {
        "name": entry.name,
        "path": entry.path,
        "type": entry.type,
        "size_bytes": entry.size_bytes,
        "created_at": entry.created_at,
        "modified_at": entry.modified_at,
        "checkpoint_id": entry.checkpoint_id,
        "digest": entry.digest,
        "etag": f'"{entry.digest}"' if is_file else None,
        "url": f"/v1/checkpoints/{entry.checkpoint_id}/files/{quote(entry.file or '')}" if is_file else None,
    }
