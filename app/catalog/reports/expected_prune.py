"""The checkpoints that a prune would remove after a save that has not come yet. Reads alone; nothing is written.

The boundaries of ranks are those of the directory with the coming checkpoint, and without the one that it replaces.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from sqlalchemy import Connection

from app.catalog.reports.judgement import Counted, Judged, candidates
from app.catalog.rows.listing import all_entries, nth_key
from app.catalog.tables.filters import ListFilter
from app.core.models import Checkpoint, Policy
from app.core.retention import NOTHING, Boundaries

Key = tuple[Any, ...]


def going(
    connection: Connection,
    directory: str,
    policy: Policy,
    before: Boundaries | None,
    coming: Checkpoint,
    replaced: Checkpoint | None,
    *,
    live_count: int | None = None,
) -> list[Judged]:
    """Return the checkpoints that do not stay after a save, perhaps with the coming one itself.

    Parameters
    ----------
    before : Boundaries or None
        Those of the last judgement; None, or those of another policy: every checkpoint is looked at.
    live_count : int, optional
        The number of live checkpoints before the save, if it is known.
    """
    new, old = Judged.of(coming), Judged.of(replaced) if replaced is not None else None
    now = _boundaries(connection, directory, policy, new, old, live_count)
    gone = {old.id} if old is not None else set()
    with closing(candidates(connection, directory, policy, before, now)) as rows:
        found = [row for row in rows if row.id not in gone and row.is_sound and not row.stays(policy, now)]
    return found if new.stays(policy, now) else [*found, new]


def _boundaries(
    connection: Connection, directory: str, policy: Policy, new: Judged, old: Judged | None, live_count: int | None
) -> Boundaries:
    counted = Counted.of(connection, directory, policy)
    last = _Boundary(connection, counted.regular, lambda row: row.last_key, descends=True)
    best = _Boundary(connection, counted.ranked, lambda row: row.rank_key(policy), descends=False)
    limits = [
        None if live_count is not None and limit is not None and limit > live_count else limit
        for limit in (policy.max_checkpoints, policy.max_best_checkpoints)
    ]
    return Boundaries(
        policy.settings,
        _newest(connection, counted.newest_first, new, old),
        last.after(limits[0], new, old),
        best.after(limits[1], new, old),
    )


def _newest(connection: Connection, listing: ListFilter, new: Judged, old: Judged | None) -> str | None:
    coming = None if new.facts.is_manual else new.id
    for entry in all_entries(connection, listing, limit=2):
        if old is None or entry.id != old.id:
            return entry.id if coming is None or entry.key > _position(new) else coming
    return coming


def _position(row: Judged) -> Key:
    return row.saved_after, row.sequence


class _Boundary:
    """The boundary of one rank: the key of the last entry within a limit."""

    def __init__(
        self, connection: Connection, listing: ListFilter, key: Callable[[Judged], Key | None], *, descends: bool
    ) -> None:
        self._connection = connection
        self._listing = listing
        self._key = key
        self._descends = descends

    def after(self, limit: int | None, new: Judged, old: Judged | None) -> Key | None:
        """Return the boundary once a checkpoint has come and another one is gone; None if all are within."""
        if limit is None or limit <= 0:
            return None if limit is None else NOTHING
        come, gone = self._key(new), self._key(old) if old is not None else None
        if come is None:
            return self._nth(limit, gone)
        last = self._nth(limit - 1, gone) if limit > 1 else None
        if limit > 1 and (last is None or self._is_first(come, last)):
            return last
        beyond = self._nth(limit, gone)
        return come if beyond is None or self._is_first(come, beyond) else beyond

    def _nth(self, number: int, gone: Key | None) -> Key | None:
        """Return the key of the entry with this number, without the one that is gone."""
        key = nth_key(self._connection, self._listing, number)
        if key is None or gone is None or self._is_first(key, gone):
            return key
        return nth_key(self._connection, self._listing, number + 1)

    def _is_first(self, one: Key, other: Key) -> bool:
        return one > other if self._descends else one < other
