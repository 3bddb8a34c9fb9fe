"""Ranks of checkpoints among the last and the best of their directory, without loading all of them."""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, not_, or_, select, tuple_

from app.catalog.tables import schema
from app.catalog.tables.order import ordering, ranking_order
from app.catalog.tables.portable import through_index
from app.core.models import Facts, Kind, Policy
from app.core.retention import Rank

_table = schema.checkpoints

MOST_CANDIDATES = 1000
_ROWS_AT_ONCE = 1000

Position = tuple[int, int]
"""``saved_after`` and ``sequence``."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The ranks of the live checkpoints of a directory within the limits of its policy."""

    newest: str | None
    last: Mapping[str, int]
    best: Mapping[str, int]

    def of(self, checkpoint_id: str) -> Rank:
        """Return the ranks of a live checkpoint."""
        return Rank(checkpoint_id == self.newest, self.last.get(checkpoint_id), self.best.get(checkpoint_id))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live checkpoint that the next save may remove. Only the facts that decide this are loaded."""

    id: str
    name: str
    size_bytes: int
    facts: Facts


def of_directory(connection: Connection, directory: str, policy: Policy) -> Ranks:
    """Return the ranks of the live checkpoints of a directory."""
    newest_first = ordering("-position").by
    ranking = ranking_order(policy.ranks_by, by=None)
    regular = _live(directory).where(_table.c.kind == "regular").order_by(*newest_first)
    ranked = ranking.joined(_live(directory)).order_by(*ranking.by)
    return Ranks(
        connection.execute(_live(directory).order_by(*newest_first).limit(1)).scalar(),
        _numbered(connection, regular.limit(policy.max_checkpoints)),
        _numbered(connection, ranked.limit(policy.max_best_checkpoints)),
    )


def candidates(connection: Connection, directory: str, policy: Policy, count: int) -> Sequence[Candidate]:
    """Return the live checkpoints that one more save may remove, oldest first; at most `MOST_CANDIDATES`.

    Parameters
    ----------
    count : int
        The number of live checkpoints of the directory.
    """
    if policy.keeps_everything:
        return []
    found = _table.c
    columns = (found.name, found.size_bytes, found.kind, found.epoch)
    query = _live(directory).add_columns(*columns).where(not_(found.pinned))
    if policy.max_checkpoints is None or policy.max_checkpoints > count:
        query = query.where(found.kind != "regular")  # there is room for one more of the others
    rows = connection.execute(query.order_by(*ordering("position").by).limit(MOST_CANDIDATES))
    return [Candidate(row.id, row.name, row.size_bytes, Facts(kind=row.kind, epoch=row.epoch)) for row in rows]


class Live(NamedTuple):
    """The values of a live checkpoint that retention is decided by."""

    id: str
    saved_after: int
    sequence: int
    size_bytes: int
    kind: Kind
    epoch: int | None
    pinned: bool
    is_ranked: bool

    @property
    def position(self) -> Position:
        return self.saved_after, self.sequence

    @property
    def facts(self) -> Facts:
        return Facts(kind=self.kind, epoch=self.epoch, pinned=self.pinned)


def newest_first(connection: Connection, directory: str, after: Position | None = None) -> Generator[Live, None, None]:
    """Yield the live checkpoints of a directory, or those older than a position, in batches.

    The caller closes the generator, or an open cursor stays behind."""
    found = _table.c
    flagged = found.metric.is_(None) & found.metric_text.is_(None) & found.is_best
    columns = [found[name] for name in Live._fields[1:-1]]
    query = _live(directory).add_columns(*columns, or_(found.metric.is_not(None), flagged))
    if after is not None:
        query = query.where(_position() < after)
    query = query.order_by(*ordering("-position").by)
    with closing(connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})) as rows:
        for row in rows:
            yield Live(*row)


def count_regular(connection: Connection, directory: str, until: Position) -> int:
    """Return the number of live regular checkpoints from the newest to a position."""
    query = _live(directory).where(_table.c.kind == "regular", _position() >= until)
    return connection.execute(select(func.count()).select_from(query.subquery())).scalar() or 0


def best_ranks(
    connection: Connection, directory: str, policy: Policy, wanted: Collection[str] | None = None
) -> Mapping[str, int]:
    """Return the ranks of a directory's best checkpoints within the policy's limit; of the wanted ones, if given."""
    ranking = ranking_order(policy.ranks_by, by=None)
    query = ranking.joined(_live(directory)).order_by(*ranking.by).limit(policy.max_best_checkpoints)
    with closing(connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})) as rows:
        numbered = enumerate(rows.scalars(), start=1)
        return {found: number for number, found in numbered if wanted is None or found in wanted}


def _position() -> Any:
    return tuple_(_table.c.saved_after, _table.c.sequence)


def _live(directory: str) -> Select[Any]:
    query = select(_table.c.id).where(_table.c.directory == directory, _table.c.removed_at.is_(None))
    return through_index(query, _table, "live")


def _numbered(connection: Connection, query: Select[Any]) -> Mapping[str, int]:
    return {found: number for number, found in enumerate(connection.execute(query).scalars(), start=1)}
