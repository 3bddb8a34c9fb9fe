"""Files and writers of shared uploads: several writers declare the files of one checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_Name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Document = sa.Text().with_variant(sa.LargeBinary(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "shared_files",
        sa.Column("upload_id", _Name, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("path", _Name, primary_key=True),
        sa.Column("place", _Int64, nullable=False),
        sa.Column("writer", _Name, nullable=False),
        sa.Column("attempt", _Int64, nullable=False),
        sa.Column("size_bytes", _Int64, nullable=False),
        sa.Column("body", _Document, nullable=False),
    )
    op.create_table(
        "shared_writers",
        sa.Column("upload_id", _Name, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("writer", _Name, primary_key=True),
        sa.Column("is_ready", sa.Boolean, nullable=False),
        sa.Column("active_at", _Name, nullable=False),
    )
