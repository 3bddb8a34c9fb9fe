"""Who may do what, and where: scopes, and one prefix of directories. Pure: no clock, disk or SQL."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self, get_args

from app.core.errors import DirectoryNotFound, Forbidden
from app.core.names import is_within

Scope = Literal["read", "write", "delete", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ANYONE = "anonymous"
"""Stands for a token where none is needed."""


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody may do in the directories at and below a prefix; ``""`` is all of them. ``admin`` is all scopes."""

    token_id: str
    scopes: frozenset[Scope]
    prefix: str = ""
    expires_at: datetime | None = None

    @classmethod
    def unlimited(cls, token_id: str) -> Self:
        """To do everything everywhere."""
        return cls(token_id, frozenset(SCOPES))

    def allows(self, scope: Scope) -> bool:
        """Whether the scopes hold this one."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """`Forbidden` unless the scopes hold this one."""
        if not self.allows(scope):
            raise Forbidden(
                f"This needs a token with the scope {scope!r}; this one has {', '.join(in_order(self.scopes))}.",
                scope=scope,
            )

    def reaches(self, directory: str) -> bool:
        """Whether a directory is at or below the prefix, by whole components."""
        return is_within(directory, self.prefix)

    def reach(self, directory: str) -> None:
        """`DirectoryNotFound` unless the directory is within the prefix, whether or not there is one of that name."""
        if not self.reaches(directory):
            raise DirectoryNotFound(
                f"There is no directory {directory!r} for a token of {self.prefix!r}.",
                directory=directory,
                token_prefix=self.prefix,
            )

    def narrowed(self, prefix: str) -> str:
        """As much of a prefix as can be reached. `DirectoryNotFound` where that is nothing."""
        if is_within(self.prefix, prefix):
            return self.prefix
        self.reach(prefix)
        return prefix


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token; the token itself is not."""

    id: str
    hash: str
    scopes: frozenset[Scope]
    prefix: str
    note: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def access(self, now: datetime) -> Access | None:
        """What it allows; None where it has expired or was revoked."""
        if self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now):
            return None
        return Access(self.id, self.scopes, self.prefix, self.expires_at)


def in_order(scopes: Iterable[Scope]) -> list[Scope]:
    """Scopes, the weakest first."""
    return sorted(scopes, key=SCOPES.index)
