"""Ranks of checkpoints among the last and the best of their directory, without loading all of them."""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, not_, or_, select, tuple_

from app.catalog.reports.judgement import Counted, Judged
from app.catalog.rows.listing import all_entries, nth_key
from app.catalog.tables import schema
from app.catalog.tables.filters import ListFilter
from app.core import retention
from app.core.models import Checkpoint, Facts, Kind, Policy, Retention
from app.core.retention import NOTHING, Boundaries, Rank, Reason

_table = schema.checkpoints
_POSITION = (_table.c.saved_after, _table.c.sequence)

MOST_CANDIDATES = 1000
MOST_NUMBERED = 1000
"""The number of ranks that are counted one by one; of those beyond, it is only known if the policy keeps them."""
_ROWS_AT_ONCE = 1000

Position = tuple[int, int]
"""``saved_after`` and ``sequence``."""


class Ranks:
    """The ranks of the live checkpoints of a directory, as far as its policy looks at them.

    Reads a bounded number of rows, and the index up to the limits of the policy.
    """

    def __init__(self, policy: Policy, newest: str | None, last: "_Numbered", best: "_Numbered") -> None:
        self._policy = policy
        self._newest = newest
        self._last = last
        self._best = best

    def reasons(self, one: Checkpoint) -> tuple[Reason, ...]:
        """Return the reasons to keep a live checkpoint, without the ranks that are not counted."""
        judged, policy = Judged.of(one), self._policy
        now = self._boundaries(0, 0)
        last = self._last.number(one.id) or (1 if _is_last(judged, now) else None)
        best = self._best.number(one.id) or (1 if _is_best(judged, now, policy) else None)
        found = retention.reasons(one.facts, Rank(one.id == self._newest, last, best), policy)
        uncounted = {code for code, of in (("last", self._last), ("best", self._best)) if of.number(one.id) is None}
        return tuple(replace(reason, rank=None) if reason.code in uncounted else reason for reason in found)

    def leaves_at_next_save(self, one: "Candidate", *, of_a_better_one: bool) -> bool:
        """Tell if the next regular save, of a better checkpoint or not, takes the last reason to keep this one.

        Uses the current policy, although that save may bring other limits.
        """
        then = self._boundaries(1, int(of_a_better_one))
        return not one.judged.stays(self._policy, then)

    def _boundaries(self, last: int, best: int) -> Boundaries:
        """Return the boundaries once so many checkpoints come before those that there are."""
        policy = self._policy
        return Boundaries(
            policy.settings,
            None,
            self._last.boundary(policy.max_checkpoints, last),
            self._best.boundary(policy.max_best_checkpoints, best),
        )


class _Numbered:
    """The first entries of a listing by number."""

    def __init__(self, connection: Connection, listing: ListFilter, limit: int | None, live: int, most: int) -> None:
        self._connection = connection
        self._listing = listing
        self._live = live
        self._count = most if limit is None else min(limit, most)
        self._entries = list(all_entries(connection, listing, limit=self._count))
        self._numbers = {entry.id: number for number, entry in enumerate(self._entries, start=1)}
        self._boundaries: dict[int, tuple[Any, ...] | None] = {}

    def number(self, checkpoint_id: str) -> int | None:
        return self._numbers.get(checkpoint_id)

    def boundary(self, limit: int | None, less: int) -> tuple[Any, ...] | None:
        """Return the key of the last entry within a limit less some; None if all are within."""
        if limit is None or limit - less >= self._live:
            return None
        number = limit - less
        if number <= 0:
            return NOTHING
        if number <= len(self._entries):
            return self._entries[number - 1].key
        if len(self._entries) < self._count:
            return None
        if number not in self._boundaries:
            self._boundaries[number] = nth_key(self._connection, self._listing, number)
        return self._boundaries[number]


class Candidate(NamedTuple):
    """A live checkpoint that the next save may remove."""

    judged: Judged
    name: str

    @property
    def id(self) -> str:
        return self.judged.id

    @property
    def size_bytes(self) -> int:
        return self.judged.size_bytes


def of_directory(
    connection: Connection, directory: str, policy: Policy, live: int, *, most: int = MOST_NUMBERED
) -> Ranks:
    """Return the ranks of the live checkpoints of a directory, of which there are ``live``.

    Parameters
    ----------
    most : int
        The number of ranks to count.
    """
    counted = Counted.of(connection, directory, policy)
    newest = next((entry.id for entry in all_entries(connection, counted.newest_first, limit=1)), None)
    most = 0 if policy.keeps_everything else most
    last = _Numbered(connection, counted.regular, policy.max_checkpoints, live, most)
    best = _Numbered(connection, counted.ranked, policy.max_best_checkpoints, live, most)
    return Ranks(policy, newest, last, best)


def candidates(connection: Connection, directory: str, policy: Policy, live: int) -> Sequence[Candidate]:
    """Return the live checkpoints that one more save may remove, oldest first; at most `MOST_CANDIDATES`.

    Parameters
    ----------
    live : int
        The number of live checkpoints of the directory.
    """
    if policy.keeps_everything:
        return []
    found = _table.c
    columns = [found[name] for name in Judged._fields]
    query = select(*columns, found.name)
    if policy.max_checkpoints is None or policy.max_checkpoints > live:
        query = query.where(found.kind == "best")  # there is room for one more of the others
    query = query.where(found.directory == directory, found.removed_at.is_(None))
    query = query.where(not_(found.pinned), found.retention != "manual")
    rows = connection.execute(query.order_by(*_POSITION).limit(MOST_CANDIDATES))
    return [Candidate(judged, name) for *values, name in rows if (judged := Judged(*values)).is_sound]


def _is_last(judged: Judged, boundaries: Boundaries) -> bool:
    return judged.last_key is not None and boundaries.reach_last(judged.last_key)


def _is_best(judged: Judged, boundaries: Boundaries, policy: Policy) -> bool:
    key = judged.rank_key(policy)
    return key is not None and boundaries.reach_best(key)


class LiveCheckpoint(NamedTuple):
    """The values of a live checkpoint that retention is decided by."""

    id: str
    saved_after: int
    sequence: int
    size_bytes: int
    kind: Kind
    epoch: int | None
    step: int | None
    pinned: bool
    retention: Retention
    is_ranked: bool

    @property
    def position(self) -> Position:
        return self.saved_after, self.sequence

    @property
    def facts(self) -> Facts:
        about: dict[str, Any] = {"kind": self.kind, "epoch": self.epoch, "step": self.step}
        return Facts(**about, pinned=self.pinned, retention=self.retention)


def newest_first(
    connection: Connection, directory: str, after: Position | None = None
) -> Generator[LiveCheckpoint, None, None]:
    """Yield the live checkpoints of a directory, or those older than a position, in batches.

    The caller closes the generator, or an open cursor stays behind."""
    found = _table.c
    flagged = found.metric.is_(None) & found.metric_text.is_(None) & found.is_best
    columns = [found[name] for name in LiveCheckpoint._fields[1:-1]]
    query = _live(directory).add_columns(*columns, or_(found.metric.is_not(None), flagged))
    if after is not None:
        query = query.where(tuple_(*_POSITION) < after)
    query = query.order_by(*(column.desc() for column in _POSITION))
    with closing(connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})) as rows:
        for row in rows:
            yield LiveCheckpoint(*row)


def newest(connection: Connection, directory: str) -> str | None:
    """Return the id of the newest live checkpoint of a directory that counts; None if there is none."""
    listing = Counted.of(connection, directory, Policy()).newest_first
    return next((entry.id for entry in all_entries(connection, listing, limit=1)), None)


def count_regular(connection: Connection, directory: str, until: Position) -> int:
    """Return the number of live regular checkpoints that count, from the newest to a position."""
    query = _live(directory).where(_table.c.kind == "regular", tuple_(*_POSITION) >= until)
    if Counted.of(connection, directory, Policy()).regular.retention is not None:
        query = query.where(_table.c.retention == "policy")
    return connection.execute(select(func.count()).select_from(query.subquery())).scalar() or 0


def best_ranks(
    connection: Connection, directory: str, policy: Policy, wanted: Collection[str] | None = None
) -> Mapping[str, int]:
    """Return the ranks of a directory's best checkpoints within the policy's limit; of the wanted ones, if given."""
    ranked = Counted.of(connection, directory, policy).ranked
    return _numbered(connection, ranked, policy.max_best_checkpoints, wanted)


def _live(directory: str) -> Select[Any]:
    return select(_table.c.id).where(_table.c.directory == directory, _table.c.removed_at.is_(None))


def _numbered(
    connection: Connection, listing: ListFilter, limit: int | None, wanted: Collection[str] | None = None
) -> Mapping[str, int]:
    numbered = enumerate(all_entries(connection, listing, limit=limit), start=1)
    return {entry.id: number for number, entry in numbered if wanted is None or entry.id in wanted}
