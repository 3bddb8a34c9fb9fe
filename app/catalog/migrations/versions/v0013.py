"""Rollups of usage by ten minutes, which `Catalog` fills from the rows of checkpoints; and an index by creation."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_Name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FIGURES = (
    *("growth_bytes", "pruned_count", "pruned_bytes", "replaced_count", "replaced_bytes"),
    *("deleted_count", "deleted_bytes", "lost_count", "lost_bytes"),
)


def upgrade() -> None:
    op.create_table(
        "usage_rollups",
        sa.Column("directory", _Name, primary_key=True),
        sa.Column("bucket", _Name, primary_key=True),
        *(sa.Column(name, _Int64, nullable=False) for name in _FIGURES),
        sqlite_with_rowid=False,
    )
    op.create_index("by_creation", "checkpoints", ["created_at", "directory"])
