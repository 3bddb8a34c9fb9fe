"""Times in the catalog: text in UTC of one width, which sorts as the times do."""

from datetime import UTC, datetime
from typing import overload


@overload
def to_text(at: datetime) -> str: ...
@overload
def to_text(at: None) -> None: ...
def to_text(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at is not None else None


@overload
def to_time(text: str) -> datetime: ...
@overload
def to_time(text: None) -> None: ...
def to_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
