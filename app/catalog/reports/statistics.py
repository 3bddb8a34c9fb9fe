"""Statistics over the whole catalog or a prefix of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, false, func, select
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.catalog.tables.times import to_text


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts and bytes. ``removed`` counts removed checkpoints by reason, ``trash`` those that can be restored."""

    directories: int
    commits: int
    checkpoints: int
    size_bytes: int
    unfreed: int
    damaged: int
    unverified: int
    trash: int
    trash_bytes: int
    uploads: int
    removed: Mapping[str, int]


def statistics(connection: Connection, undo_begins: datetime | None, prefix: str) -> Statistics:
    """Return the statistics of the directories within a prefix.

    A removal before ``undo_begins`` can no longer be undone.
    """
    directories, found = schema.directories.c, schema.checkpoints.c
    here = within(found.directory, prefix)
    live = select(func.count(), total(found.size_bytes)).where(found.removed_at.is_(None), here)
    used = select(func.count(), total(directories.sequence)).where(
        directories.sequence > 0, within(directories.name, prefix)
    )
    removed = select(found.removed_because, func.count()).where(found.removed_at.is_not(None), here)
    by_cause = connection.execute(removed.group_by(found.removed_because))
    unfreed = select(func.count(), total(found.size_bytes)).where(found.removed_at.is_not(None), schema.UNFREED, here)
    kept = found.removed_at > to_text(undo_begins) if undo_begins is not None else false()
    trash, trash_bytes = connection.execute(unfreed.where(kept)).one()
    checkpoints, size_bytes = connection.execute(live).one()
    used_directories, commits = connection.execute(used).one()
    return Statistics(
        directories=used_directories,
        commits=commits,
        checkpoints=checkpoints,
        size_bytes=size_bytes,
        unfreed=connection.execute(unfreed).one()[0] - trash,
        damaged=_count_live(connection, found.damage.is_not(None), here),
        unverified=_count_live(connection, found.verified_at.is_(None), here),
        trash=trash,
        trash_bytes=trash_bytes,
        uploads=connection.execute(select(func.count()).where(within(schema.uploads.c.directory, prefix))).scalar_one(),
        removed={because: count for because, count in by_cause},  # noqa: C416
    )


def _count_live(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    query = select(func.count()).where(schema.checkpoints.c.removed_at.is_(None), *conditions)
    return connection.execute(query).scalar_one()
