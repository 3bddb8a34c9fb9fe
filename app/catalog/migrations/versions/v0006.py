"""The writer of a checkpoint, and the modes and times of its files and folders at their source."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("writer", sa.String))
    op.add_column("checkpoints", sa.Column("folders", sa.Text))
    op.add_column("files", sa.Column("mode", sa.Integer))
    op.add_column("files", sa.Column("modified_ns", sa.Integer))
