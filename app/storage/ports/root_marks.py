"""The port to the few facts that a root remembers on its own, even if its catalog is lost."""

from typing import Protocol

from app.core.models import RootMark


class RootMarks(Protocol):
    """Identity, layout and security of a root. Changes are durable on return; one caller at a time."""

    is_new: bool
    """True if neither this nor an earlier server had written anything when the root was opened."""

    def last_opening(self) -> RootMark | None:
        """Return the mark of the last opening of this root; None if that is lost."""

    def note_opening(self, opened: RootMark) -> None:
        """Replace the mark by that of a new opening."""

    def upgrade(self) -> None:
        """Record that this version uses the root, once everything in it is as this version expects."""

    @property
    def is_protected(self) -> bool:
        """True once `protect` was called."""

    def protect(self) -> None:
        """Record that every request needs a token, whatever becomes of the catalog."""

    @property
    def revoked(self) -> frozenset[str]:
        """All ids that were ever given to `revoke`."""

    def revoke(self, token_id: str) -> None:
        """Record that a token is revoked, whatever becomes of the catalog."""
