"""Responses with audit lines and signed links."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from app.catalog import AuditLine


class AuditLineOut(BaseModel):
    """One change. `token_id` is a token's id, or `anonymous`, `server` or `command`; `data` has the details."""

    id: int
    at: datetime
    action: str
    token_id: str
    peer: str
    request_id: str
    directory: str | None
    checkpoint_id: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, line: AuditLine) -> Self:
        return cls(**asdict(line))


class AuditPage(BaseModel):
    """A page of the audit log. `next_page_token` is null on the last page."""

    lines: list[AuditLineOut]
    next_page_token: str | None


class LinkOut(BaseModel):
    """A signed link, valid without a token until `expires_at`."""

    url: str
    file: str
    expires_at: datetime
