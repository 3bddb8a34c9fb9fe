"""Many directories at a glance: a few questions for all of them together, however many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from app.catalog.rows.directories import Totals, within
from app.catalog.tables import schema
from app.core.models import Mode

_table = schema.checkpoints
_directories = schema.directories


@dataclass(frozen=True, slots=True)
class Held:
    """What a directory holds, and the extremes of its metric."""

    totals: Totals
    least_metric: float | None
    greatest_metric: float | None

    def best_metric(self, mode: Mode) -> float | None:
        """The best metric by a mode."""
        return self.least_metric if mode == "min" else self.greatest_metric


def held(connection: Connection, prefix: str) -> Mapping[str, Held]:
    """What each directory within a prefix holds; nothing is said of those that hold nothing."""
    found = _table.c
    query = select(
        found.directory,
        func.count(),
        func.coalesce(func.sum(found.size_bytes), 0),
        func.min(found.metric),
        func.max(found.metric),
    ).where(found.removed_at.is_(None), within(found.directory, prefix))
    rows = connection.execute(query.group_by(found.directory))
    return {name: Held(Totals(count, size_bytes), least, most) for name, count, size_bytes, least, most in rows}


def recent_metrics(connection: Connection, prefix: str, commits: int) -> Mapping[str, Sequence[float]]:
    """The metrics of the last so many commits to each directory, oldest first, also of what was removed since."""
    found = _table.c
    latest = _table.join(_directories, _directories.c.name == found.directory)
    query = (
        select(found.directory, found.metric)
        .select_from(latest)
        .where(
            within(_directories.c.name, prefix),
            found.sequence > _directories.c.sequence - commits,
            found.metric.is_not(None),
            or_(found.removed_because.is_(None), found.removed_because != "replaced"),
        )
        .order_by(found.directory, found.saved_after, found.sequence)
    )
    metrics: dict[str, list[float]] = {}
    for name, metric in connection.execute(query):
        metrics.setdefault(name, []).append(metric)
    return metrics


def uploads(connection: Connection, prefix: str) -> Mapping[str, int]:
    """How many uploads to each directory within a prefix are under way; nothing is said where there are none."""
    found = schema.uploads.c
    query = select(found.directory, func.count()).where(within(found.directory, prefix)).group_by(found.directory)
    return {name: number for name, number in connection.execute(query)}  # noqa: C416
