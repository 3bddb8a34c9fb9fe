"""The tables of version 0.1.0."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "directories",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("mode", sa.String),
        sa.Column("max_checkpoints", sa.Integer),
        sa.Column("max_best_checkpoints", sa.Integer),
        sa.Column("keep_every_epochs", sa.Integer),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("last_writer", sa.String),
        sa.Column("last_write_at", sa.String),
    )
    _checkpoints()
    op.create_table(
        "saves",
        sa.Column("directory", sa.String, primary_key=True),
        sa.Column("save_id", sa.String, primary_key=True),
        sa.Column("upload_id", sa.String, nullable=False, unique=True),
        sa.Column("checkpoint_id", sa.String, sa.ForeignKey("checkpoints.id", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("save_id", sa.String, nullable=False),
        sa.Column("expires_at", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("directory", "save_id"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("checkpoint_id", sa.String),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("save_id", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("saved_after", sa.Integer, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("epoch", sa.Integer),
        sa.Column("metric", sa.Float),
        sa.Column("metric_text", sa.String),
        sa.Column("is_best", sa.Boolean, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("removed_at", sa.String),
        sa.Column("removed_because", sa.String),
        sa.Column("freed", sa.Boolean, nullable=False),
        sa.Column("dirty", sa.Boolean, nullable=False),
        sa.UniqueConstraint("directory", "sequence"),
    )
    live = sa.text("removed_at IS NULL")
    op.create_index("one_live_name", "checkpoints", ["directory", "name"], unique=True, sqlite_where=live)
    op.create_index("by_position", "checkpoints", ["directory", "saved_after", "sequence"])
    op.create_index("by_metric", "checkpoints", ["directory", "metric"])
    owner = sa.ForeignKey("checkpoints.id", ondelete="CASCADE")
    op.create_table(
        "files",
        sa.Column("checkpoint_id", sa.String, owner, primary_key=True),
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("mtime_ns", sa.Integer, nullable=False),
        sa.Column("map", sa.Text, nullable=False),
    )
    op.create_table(
        "numbers",
        sa.Column("checkpoint_id", sa.String, sa.ForeignKey("checkpoints.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_table(
        "tags",
        sa.Column("checkpoint_id", sa.String, sa.ForeignKey("checkpoints.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag", sa.String, primary_key=True),
    )
