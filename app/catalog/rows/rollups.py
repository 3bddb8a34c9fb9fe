"""Rollups of usage: growth and removals of each directory by ten minutes, kept in the transaction of each change.

`CheckpointRows` counts here every row that it counts in the counters. What a directory held at a time is what it holds
now without its growth since, so that a line over time visits no rows of checkpoints. A removal that is dated before
the creation, as after a clock was set back, grows nothing: the checkpoint was never there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    CompoundSelect,
    Connection,
    FromClause,
    Insert,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.counters import REASONS, SumRows
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.catalog.tables.times import to_text, to_time

EVERYWHERE: Final = ""
"""Stands for all directories together, which have rollups of their own."""
CHARACTERS: Final = len("2026-01-01T00:0")
"""A bucket is the part that all times within its ten minutes begin with."""
LENGTH: Final = timedelta(minutes=10)
_BEGINS: Final = "0:00.000000Z"
"""Makes a bucket the time at which it begins."""

_table = schema.usage_rollups
_found = schema.checkpoints.c
NAMES: Final = tuple(column.name for column in _table.c if not column.primary_key)
_KEY: Final = ("directory", "bucket")
_ADD: Final = text(
    f"INSERT INTO {_table.name} ({', '.join((*_KEY, *NAMES))}) "
    f"VALUES ({', '.join(f':{name}' for name in (*_KEY, *NAMES))}) ON CONFLICT ({', '.join(_KEY)}) DO UPDATE "
    f"SET {', '.join(f'{name} = {_table.name}.{name} + excluded.{name}' for name in NAMES)}"
)
_DELETE_EMPTY: Final = delete(_table).where(
    *(_table.c[name] == bindparam(f"of_{name}") for name in _KEY), *(_table.c[name] == 0 for name in NAMES)
)


class RollupRows(SumRows[tuple[str, str]]):
    """Rollups by directory and bucket within one transaction."""

    def count(self, row: Any, times: int) -> None:
        for bucket, change in _contributions(row):
            for directory in (row["directory"], EVERYWHERE):
                changes = self._changes.setdefault((directory, bucket), Counter())
                for name, value in change.items():
                    changes[name] += times * value

    def _rebuild(self) -> None:
        rebuild_from(self._connection)

    def _add(self, changes: Mapping[tuple[str, str], Counter[str]]) -> None:
        written = {key: change for key, change in sorted(changes.items()) if any(change.values())}
        rows = [
            {"directory": directory, "bucket": bucket, **{name: change[name] for name in NAMES}}
            for (directory, bucket), change in written.items()
        ]
        if rows:
            self._connection.execute(_ADD, rows)
        emptied = [key for key, change in written.items() if _may_empty(change)]
        if emptied:
            keys = [{"of_directory": directory, "of_bucket": bucket} for directory, bucket in emptied]
            self._connection.execute(_DELETE_EMPTY, keys)

    def repair(self, directory: str) -> None:
        """Count the rows of one directory anew, or those of all for `EVERYWHERE`."""
        self.write()
        everywhere = directory == EVERYWHERE
        contributed = _contributed() if everywhere else _contributed(_found.directory == directory)
        self._connection.execute(delete(_table).where(_table.c.directory == directory))
        self._connection.execute(_insertion(_summed(contributed.subquery(), everywhere=everywhere)))

    def mismatches(self) -> list[tuple[str, list[str]]]:
        """Return the directories whose rollups disagree with the rows, each with the names of the wrong figures.

        `EVERYWHERE` may be one of them. A bucket without a rollup counts as zeros.
        """
        self.write()
        rows = _contributed().subquery().c
        negated = [(-rows[name]).label(name) for name in NAMES]
        compared = union_all(
            select(*(_table.c[name] for name in (*_KEY, *NAMES))),
            select(rows.directory, rows.bucket, *negated),
            select(literal(EVERYWHERE), rows.bucket, *negated),
        ).subquery()
        differs = [(total(compared.c[name]) != 0).label(name) for name in NAMES]
        query = select(compared.c.directory, *differs).group_by(compared.c.directory, compared.c.bucket)
        wrong: dict[str, set[str]] = {}
        for row in self._connection.execute(query.having(or_(*differs))).mappings():
            wrong.setdefault(row["directory"], set()).update(name for name in NAMES if row[name])
        return [(directory, sorted(names, key=NAMES.index)) for directory, names in sorted(wrong.items())]


def rebuild(session: Any) -> None:
    """Count the rows of all directories anew, within a session."""
    rebuild_from(session.connection)


def rebuild_from(connection: Connection) -> None:
    """Count the rows of all directories anew."""
    connection.execute(delete(_table))
    connection.execute(_insertion(_summed(_contributed().subquery())))
    connection.execute(_insertion(_summed(_table, everywhere=True)))


def bucket_of(at: datetime) -> str:
    """Return the bucket of a time."""
    return to_text(at)[:CHARACTERS]


def end_of(bucket: str) -> datetime:
    """Return the time at which a bucket ends."""
    return to_time(bucket + _BEGINS) + LENGTH


def _contributions(row: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, int]]]:
    """Yield what a row of a checkpoint adds to which buckets; `_counting` says the same of all rows."""
    size_bytes = row["size_bytes"] if isinstance(row["size_bytes"], int) else 0  # SQLite may hold text
    created_at, removed_at, because = str(row["created_at"]), row["removed_at"], row["removed_because"]
    was_there = removed_at is None or str(removed_at) >= created_at
    yield created_at[:CHARACTERS], {"growth_bytes": size_bytes if was_there else 0}
    if removed_at is not None:
        reasons = {f"{because}_count": 1, f"{because}_bytes": size_bytes} if because in REASONS else {}
        yield str(removed_at)[:CHARACTERS], {"growth_bytes": -size_bytes if was_there else 0, **reasons}


def _may_empty(change: Mapping[str, int]) -> bool:
    """Tell if a rollup may be all zeros after a change, which leaves no removals behind and takes something away."""
    counts = [change[f"{because}_count"] for because in REASONS]
    return not any(count > 0 for count in counts) and any(value < 0 for value in change.values())


def _contributed(*conditions: ColumnElement[bool]) -> CompoundSelect[Any]:
    """Return the query of what each row of a checkpoint adds to which bucket."""
    was_there = or_(_found.removed_at.is_(None), _found.removed_at >= _found.created_at)
    grown = case((was_there, _found.size_bytes), else_=0)
    added: dict[str, ColumnElement[int]] = {**dict.fromkeys(NAMES, literal_column("0")), "growth_bytes": grown}
    removed: dict[str, ColumnElement[int]] = {"growth_bytes": -grown}
    for because in REASONS:
        is_reason = _found.removed_because == because
        removed[f"{because}_count"] = case((is_reason, 1), else_=0)
        removed[f"{because}_bytes"] = case((is_reason, _found.size_bytes), else_=0)
    return union_all(
        _at(_found.created_at, added).where(*conditions),
        _at(_found.removed_at, removed).where(_found.removed_at.is_not(None), *conditions),
    )


def _at(at: ColumnElement[Any], figures: Mapping[str, ColumnElement[int]]) -> Select[Any]:
    bucket = func.substr(at, 1, CHARACTERS).label("bucket")
    return select(_found.directory, bucket, *(figures[name].label(name) for name in NAMES))


def _summed(contributed: FromClause, *, everywhere: bool = False) -> Select[Any]:
    """Return the query that sums contributions by bucket, and by directory unless ``everywhere``."""
    rows, sums = contributed.c, [total(contributed.c[name]).label(name) for name in NAMES]
    if everywhere:
        query = select(literal(EVERYWHERE), rows.bucket, *sums).group_by(rows.bucket)
    else:
        query = select(rows.directory, rows.bucket, *sums).group_by(rows.directory, rows.bucket)
    return query.having(or_(*(func.sum(rows[name]) != 0 for name in NAMES)))


def _insertion(rows: Select[Any]) -> Insert:
    return insert(_table).from_select([*_KEY, *NAMES], rows)
