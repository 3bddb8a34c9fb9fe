"""Where checkpoints stand in their directory, among the last and among the best, however many there are."""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, not_, or_, select, tuple_

from app.catalog.tables import schema
from app.catalog.tables.order import ordering, ranking_order
from app.core.models import Facts, Kind, Policy
from app.core.retention import Rank

_table = schema.checkpoints

MOST_CANDIDATES = 1000
_ROWS_AT_ONCE = 1000

Position = tuple[int, int]
"""``saved_after`` and ``sequence``."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The places of the live checkpoints of a directory that count by its policy; those beyond a limit have none."""

    newest: str | None
    last: Mapping[str, int]
    best: Mapping[str, int]

    def of(self, checkpoint_id: str) -> Rank:
        """The place of a live checkpoint."""
        return Rank(checkpoint_id == self.newest, self.last.get(checkpoint_id), self.best.get(checkpoint_id))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live checkpoint that may be the next to go. Of its facts, only those that decide this are told."""

    id: str
    name: str
    size_bytes: int
    facts: Facts


def standing(connection: Connection, directory: str, policy: Policy) -> Standing:
    """Where the live checkpoints of a directory stand."""
    newest_first = ordering("-position").by
    ranking = ranking_order(policy.ranks_by, by=None)
    regular = _live(directory).where(_table.c.kind == "regular").order_by(*newest_first)
    ranked = ranking.joined(_live(directory)).order_by(*ranking.by)
    return Standing(
        connection.execute(_live(directory).order_by(*newest_first).limit(1)).scalar(),
        _numbered(connection, regular.limit(policy.max_checkpoints)),
        _numbered(connection, ranked.limit(policy.max_best_checkpoints)),
    )


def candidates(connection: Connection, directory: str, policy: Policy, count: int) -> Sequence[Candidate]:
    """Those of a directory's ``count`` live checkpoints that one more save may let go, the oldest first and no more
    than `MOST_CANDIDATES`."""
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
    """As much of a live checkpoint as decides whether it stays."""

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
    """The live checkpoints of a directory, or those older than a position; read as they are asked for. Close it."""
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
    """The number of live regular checkpoints from the newest to a position."""
    query = _live(directory).where(_table.c.kind == "regular", _position() >= until)
    return connection.execute(select(func.count()).select_from(query.subquery())).scalar() or 0


def best_places(
    connection: Connection, directory: str, policy: Policy, wanted: Collection[str] | None = None
) -> Mapping[str, int]:
    """The numbers of a directory's best checkpoints, within the policy's limit; of those that are wanted, if given."""
    ranking = ranking_order(policy.ranks_by, by=None)
    query = ranking.joined(_live(directory)).order_by(*ranking.by).limit(policy.max_best_checkpoints)
    with closing(connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})) as rows:
        numbered = enumerate(rows.scalars(), start=1)
        return {found: number for number, found in numbered if wanted is None or found in wanted}


def _position() -> Any:
    return tuple_(_table.c.saved_after, _table.c.sequence)


def _live(directory: str) -> Select[Any]:
    query = select(_table.c.id).where(_table.c.directory == directory, _table.c.removed_at.is_(None))
    return query.with_hint(_table, "INDEXED BY live", "sqlite")


def _numbered(connection: Connection, query: Select[Any]) -> Mapping[str, int]:
    return {found: number for number, found in enumerate(connection.execute(query).scalars(), start=1)}
