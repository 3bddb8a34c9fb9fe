"""Counters of each directory; `Catalog` fills them from the rows of checkpoints.

An index goes by which nothing else was counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COUNTERS = (
    *("live_count", "live_bytes", "pinned_count", "unverified_count", "damaged_count"),
    *("unfreed_count", "unfreed_bytes"),
    *("pruned_count", "pruned_bytes", "replaced_count", "replaced_bytes"),
    *("deleted_count", "deleted_bytes", "lost_count", "lost_bytes"),
)


def upgrade() -> None:
    op.create_table(
        "directory_counters",
        sa.Column("directory", sa.String, primary_key=True),
        *(sa.Column(name, sa.Integer, nullable=False) for name in _COUNTERS),
        sqlite_with_rowid=False,
    )
    op.drop_index("damaged", "checkpoints")
