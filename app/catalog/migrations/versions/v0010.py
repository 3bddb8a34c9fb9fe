"""Boundaries of each directory's last judgement by its policy, and marks of the checkpoints changed since."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("directories", sa.Column("judged", sa.Text))
    op.add_column("checkpoints", sa.Column("unjudged", sa.Boolean, nullable=False, server_default=sa.text("0")))
    where = sa.text("unjudged")
    op.create_index("unjudged", "checkpoints", ["directory"], sqlite_where=where, postgresql_where=where)
    live = sa.text("removed_at IS NULL")
    columns = ["directory", "kind", "saved_after", "sequence", "removed_at"]
    op.drop_index("live_by_kind", "checkpoints")
    op.create_index("live_by_kind", "checkpoints", columns, sqlite_where=live, postgresql_where=live)
