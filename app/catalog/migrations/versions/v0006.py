"""Who saved a checkpoint, and what its files and folders were like where they came from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("writer", sa.String))
    op.add_column("checkpoints", sa.Column("folders", sa.Text))
    op.add_column("files", sa.Column("mode", sa.Integer))
    op.add_column("files", sa.Column("modified_ns", sa.Integer))
