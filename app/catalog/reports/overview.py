"""Overviews of many directories: a constant number of queries for any number of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, ScalarSelect, func, or_, select

from app.catalog.rows.checkpoint_loader import batches
from app.catalog.rows.directories import USED, Totals, within
from app.catalog.tables import schema
from app.catalog.tables.times import to_text
from app.core.models import Mode

_table = schema.checkpoints
_directories = schema.directories
_counters = schema.directory_counters


class Glance(NamedTuple):
    """Summary of each of many directories: the name, the totals, and whether its last save was a moment ago."""

    name: str
    checkpoints: int
    size_bytes: int
    is_written: bool

    @property
    def totals(self) -> Totals:
        return Totals(self.checkpoints, self.size_bytes)


class MetricRange(NamedTuple):
    """The least and the greatest metric of the live checkpoints of a directory."""

    least: float | None = None
    greatest: float | None = None

    def best(self, mode: Mode) -> float | None:
        """Return the best metric by a mode."""
        return self.least if mode == "min" else self.greatest


def glances(connection: Connection, prefix: str, active_since: datetime) -> list[Glance]:
    """Return all directories within a prefix that were ever used, by name."""
    directory, counter = _directories.c, _counters.c
    columns = (func.coalesce(counter.live_count, 0), func.coalesce(counter.live_bytes, 0))
    query = select(directory.name, *columns, directory.last_write_at > to_text(active_since))
    query = query.join_from(_directories, _counters, counter.directory == directory.name, isouter=True)
    rows = connection.execute(query.where(USED, within(directory.name, prefix)))
    # Sorted here: by the index of names, SQLite would seek each row of the table.
    return sorted(Glance(name, count, size_bytes, bool(is_written)) for name, count, size_bytes, is_written in rows)


def metric_ranges(connection: Connection, names: Sequence[str]) -> Mapping[str, MetricRange]:
    """Return the extremes of the metric of each of these directories, by two seeks in an index for each of them."""
    columns = (_directories.c.name, _extreme(is_greatest=False), _extreme(is_greatest=True))
    found: dict[str, MetricRange] = {}
    for batch in batches(names):
        rows = connection.execute(select(*columns).where(_directories.c.name.in_(batch)))
        found |= {name: MetricRange(least, greatest) for name, least, greatest in rows}
    return found


def recent_metrics(connection: Connection, names: Iterable[str], commits: int) -> Mapping[str, tuple[float, ...]]:
    """Return the metrics of the last commits to each directory, oldest first, removed checkpoints included."""
    found = _table.c
    query = (
        select(found.directory, found.saved_after, found.sequence, found.metric)
        .join_from(_directories, _table, _directories.c.name == found.directory)
        .where(
            found.sequence > _directories.c.sequence - commits,
            found.metric.is_not(None),
            or_(found.removed_because.is_(None), found.removed_because != "replaced"),
        )
    )
    points: dict[str, list[tuple[int, int, float]]] = {}
    for batch in batches(names):
        for name, *point in connection.execute(query.where(_directories.c.name.in_(batch))):
            points.setdefault(name, []).append(tuple(point))
    return {name: tuple(metric for *_, metric in sorted(of)) for name, of in points.items()}


def uploads(connection: Connection, prefix: str) -> Mapping[str, int]:
    """Return the number of open uploads to each directory within a prefix that has any."""
    found = schema.uploads.c
    query = select(found.directory, func.count()).where(within(found.directory, prefix)).group_by(found.directory)
    return {name: number for name, number in connection.execute(query)}  # noqa: C416


def _extreme(*, is_greatest: bool) -> ScalarSelect[float]:
    found = _table.c
    here = (found.directory == _directories.c.name, found.removed_at.is_(None), found.metric.is_not(None))
    order = found.metric.desc() if is_greatest else found.metric.asc()
    query = select(found.metric).where(*here).order_by(order).limit(1)
    return query.correlate(_directories).scalar_subquery()
