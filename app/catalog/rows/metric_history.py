"""Metric history: what remains of the metrics of removed checkpoints, a bounded number of points per directory."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from app.catalog.tables import schema

MOST_POINTS = 1000
"""The number of points that a directory keeps at most."""

_table = schema.metric_history


class HistoryPoint(NamedTuple):
    """The metric of one checkpoint; ``created_at`` is a text of `tables.times`."""

    directory: str
    saved_after: int
    sequence: int
    epoch: int | None
    metric: float
    created_at: str
    step: int | None = None


class MetricHistoryRows:
    """The metric history within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, points: Sequence[HistoryPoint]) -> None:
        """Add points, and thin the history of their directories. Idempotent."""
        self._delete((point.directory, point.saved_after, point.sequence) for point in points)
        if points:
            self._connection.execute(insert(_table), [point._asdict() for point in points])
        for directory in sorted({point.directory for point in points}):
            self._thin(directory)

    def _thin(self, directory: str) -> None:
        of_directory = _table.c.directory == directory
        if self._connection.execute(select(func.count()).where(of_directory)).scalar_one() <= MOST_POINTS:
            return
        query = select(_table.c.saved_after, _table.c.sequence, _table.c.metric).where(of_directory)
        rows = self._connection.execute(query.order_by(_table.c.saved_after, _table.c.sequence)).all()
        kept = set(thinned([row.saved_after for row in rows], [row.metric for row in rows], MOST_POINTS))
        going = (row for index, row in enumerate(rows) if index not in kept)
        self._delete((directory, row.saved_after, row.sequence) for row in going)

    def _delete(self, keys: Iterable[tuple[str, int, int]]) -> None:
        names = ("of_directory", "of_position", "of_sequence")
        values = [dict(zip(names, key, strict=True)) for key in keys]
        columns = (_table.c.directory, _table.c.saved_after, _table.c.sequence)
        chosen = (column == bindparam(name) for column, name in zip(columns, names, strict=True))
        if values:
            self._connection.execute(delete(_table).where(*chosen), values)


def thinned(positions: Sequence[int], values: Sequence[float], most: int) -> Sequence[int]:
    """Return the indices of at most ``most`` points, which are sorted by position: those that shape the line.

    They are the first, the last, and the extremes of each section. Sections are a power of two wide and begin at its
    multiples, so the sections of one thinning lie within those of the next: to thin what was thinned before, with
    points that were added since, loses no extreme of any section.

    Parameters
    ----------
    most : int
        At least 4.
    """
    if len(values) <= most:
        return range(len(values))
    width = 1
    while len(kept := _extremes(positions, values, width)) > most:
        width *= 2
    return kept


def _extremes(positions: Sequence[int], values: Sequence[float], width: int) -> Sequence[int]:
    least: dict[int, int] = {}
    greatest: dict[int, int] = {}
    for index, (position, value) in enumerate(zip(positions, values, strict=True)):
        section = position // width
        if value < values[least.setdefault(section, index)]:
            least[section] = index
        if value > values[greatest.setdefault(section, index)]:
            greatest[section] = index
    return sorted({0, len(values) - 1, *least.values(), *greatest.values()})
