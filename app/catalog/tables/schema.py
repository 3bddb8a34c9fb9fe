"""The tables; `migrations` makes them, and a test holds the two to each other.

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
    literal_column,
    text,
)
from sqlalchemy.sql import ColumnElement

from app.catalog.tables.file_version import FileVersion

metadata = MetaData()

UNFREED: ColumnElement[bool] = literal_column("NOT freed")
DIRTY: ColumnElement[bool] = literal_column("dirty")
"""Words of partial indexes, which SQLite uses only for queries that say the very same."""

directories = Table(
    "directories",
    metadata,
    Column("name", String, primary_key=True),
    Column("created_at", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("mode", String),
    Column("max_checkpoints", Integer),
    Column("max_best_checkpoints", Integer),
    Column("keep_every_epochs", Integer),
    Column("operator", Text, nullable=False),
    Column("last_writer", String),
    Column("last_write_at", String),
    Column("dirty", Boolean, nullable=False, server_default=text("0")),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("directory", String, nullable=False),
    Column("name", String, nullable=False),
    Column("save_id", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("saved_after", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("epoch", Integer),
    Column("metric", Float),
    Column("metric_text", String),
    Column("is_best", Boolean, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("tags", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("created_at", String, nullable=False),
    Column("removed_at", String),
    Column("removed_because", String),
    Column("freed", Boolean, nullable=False, default=False),
    Column("dirty", Boolean, nullable=False, default=False),
    Column("trashed", Boolean, nullable=False, server_default=text("0")),
    Column("verified_at", String),
    Column("damage", Text),
    Column("writer", String),
    Column("folders", Text),
    UniqueConstraint("directory", "sequence"),
    Index("one_live_name", "directory", "name", unique=True, sqlite_where=text("removed_at IS NULL")),
    Index(
        "live",
        *("directory", "saved_after", "sequence", "kind", "metric", "metric_text", "is_best", "size_bytes", "id"),
        sqlite_where=text("removed_at IS NULL"),
    ),
    Index("by_position", "directory", "saved_after", "sequence"),
    Index("by_metric", "directory", "metric"),
    Index("unfreed", "removed_at", sqlite_where=text("removed_at IS NOT NULL AND NOT freed")),
    Index("behind", "id", sqlite_where=text("dirty")),
    Index("by_verification", "verified_at", sqlite_where=text("removed_at IS NULL")),
    Index("damaged", "id", sqlite_where=text("damage IS NOT NULL AND removed_at IS NULL")),
)

files = Table(
    "files",
    metadata,
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), primary_key=True),
    Column("path", String, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("mtime_ns", FileVersion, key="version", nullable=False),
    Column("map", Text, nullable=False),
    Column("mode", Integer),
    Column("modified_ns", Integer),
)

numbers = Table(
    "numbers",
    metadata,
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", Float, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tag", String, primary_key=True),
)

saves = Table(
    "saves",
    metadata,
    Column("directory", String, primary_key=True),
    Column("save_id", String, primary_key=True),
    Column("upload_id", String, nullable=False, unique=True),
    Column("checkpoint_id", ForeignKey(checkpoints.c.id, ondelete="CASCADE"), nullable=False),
    Column("digest", String, nullable=False),
    Index("saves_of_checkpoint", "checkpoint_id"),  # without it, forgetting a checkpoint looks at every save
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("directory", String, nullable=False),
    Column("name", String, nullable=False),
    Column("save_id", String, nullable=False),
    Column("expires_at", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("token_id", String, nullable=False, server_default=text("''")),
    Column("place", Integer),
    UniqueConstraint("directory", "save_id"),
    Index("uploads_of_token", "token_id"),
    Index("uploads_by_place", "directory", "place"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", String, nullable=False),
    Column("type", String, nullable=False),
    Column("directory", String, nullable=False),
    Column("checkpoint_id", String),
    Column("data", Text, nullable=False),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", String, nullable=False),
    Column("action", String, nullable=False),
    Column("token_id", String, nullable=False),
    Column("peer", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("directory", String),
    Column("checkpoint_id", String),
    Column("data", Text, nullable=False),
    Index("audit_of_directory", "directory", "id"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("hash", String, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("prefix", String, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", String, nullable=False),
    Column("expires_at", String),
    Column("revoked_at", String),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String, primary_key=True),
    Column("token_id", String, nullable=False),
    Column("expires_at", String, nullable=False),
)

openings = Table(
    "openings",
    metadata,
    Column("root", String, nullable=False),
    Column("opening", String, primary_key=True),
)
"""The mark of the last opening, and of the one before: which root this is the catalog of, and how new it is."""

link_keys = Table(
    "link_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("secret", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("retired_at", String),
)
