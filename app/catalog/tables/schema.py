"""The tables; `migrations` makes them, and a test checks that the two agree.

A non-finite metric stands in ``metric_text`` alone, as SQL databases disagree on NaN.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
)
from sqlalchemy.sql import ColumnElement

from app.catalog.tables.file_version import FileVersion
from app.catalog.tables.portable import Document, Int64, Name, Time, partial_index

metadata = MetaData()

UNFREED: ColumnElement[bool] = literal_column("NOT freed")
MANIFEST_STALE: ColumnElement[bool] = literal_column("manifest_stale")
"""Conditions of partial indexes: SQLite uses such an index only for a query that repeats its condition verbatim."""

directories = Table(
    "directories",
    metadata,
    Column("name", Name, primary_key=True),
    Column("created_at", Time, nullable=False),
    Column("sequence", Int64, nullable=False),
    Column("mode", Name),
    Column("max_checkpoints", Int64),
    Column("max_best_checkpoints", Int64),
    Column("keep_every_epochs", Int64),
    Column("operator", Text, nullable=False),
    Column("last_writer", String),
    Column("last_write_at", Time),
    Column("record_stale", Boolean, nullable=False, server_default=false()),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Name, primary_key=True),
    Column("directory", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("save_id", Name, nullable=False),
    Column("sequence", Int64, nullable=False),
    Column("saved_after", Int64, nullable=False),
    Column("kind", Name, nullable=False),
    Column("epoch", Int64),
    Column("metric", Float),
    Column("metric_text", Name),
    Column("is_best", Boolean, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("tags", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("digest", Name, nullable=False),
    Column("size_bytes", Int64, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("removed_at", Time),
    Column("removed_because", Name),
    Column("freed", Boolean, nullable=False, default=False),
    Column("manifest_stale", Boolean, nullable=False, default=False),
    Column("trashed", Boolean, nullable=False, server_default=false()),
    Column("verified_at", Time),
    Column("damage", Text),
    Column("writer", String),
    Column("folders", Text),
    UniqueConstraint("directory", "sequence"),
    Index("one_live_name", "directory", "name", unique=True, **partial_index("removed_at IS NULL")),
    Index(
        "live",
        *("directory", "saved_after", "sequence", "kind", "metric", "metric_text", "is_best", "size_bytes", "id"),
        **partial_index("removed_at IS NULL"),
    ),
    Index("by_position", "directory", "saved_after", "sequence"),
    Index("by_metric", "directory", "metric"),
    Index("unfreed", "removed_at", **partial_index("removed_at IS NOT NULL AND NOT freed")),
    Index("stale_manifests", "id", **partial_index("manifest_stale")),
    Index("by_verification", "verified_at", **partial_index("removed_at IS NULL")),
    Index("damaged", "id", **partial_index("damage IS NOT NULL AND removed_at IS NULL")),
)

files = Table(
    "files",
    metadata,
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), primary_key=True),
    Column("path", Name, primary_key=True),
    Column("size_bytes", Int64, nullable=False),
    Column("digest", Name, nullable=False),
    Column("mtime_ns", FileVersion, key="version", nullable=False),
    Column("map", Document, nullable=False),
    Column("mode", Integer),
    Column("modified_ns", Int64),
)

numbers = Table(
    "numbers",
    metadata,
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Float, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tag", Name, primary_key=True),
)

saves = Table(
    "saves",
    metadata,
    Column("directory", Name, primary_key=True),
    Column("save_id", Name, primary_key=True),
    Column("upload_id", Name, nullable=False, unique=True),
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), nullable=False),
    Column("digest", Name, nullable=False),
    Index("saves_of_checkpoint", "checkpoint_id"),  # without it, forgetting a checkpoint looks at every save
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Name, primary_key=True),
    Column("directory", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("save_id", Name, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("body", Document, nullable=False),
    Column("token_id", Name, nullable=False, server_default=""),
    Column("saved_after", Int64),
    UniqueConstraint("directory", "save_id"),
    Index("uploads_of_token", "token_id"),
    Index("uploads_by_position", "directory", "saved_after"),
)

events = Table(
    "events",
    metadata,
    Column("id", Int64, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("type", Name, nullable=False),
    Column("directory", Name, nullable=False),
    Column("checkpoint_id", Name),
    Column("data", Text, nullable=False),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Int64, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("action", Name, nullable=False),
    Column("token_id", Name, nullable=False),
    Column("peer", Name, nullable=False),
    Column("request_id", Name, nullable=False),
    Column("directory", Name),
    Column("checkpoint_id", Name),
    Column("data", Text, nullable=False),
    Index("audit_of_directory", "directory", "id"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Name, primary_key=True),
    Column("hash", Name, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("prefix", Name, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time),
    Column("revoked_at", Time),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", Name, primary_key=True),
    Column("token_id", Name, nullable=False),
    Column("expires_at", Time, nullable=False),
)

root_marks = Table(
    "root_marks",
    metadata,
    Column("root", Name, nullable=False),
    Column("opening", Name, primary_key=True),
)
"""The marks of the last two openings of the root, which prove that the catalog belongs to it and is current."""

link_keys = Table(
    "link_keys",
    metadata,
    Column("id", Name, primary_key=True),
    Column("secret", Name, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("retired_at", Time),
)
