"""The checkpoints that a prune removes, by reads whose number depends on what changed, not on what a directory holds.

A directory that holds few is read whole. Otherwise a judgement is remembered as the boundaries of the ranks at that
time. As each checkpoint that it left had a reason to stay, those that have none at the next judgement are among: the
newest one of that time, what lies between the old and the new boundary of a rank, and the rows that were changed in
between, which are marked as such.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, Select, and_, not_, or_, select, tuple_
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.checkpoint_loader import batches
from app.catalog.rows.listing import all_entries, nth_key
from app.catalog.tables import schema
from app.catalog.tables.filters import ListFilter
from app.catalog.tables.order import ranking_order
from app.core import ranking, retention
from app.core.models import Checkpoint, Facts, Policy, Retention
from app.core.retention import NOTHING, Boundaries, Rank

_table = schema.checkpoints
_POSITION = (_table.c.saved_after, _table.c.sequence)
_ROWS_AT_ONCE = 1000
FEW = 32
"""The number of live checkpoints up to which a directory is read whole: a single statement, where others take eight."""
NEAR = 1000
"""The limit up to which its boundary is found as fast as the number of live checkpoints."""


class Judged(NamedTuple):
    """A live checkpoint: the values of its row that retention looks at."""

    id: str
    saved_after: int
    sequence: int
    size_bytes: int
    kind: Any
    epoch: int | None
    step: int | None
    metric: float | None
    metric_text: str | None
    is_best: bool
    pinned: bool
    retention: Any

    @classmethod
    def of(cls, one: Checkpoint) -> Self:
        """Return the values of the row of a checkpoint."""
        facts, metric = one.facts, ranking.finite(one.facts.metric)
        text = None if facts.metric is None or metric is not None else repr(facts.metric)
        about = (facts.kind, facts.epoch, facts.step, metric, text, facts.is_best, facts.pinned, facts.retention)
        return cls(one.id, one.saved_after, one.sequence, one.size_bytes, *about)

    @property
    def is_sound(self) -> bool:
        """False if a column holds a value of a wrong type; such a row is left alone until it is repaired."""
        counters = (self.epoch, self.step)
        return all(isinstance(each, int | None) for each in counters) and isinstance(self.metric, int | float | None)

    @property
    def facts(self) -> Facts:
        about = {"kind": self.kind, "epoch": self.epoch, "step": self.step}
        return Facts(**about, pinned=self.pinned, retention=self.retention)

    @property
    def last_key(self) -> tuple[int, int] | None:
        """Its key among the last ones; None if it does not count as one."""
        is_counted = self.kind == "regular" and not self.facts.is_manual
        return (self.saved_after, self.sequence) if is_counted else None

    def rank_key(self, policy: Policy) -> tuple[Any, ...] | None:
        """Return its key in the ranking; None if it has no rank that counts."""
        if self.facts.is_manual:
            return None
        measured, flagged = ranking_order(policy.ranks_by, by=None).segments
        if self.metric is not None:
            return measured.key((self.metric, self.saved_after, self.sequence))
        if self.metric_text is None and self.is_best:
            return flagged.key((self.saved_after, self.sequence))
        return None

    def stays(self, policy: Policy, boundaries: Boundaries) -> bool:
        """Tell if there is a reason to keep it."""
        place, key = self.last_key, self.rank_key(policy)
        is_last = place is not None and boundaries.reach_last(place)
        is_best = key is not None and boundaries.reach_best(key)
        rank = Rank(self.id == boundaries.newest, is_last or None, is_best or None)
        return bool(retention.reasons(self.facts, rank, policy))


@dataclass(frozen=True, slots=True)
class Judgement:
    """The live checkpoints that do not stay, newest first, and what the next judgement begins with.

    Nothing is to be remembered of a directory that was read whole.
    """

    going: Sequence[Judged]
    boundaries: Boundaries | None


def judge(
    connection: Connection,
    directory: str,
    policy: Policy,
    before: Boundaries | None,
    changed: Iterable[str] = (),
    *,
    live_count: int | None = None,
) -> Judgement:
    """Judge the live checkpoints of a directory.

    Parameters
    ----------
    live_count : int, optional
        Their number, if it is known; see `is_count_worthwhile`.
    before : Boundaries or None
        Those of the last judgement. None, or those of another policy: every checkpoint is looked at, at once if they
        are few.
    changed : iterable of str
        Checkpoints that came since, beside those that are marked as changed.
    """
    few = _few(connection, directory) if before is None else None
    now = (
        _boundaries_among(few, policy) if few is not None else boundaries_of(connection, directory, policy, live_count)
    )
    looked_at = candidates(connection, directory, policy, before, now, changed) if few is None else _each(few)
    with closing(looked_at) as rows:
        going = [row for row in rows if row.is_sound and not row.stays(policy, now)]
    going.sort(key=_position, reverse=True)
    return Judgement(going, now if few is None else None)


def _few(connection: Connection, directory: str) -> list[Judged] | None:
    """Return the live checkpoints of a directory; None if they are many, or a row is corrupt, which SQL still sorts."""
    query = _live(directory).order_by(*(column.desc() for column in _POSITION)).limit(FEW + 1)
    rows = [Judged(*row) for row in connection.execute(query)]
    return rows if len(rows) <= FEW and all(row.is_sound for row in rows) else None


def _boundaries_among(rows: Sequence[Judged], policy: Policy) -> Boundaries:
    """Find the boundaries that `boundaries_of` finds, among all live checkpoints of a directory."""
    newest = max((row for row in rows if not row.facts.is_manual), key=_position, default=None)
    last = sorted((place for row in rows if (place := row.last_key) is not None), reverse=True)
    best = sorted(key for row in rows if (key := row.rank_key(policy)) is not None)
    return Boundaries(
        policy.settings,
        newest.id if newest is not None else None,
        _nth(last, policy.max_checkpoints),
        _nth(best, policy.max_best_checkpoints),
    )


def _nth(keys: Sequence[tuple[Any, ...]], limit: int | None) -> tuple[Any, ...] | None:
    if limit is None or len(keys) < limit:
        return None
    return keys[limit - 1] if limit > 0 else NOTHING


def _position(row: Judged) -> tuple[int, int]:
    return row.saved_after, row.sequence


def _each(rows: Sequence[Judged]) -> Generator[Judged, None, None]:
    yield from rows


def would_stay(connection: Connection, directory: str, policy: Policy, checkpoint_id: str) -> bool:
    """Tell if there is a reason to keep a live checkpoint."""
    boundaries = boundaries_of(connection, directory, policy)
    return all(row.stays(policy, boundaries) for row in _rows_of(connection, [checkpoint_id]))


def is_count_worthwhile(policy: Policy) -> bool:
    """Tell if it pays to ask for the number of live checkpoints before the boundaries are looked for.

    To find the boundary of a limit visits as many entries of an index, but none if the limit is beyond all of them.
    """
    return max(policy.max_checkpoints or 0, policy.max_best_checkpoints or 0) > NEAR


def boundaries_of(connection: Connection, directory: str, policy: Policy, live_count: int | None = None) -> Boundaries:
    """Find the boundaries of the ranks of a directory."""
    counted = Counted.of(connection, directory, policy)
    newest = next((entry.id for entry in all_entries(connection, counted.newest_first, limit=1)), None)
    last = _boundary(connection, counted.regular, policy.max_checkpoints, live_count)
    best = _boundary(connection, counted.ranked, policy.max_best_checkpoints, live_count)
    return Boundaries(policy.settings, newest, last, best)


class Counted(NamedTuple):
    """The listings that the ranks of a directory go by: all that count, the regular ones, and the ranked ones."""

    newest_first: ListFilter
    regular: ListFilter
    ranked: ListFilter

    @classmethod
    def of(cls, connection: Connection, directory: str, policy: Policy) -> Self:
        """Return the listings of a directory, which leave manual checkpoints out if there are any.

        Without that condition, an index holds all that a listing looks at.
        """
        manual = select(_table.c.directory).where(_live_in(directory), schema.MANUAL).limit(1)
        retention: Retention | None = "policy" if connection.execute(manual).first() is not None else None
        return cls(
            ListFilter(directory, order_by="-position", retention=retention),
            ListFilter(directory, order_by="-position", kind="regular", retention=retention),
            ListFilter(directory, order_by="best", mode=policy.ranks_by, retention=retention),
        )


def _boundary(
    connection: Connection, listing: ListFilter, limit: int | None, live_count: int | None
) -> tuple[Any, ...] | None:
    if limit is None or (live_count is not None and limit >= live_count):
        return None
    return nth_key(connection, listing, limit) if limit > 0 else NOTHING


def candidates(
    connection: Connection,
    directory: str,
    policy: Policy,
    before: Boundaries | None,
    now: Boundaries,
    changed: Iterable[str] = (),
) -> Generator[Judged, None, None]:
    """Yield the live checkpoints that may have no reason to stay, given the boundaries of the last judgement.

    The caller closes the generator, or an open cursor stays behind."""
    if before is None or before.settings != now.settings:
        query = _live(directory).where(*_may_go(now)).order_by(*(column.desc() for column in _POSITION))
        with closing(connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})) as rows:
            yield from (Judged(*row) for row in rows)
        return
    marked = connection.execute(select(_table.c.id).where(_table.c.directory == directory, schema.UNJUDGED)).scalars()
    ids = {*changed, *marked, *_overtaken(connection, directory, policy, before, now)}
    if before.newest is not None:
        ids.add(before.newest)
    yield from _rows_of(connection, ids)


def _may_go(now: Boundaries) -> Generator[ColumnElement[bool], None, None]:
    """Yield conditions that leave out most rows with a reason to stay, without a look at each in Python."""
    yield not_(_table.c.pinned)
    yield _table.c.retention != "manual"
    if now.last is None:
        yield _table.c.kind != "regular"
    elif now.last != NOTHING:
        yield or_(_table.c.kind != "regular", tuple_(*_POSITION) < tuple_(*now.last))
    if now.best is None:
        yield _table.c.metric.is_(None)


def _overtaken(
    connection: Connection, directory: str, policy: Policy, before: Boundaries, now: Boundaries
) -> Generator[str, None, None]:
    """Yield the checkpoints that have lost a rank: those between the old boundaries and the new ones."""
    counted = Counted.of(connection, directory, policy)
    if now.last not in {None, NOTHING} and now.last != before.last:
        for entry in all_entries(connection, counted.regular, after=now.last):
            if not before.reach_last(entry.key):
                break
            yield entry.id
    if now.best not in {None, NOTHING} and now.best != before.best:
        for entry in all_entries(connection, counted.ranked, after=now.best):
            if not before.reach_best(entry.key):
                break
            yield entry.id


def _rows_of(connection: Connection, ids: Iterable[str]) -> Generator[Judged, None, None]:
    columns = [_table.c[name] for name in Judged._fields]
    for batch in batches(ids):
        query = select(*columns).where(_table.c.id.in_(batch), _table.c.removed_at.is_(None))
        yield from (Judged(*row) for row in connection.execute(query))


def _live(directory: str) -> Select[Any]:
    columns = [_table.c[name] for name in Judged._fields]
    return select(*columns).where(_live_in(directory))


def _live_in(directory: str) -> ColumnElement[bool]:
    return and_(_table.c.directory == directory, _table.c.removed_at.is_(None))
