"""Bytes that stay in the trash for a while, results of reading back, and stale records of directories."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    no = sa.text("0")
    op.add_column("checkpoints", sa.Column("trashed", sa.Boolean, nullable=False, server_default=no))
    op.add_column("checkpoints", sa.Column("verified_at", sa.String))
    op.add_column("checkpoints", sa.Column("damage", sa.Text))
    op.add_column("directories", sa.Column("dirty", sa.Boolean, nullable=False, server_default=no))
    unfreed = sa.text("removed_at IS NOT NULL AND NOT freed")
    op.create_index("unfreed", "checkpoints", ["removed_at"], sqlite_where=unfreed)
    op.create_index("behind", "checkpoints", ["id"], sqlite_where=sa.text("dirty"))
    op.create_index("by_verification", "checkpoints", ["verified_at"], sqlite_where=sa.text("removed_at IS NULL"))
    op.create_index("saves_of_checkpoint", "saves", ["checkpoint_id"])
    op.create_index("damaged", "checkpoints", ["id"], sqlite_where=sa.text("damage IS NOT NULL AND removed_at IS NULL"))
