"""Authorisation: the scopes of a token, and the prefix of directories that it reaches. Pure: no clock, disk or SQL."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self, get_args

from app.core.errors import DirectoryNotFound, Forbidden
from app.core.names import is_within

Scope = Literal["read", "write", "delete", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ANYONE = "anonymous"
"""The token id of requests that need no token."""


@dataclass(frozen=True, slots=True)
class Access:
    """The permissions of a request: scopes in the directories at and below a prefix.

    The prefix ``""`` is all directories; the scope ``admin`` includes all others.
    """

    token_id: str
    scopes: frozenset[Scope]
    prefix: str = ""
    expires_at: datetime | None = None

    @classmethod
    def unlimited(cls, token_id: str) -> Self:
        """Return access with every scope to all directories."""
        return cls(token_id, frozenset(SCOPES))

    def allows(self, scope: Scope) -> bool:
        """Tell if the scopes include this one."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the scopes include this one."""
        if not self.allows(scope):
            raise Forbidden(
                f"This needs a token with the scope {scope!r}; this one has {', '.join(in_order(self.scopes))}.",
                scope=scope,
            )

    def reaches(self, directory: str) -> bool:
        """Tell if a directory is within the prefix, by whole components."""
        return is_within(directory, self.prefix)

    def reach(self, directory: str) -> None:
        """Raise `DirectoryNotFound` unless the directory is within the prefix, whether or not it exists."""
        if not self.reaches(directory):
            raise DirectoryNotFound(
                f"There is no directory {directory!r} for a token of {self.prefix!r}.",
                directory=directory,
                token_prefix=self.prefix,
            )

    def narrowed(self, prefix: str) -> str:
        """Return the part of a prefix that is within reach; raise `DirectoryNotFound` if there is none."""
        if is_within(self.prefix, prefix):
            return self.prefix
        self.reach(prefix)
        return prefix


@dataclass(frozen=True, slots=True)
class Token:
    """The stored record of a token, with its hash but without its secret."""

    id: str
    hash: str
    scopes: frozenset[Scope]
    prefix: str
    note: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def access(self, now: datetime) -> Access | None:
        """Return its access; None if it has expired or was revoked."""
        if self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now):
            return None
        return Access(self.id, self.scopes, self.prefix, self.expires_at)


def in_order(scopes: Iterable[Scope]) -> list[Scope]:
    """Sort scopes, the weakest first."""
    return sorted(scopes, key=SCOPES.index)
