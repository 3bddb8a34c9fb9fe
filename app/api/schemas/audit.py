"""Answers about who changed what, and links for others."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from app.catalog import AuditLine


class AuditLineOut(BaseModel):
    """One change. `token_id` is a token's id, or `anonymous`, `server` or `command`; `data` says more of the change."""

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
    """Lines of the audit, and where they go on."""

    lines: list[AuditLineOut]
    next_page_token: str | None


class LinkOut(BaseModel):
    """A link that anyone may follow until then."""

    url: str
    file: str
    expires_at: datetime
