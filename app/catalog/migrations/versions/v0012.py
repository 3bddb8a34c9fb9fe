"""Horizons: the rows that were deleted for their age, totals and a thinned history of them, and an index to find more.

Saves whose checkpoint has a later save of the same content are marked, as they are deleted by their age, too.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_Name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "horizons",
        sa.Column("subject", _Name, primary_key=True),
        sa.Column("last_id", _Int64, nullable=False),
        sa.Column("until", _Name, nullable=False),
    )
    op.create_table(
        "trimmed_totals",
        sa.Column("directory", _Name, primary_key=True),
        sa.Column("removed_because", _Name, primary_key=True),
        sa.Column("checkpoints", _Int64, nullable=False),
        sa.Column("size_bytes", _Int64, nullable=False),
    )
    op.create_table(
        "metric_history",
        sa.Column("directory", _Name, primary_key=True),
        sa.Column("saved_after", _Int64, primary_key=True),
        sa.Column("sequence", _Int64, primary_key=True),
        sa.Column("epoch", _Int64),
        sa.Column("metric", sa.Float, nullable=False),
        sa.Column("created_at", _Name, nullable=False),
        sqlite_with_rowid=False,
    )
    freed = sa.text("freed")
    op.create_index("freed_by_removal", "checkpoints", ["removed_at"], sqlite_where=freed, postgresql_where=freed)
    op.add_column("saves", sa.Column("superseded_at", _Name))
    is_current = "SELECT 1 FROM checkpoints WHERE id = saves.checkpoint_id AND save_id = saves.save_id"
    mark = sa.text(f"UPDATE saves SET superseded_at = :now WHERE NOT EXISTS ({is_current})")
    op.execute(mark.bindparams(now=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")))
    superseded = sa.text("superseded_at IS NOT NULL")
    op.create_index(
        "superseded_saves", "saves", ["superseded_at"], sqlite_where=superseded, postgresql_where=superseded
    )
