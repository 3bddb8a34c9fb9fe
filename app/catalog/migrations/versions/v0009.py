"""An index for each order of the live checkpoints of a directory, and what orders them by a number in the metadata.

Indexes of all checkpoints go, as SQLite preferred them and visited every removed one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_LIVE = "removed_at IS NULL"
_UNFREED = "removed_at IS NOT NULL AND NOT freed"
_POSITION = ("saved_after", "sequence")


def upgrade() -> None:
    for superseded in ("live", "by_position", "by_metric", "unfreed", "stale_manifests", "damaged"):
        op.drop_index(superseded, "checkpoints")
    _index("live_by_position", ["directory", *_POSITION], _LIVE)
    _index("live_by_kind", ["directory", "kind", *_POSITION], _LIVE)
    _index("live_by_metric", ["directory", "metric", *_POSITION, "size_bytes", "removed_at"], _LIVE)
    _index("live_by_epoch", ["directory", "epoch", *_POSITION], _LIVE)
    _index("live_by_size", ["directory", "size_bytes", *_POSITION, "removed_at"], _LIVE)
    _index("live_by_time", ["directory", "created_at", *_POSITION], _LIVE)
    flagged = f"{_LIVE} AND metric IS NULL AND metric_text IS NULL AND is_best"
    _index("live_flagged", ["directory", "metric", "metric_text", *_POSITION], flagged)
    _index("removed_by_position", ["directory", *_POSITION], "removed_at IS NOT NULL")
    _index("unfreed", ["trashed", "removed_at"], _UNFREED)
    _index("unfreed_by_name", ["directory", "name", "trashed"], _UNFREED)
    _index("damaged", ["removed_at"], f"damage IS NOT NULL AND {_LIVE}")
    _index("stale_manifests", ["removed_at"], "manifest_stale")
    _numbers()


def _index(name: str, columns: list[str], condition: str, table: str = "checkpoints") -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _numbers() -> None:
    """Make the table anew: SQLite cannot add columns that are never NULL, nor remove the rowid."""
    op.rename_table("numbers", "numbers_0008")
    op.create_table(
        "numbers",
        sa.Column("checkpoint_id", sa.String, sa.ForeignKey("checkpoints.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("saved_after", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO numbers "
        "SELECT id, key, value, directory, saved_after, sequence, removed_at IS NOT NULL "
        "FROM numbers_0008 JOIN checkpoints ON id = checkpoint_id ORDER BY id, key"
    )
    op.drop_table("numbers_0008")
    _index("numbers_by_value", ["directory", "key", "value", *_POSITION], "NOT removed", "numbers")
