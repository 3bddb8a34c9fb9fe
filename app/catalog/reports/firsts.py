"""The latest and the best checkpoint of each of many directories, by one seek in an index for each of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, ScalarSelect, Select, select
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.checkpoint_loader import batches
from app.catalog.tables import schema
from app.core.models import Directory, Mode

_table = schema.checkpoints
_other = schema.checkpoints.alias("other")
_directory = schema.directories.c


class Firsts(NamedTuple):
    """The ids of the latest and of the best live checkpoint of a directory."""

    latest: str | None
    best: str | None


def firsts(connection: Connection, directories: Sequence[Directory]) -> dict[str, Firsts]:
    """Return the ids of the latest and the best checkpoint of each directory, by its name; of corrupt rows, too."""
    found: dict[str, Firsts] = {}
    modes: tuple[Mode, ...] = ("min", "max")
    for mode in modes:
        for names in batches(each.name for each in directories if each.policy.ranks_by == mode):
            for name, latest, measured, flagged in connection.execute(_query(mode, names)):
                found[name] = Firsts(latest, measured if measured is not None else flagged)
    return found


def _query(mode: Mode, names: Sequence[str]) -> Select[Any]:
    position = (_table.c.saved_after, _table.c.sequence)
    newest_first = [column.desc() for column in position]
    measured = [_table.c.metric.is_not(None)] if mode == "min" else [_table.c.metric >= _largest()]
    return select(
        _directory.name,
        _first([], newest_first),
        _first(measured, [_table.c.metric, *position]),
        _first(schema.FLAGGED, newest_first),
    ).where(_directory.name.in_(names))


def _first(conditions: Sequence[ColumnElement[bool]], order: Sequence[ColumnElement[Any]]) -> ScalarSelect[Any]:
    query = select(_table.c.id).where(_table.c.directory == _directory.name, _table.c.removed_at.is_(None), *conditions)
    return query.order_by(*order).limit(1).correlate(schema.directories).scalar_subquery()


def _largest() -> ScalarSelect[Any]:
    """Return the largest metric of a directory. Of equal ones the oldest is the best: no index holds them so."""
    here = (_other.c.directory == _directory.name, _other.c.removed_at.is_(None), _other.c.metric.is_not(None))
    query = select(_other.c.metric).where(*here).order_by(_other.c.metric.desc()).limit(1)
    return query.correlate(schema.directories).scalar_subquery()
