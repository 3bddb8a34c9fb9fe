"""The place of each checkpoint among the last and among the best of its directory, however many there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, not_, or_, select
from sqlalchemy.sql import ColumnElement

from app.catalog import schema
from app.catalog.order import ranking_order
from app.domain import Facts, Mode, Place, Policy

_table = schema.checkpoints


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live checkpoint that may be the next to go. Of its facts, only those that decide this are told."""

    id: str
    name: str
    size_bytes: int
    facts: Facts
    place: Place


def places(connection: Connection, directory: str, mode: Mode, ids: Iterable[str]) -> Mapping[str, Place]:
    """The places of some live checkpoints, by id; those of `retention.places`, which a test holds them to."""
    live = _live(directory, mode).subquery()
    rows = connection.execute(select(live).where(live.c.id.in_(list(ids))))
    return {row.id: _of(row) for row in rows}


def candidates(connection: Connection, directory: str, policy: Policy) -> Sequence[Candidate]:
    """Those that the policy keeps neither for their pin nor for a place that one more save cannot take from them.

    All that the next save removes are among them.
    """
    if policy.keeps_everything:
        return []
    columns = (_table.c.name, _table.c.size_bytes, _table.c.kind, _table.c.epoch, _table.c.pinned)
    live = _live(directory, policy.ranks_by).add_columns(*columns).subquery()
    may_go = (not_(live.c.pinned), *(_slips(live.c[of], limit) for of, limit in _limits(policy)))
    rows = connection.execute(select(live).where(*may_go).order_by(live.c.age.desc()))
    return [
        Candidate(row.id, row.name, row.size_bytes, Facts(kind=row.kind, epoch=row.epoch), _of(row)) for row in rows
    ]


def _limits(policy: Policy) -> tuple[tuple[str, int | None], ...]:
    return ("last", policy.max_checkpoints), ("best", policy.max_best_checkpoints)


def _slips(place: ColumnElement[Any], limit: int | None) -> ColumnElement[bool]:
    """Whether a place is none, or the last one that counts, or beyond."""
    return place.is_(None) if limit is None else or_(place.is_(None), place >= limit)


def _live(directory: str, mode: Mode) -> Select[Any]:
    """The live checkpoints of a directory with their places."""
    found = _table.c
    newest_first = (found.saved_after.desc(), found.sequence.desc())
    ranking = ranking_order(mode, by=None)
    assert ranking.only_ranked is not None
    return select(
        found.id,
        func.row_number().over(order_by=newest_first).label("age"),
        _place(found.kind == "regular", newest_first).label("last"),
        _place(ranking.only_ranked, ranking.by).label("best"),
    ).where(found.directory == directory, found.removed_at.is_(None))


def _place(counts: ColumnElement[bool], order: Iterable[ColumnElement[Any]]) -> ColumnElement[Any]:
    """The number of a row among those that count, in an order; nothing for others."""
    number = func.row_number().over(partition_by=case((counts, 1), else_=0), order_by=tuple(order))
    return case((counts, number))


def _of(row: Any) -> Place:
    return Place(row.age == 1, row.last, row.best)
