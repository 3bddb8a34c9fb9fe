"""Overviews of many directories: a constant number of queries for any number of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from app.catalog.rows.directories import Totals, within
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.core.models import Mode

_table = schema.checkpoints
_directories = schema.directories


@dataclass(frozen=True, slots=True)
class Held:
    """The totals of a directory, and the extremes of its metric."""

    totals: Totals
    least_metric: float | None
    greatest_metric: float | None

    def best_metric(self, mode: Mode) -> float | None:
        """Return the best metric by a mode."""
        return self.least_metric if mode == "min" else self.greatest_metric


def held(connection: Connection, prefix: str) -> Mapping[str, Held]:
    """Return the totals of each directory within a prefix that holds a live checkpoint."""
    found = _table.c
    query = select(
        found.directory,
        func.count(),
        total(found.size_bytes),
        func.min(found.metric),
        func.max(found.metric),
    ).where(found.removed_at.is_(None), within(found.directory, prefix))
    rows = connection.execute(query.group_by(found.directory))
    return {name: Held(Totals(count, size_bytes), least, most) for name, count, size_bytes, least, most in rows}


def recent_metrics(connection: Connection, prefix: str, commits: int) -> Mapping[str, Sequence[float]]:
    """Return the metrics of the last commits to each directory, oldest first, removed checkpoints included."""
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
    """Return the number of open uploads to each directory within a prefix that has any."""
    found = schema.uploads.c
    query = select(found.directory, func.count()).where(within(found.directory, prefix)).group_by(found.directory)
    return {name: number for name, number in connection.execute(query)}  # noqa: C416
