"""The tables of sums over checkpoints, which are changed in the transaction of each change of a checkpoint."""

from typing import Final

from sqlalchemy import Column, MetaData, Table

from app.catalog.tables.portable import Int64, Name

_REMOVALS: Final = (
    *("pruned_count", "pruned_bytes", "replaced_count", "replaced_bytes"),
    *("deleted_count", "deleted_bytes", "lost_count", "lost_bytes"),
)
_COUNTERS: Final = (
    *("live_count", "live_bytes", "pinned_count", "unverified_count", "damaged_count"),
    *("unfreed_count", "unfreed_bytes"),
)


def directory_counters(metadata: MetaData) -> Table:
    """Declare the numbers and bytes of the checkpoints of each directory, which `rows.counters` keeps.

    A removed checkpoint counts by the reason of its removal, and as unfreed until its bytes are gone.
    """
    return Table(
        "directory_counters",
        metadata,
        Column("directory", Name, primary_key=True),
        *(Column(name, Int64, nullable=False) for name in (*_COUNTERS, *_REMOVALS)),
        sqlite_with_rowid=False,
    )


def usage_rollups(metadata: MetaData) -> Table:
    """Declare the growth and the removals of each directory by ten minutes, which `rows.rollups` keeps.

    A bucket is the first 15 characters of its times. The directory ``""`` stands for all of them together.
    """
    return Table(
        "usage_rollups",
        metadata,
        Column("directory", Name, primary_key=True),
        Column("bucket", Name, primary_key=True),
        *(Column(name, Int64, nullable=False) for name in ("growth_bytes", *_REMOVALS)),
        sqlite_with_rowid=False,
    )
