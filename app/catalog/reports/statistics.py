"""Statistics over the whole catalog or a prefix of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from app.catalog.reports import history, trash
from app.catalog.rows.counters import REASONS, CounterRows
from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.portable import total


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts and bytes. ``removed`` counts all removals by reason, ``trash`` those that can be restored."""

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


def statistics(connection: Connection, counters: CounterRows, undo_begins: datetime | None, prefix: str) -> Statistics:
    """Return the statistics of the directories within a prefix.

    A removal before ``undo_begins`` can no longer be undone.
    """
    directories = schema.directories.c
    used = select(func.count(), total(directories.sequence)).where(
        directories.sequence > 0, within(directories.name, prefix)
    )
    used_directories, commits = connection.execute(used).one()
    found = counters.sums(prefix)
    uploads = select(func.count()).where(within(schema.uploads.c.directory, prefix))
    gone = history.trimmed(connection, prefix)
    kept = trash.held(connection, found, undo_begins, prefix)
    return Statistics(
        directories=used_directories,
        commits=commits,
        checkpoints=found["live_count"],
        size_bytes=found["live_bytes"],
        unfreed=kept.going.count,
        damaged=found["damaged_count"],
        unverified=found["unverified_count"],
        trash=kept.kept.count,
        trash_bytes=kept.kept.size_bytes,
        uploads=connection.execute(uploads).scalar_one(),
        removed={because: count for because in REASONS if (count := found[f"{because}_count"] + gone[because].count)},
    )
