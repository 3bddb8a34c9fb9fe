"""What people look at: many directories at a glance, and one in more detail than programs ask for. Changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.catalog import overview
from app.catalog.directories import Totals
from app.checkpoints.parts import Parts
from app.checkpoints.transfers import Transfers
from app.domain import Directory

RECENT_COMMITS = 40
"""Of how many commits the course of the metric is shown at a glance."""
MOVING_S = 2.0
"""How long after its last bytes an upload counts as moving, in seconds."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A directory at a glance. ``metrics`` are those of the last commits, oldest first."""

    directory: Directory
    totals: Totals
    best_metric: float | None
    metrics: Sequence[float]
    uploads: int
    is_written: bool
    """Whether somebody saves there, or did a moment ago."""


class Viewing:
    """Answers for pages."""

    def __init__(self, parts: Parts, transfers: Transfers) -> None:
        self._parts = parts
        self._transfers = transfers

    def directories(self, prefix: str) -> list[Glance]:
        """All directories at or below a prefix, by name."""
        with self._parts.catalog.reading() as session:
            found = session.directories.below(prefix)
            held = overview.held(session.connection, prefix)
            metrics = overview.recent_metrics(session.connection, prefix, RECENT_COMMITS)
            uploads = overview.uploads(session.connection, prefix)
        nothing = overview.Held(Totals(0, 0), None, None)
        return [
            Glance(
                directory,
                held.get(directory.name, nothing).totals,
                held.get(directory.name, nothing).best_metric(directory.policy.ranks_by),
                metrics.get(directory.name, ()),
                uploads.get(directory.name, 0),
                bool(uploads.get(directory.name)) or self._was_written_lately(directory),
            )
            for directory in found
        ]

    def is_moving(self) -> bool:
        """Whether the bytes of any upload are on their way."""
        return self._transfers.moved_within(MOVING_S)

    def _was_written_lately(self, directory: Directory) -> bool:
        at = directory.last_write_at
        return at is not None and at > self._parts.clock() - self._parts.writer_window
