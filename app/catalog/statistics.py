"""Figures over everything that the catalog knows."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from app.catalog import schema


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much there is; ``removed`` counts removed checkpoints by why they went."""

    directories: int
    commits: int
    checkpoints: int
    size_bytes: int
    unfreed: int
    uploads: int
    removed: Mapping[str, int]


def statistics(connection: Connection) -> Statistics:
    """The figures within one transaction."""
    directories, found = schema.directories.c, schema.checkpoints.c
    live = select(func.count(), func.coalesce(func.sum(found.size_bytes), 0)).where(found.removed_at.is_(None))
    used = select(func.count(), func.coalesce(func.sum(directories.sequence), 0)).where(directories.sequence > 0)
    removed = select(found.removed_because, func.count()).where(found.removed_at.is_not(None))
    unfreed = select(func.count()).where(found.removed_at.is_not(None), found.freed.is_(False))
    checkpoints, size_bytes = connection.execute(live).one()
    used_directories, commits = connection.execute(used).one()
    return Statistics(
        directories=used_directories,
        commits=commits,
        checkpoints=checkpoints,
        size_bytes=size_bytes,
        unfreed=connection.execute(unfreed).scalar_one(),
        uploads=connection.execute(select(func.count()).select_from(schema.uploads)).scalar_one(),
        removed=dict(connection.execute(removed.group_by(found.removed_because)).tuples().all()),
    )
