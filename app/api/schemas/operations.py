"""Responses about the server itself: information, the token of the request, and health."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from app.core.access import Access, Scope, in_order


class TokenOut(BaseModel):
    """The permissions of the request's token. On a server without tokens the id is `anonymous`."""

    id: str
    scopes: list[Scope]
    prefix: str
    expires_at: datetime | None

    @classmethod
    def of(cls, access: Access) -> Self:
        return cls(
            id=access.token_id, scopes=in_order(access.scopes), prefix=access.prefix, expires_at=access.expires_at
        )


class InfoOut(BaseModel):
    """Information about the server."""

    name: str
    version: str
    server_id: str | None = Field(
        description="Identifies the root. It stays the same after restarts and a reindex, and at every address of the "
        "server. Every response has it in the header `Holdfast-Server-Id`. Null while the root cannot be marked."
    )
    api: str
    root: str | None = Field(description="Path of the root; null for a token with a prefix.")
    docs: str
    chunk_max_bytes: int
    range_max_bytes: int
    token: TokenOut


class HealthOut(BaseModel):
    """The result of a health check."""

    status: str
