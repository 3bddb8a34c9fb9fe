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

from app.catalog.tables import sums
from app.catalog.tables.file_version import FileVersion
from app.catalog.tables.portable import Document, Int64, Name, Time, partial_index

metadata = MetaData()

UNFREED: ColumnElement[bool] = literal_column("NOT freed")
MANIFEST_STALE: ColumnElement[bool] = literal_column("manifest_stale")
FREED: ColumnElement[bool] = literal_column("freed")
UNJUDGED: ColumnElement[bool] = literal_column("unjudged")
MANUAL: ColumnElement[bool] = literal_column("retention = 'manual'")
OF_LIVE: ColumnElement[bool] = literal_column("NOT numbers.removed")
"""Conditions of partial indexes: SQLite uses such an index only for a query that repeats its condition verbatim."""

_LIVE = partial_index("removed_at IS NULL")

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
    Column("judged", Text),
    Column("keep_every_steps", Int64),
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
    Column("unjudged", Boolean, nullable=False, server_default=false()),
    Column("step", Int64),
    Column("retention", Name, nullable=False, server_default="policy"),
    UniqueConstraint("directory", "sequence"),
    Index("one_live_name", "directory", "name", unique=True, **_LIVE),
    # One for each order. An index of all rows would be as good to SQLite, which would visit the removed ones.
    Index("live_by_position", "directory", "saved_after", "sequence", **_LIVE),
    # Some end with columns of which sums are made, and with the one that SQLite looks at although it is always NULL.
    Index("live_by_kind", "directory", "kind", "saved_after", "sequence", "removed_at", **_LIVE),
    Index("live_by_metric", "directory", "metric", "saved_after", "sequence", "size_bytes", "removed_at", **_LIVE),
    Index("live_by_epoch", "directory", "epoch", "saved_after", "sequence", **_LIVE),
    Index("live_by_step", "directory", "step", "saved_after", "sequence", **_LIVE),
    Index("live_by_size", "directory", "size_bytes", "saved_after", "sequence", "removed_at", **_LIVE),
    Index("live_by_time", "directory", "created_at", "saved_after", "sequence", **_LIVE),
    Index(
        "live_flagged",  # the columns that are always NULL make it the most specific one to SQLite
        *("directory", "metric", "metric_text", "saved_after", "sequence"),
        **partial_index("removed_at IS NULL AND metric IS NULL AND metric_text IS NULL AND is_best"),
    ),
    Index(
        "live_manual",  # the columns that are always the same make it the most specific one to SQLite
        *("directory", "retention", "removed_at"),
        **partial_index("removed_at IS NULL AND retention = 'manual'"),
    ),
    Index("removed_by_position", "directory", "saved_after", "sequence", **partial_index("removed_at IS NOT NULL")),
    Index("unjudged", "directory", **partial_index("unjudged")),
    Index("unfreed", "trashed", "removed_at", **partial_index("removed_at IS NOT NULL AND NOT freed")),
    Index("unfreed_by_name", "directory", "name", "trashed", **partial_index("removed_at IS NOT NULL AND NOT freed")),
    Index("freed_by_removal", "removed_at", **partial_index("freed")),
    # By a column that is always NULL in the query, or SQLite would read another index from end to end.
    Index("stale_manifests", "removed_at", **partial_index("manifest_stale")),
    Index("by_verification", "verified_at", **_LIVE),
    Index("by_creation", "created_at", "directory"),
)

directory_counters = sums.directory_counters(metadata)
usage_rollups = sums.usage_rollups(metadata)

FLAGGED: tuple[ColumnElement[bool], ...] = (
    checkpoints.c.metric.is_(None),
    checkpoints.c.metric_text.is_(None),
    literal_column("is_best"),
)
"""Selects the checkpoints that rank by their flag, as they have no metric."""

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
    Column("directory", Name, nullable=False),
    Column("saved_after", Int64, nullable=False),
    Column("sequence", Int64, nullable=False),
    Column("removed", Boolean, nullable=False),
    Index(
        *("numbers_by_value", "directory", "key", "value", "saved_after", "sequence"), **partial_index("NOT removed")
    ),
    sqlite_with_rowid=False,
)
"""The numbers in the metadata of checkpoints. All but keys and values repeat the rows of the checkpoints, so that one
index can order the live checkpoints of a directory."""

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
    Column("superseded_at", Time),
    Index("saves_of_checkpoint", "checkpoint_id"),  # without it, forgetting a checkpoint looks at every save
    Index("superseded_saves", "superseded_at", **partial_index("superseded_at IS NOT NULL")),
)
"""Saves that became checkpoints. A later save of the same content to the same checkpoint supersedes the one before."""

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

shared_files = Table(
    "shared_files",
    metadata,
    Column("upload_id", ForeignKey(uploads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("path", Name, primary_key=True),
    Column("place", Int64, nullable=False),
    Column("writer", Name, nullable=False),
    Column("attempt", Int64, nullable=False),
    Column("size_bytes", Int64, nullable=False),
    Column("body", Document, nullable=False),
)
"""Files of shared uploads, each in a row of its own, as they are declared one by one."""

shared_writers = Table(
    "shared_writers",
    metadata,
    Column("upload_id", ForeignKey(uploads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("writer", Name, primary_key=True),
    Column("is_ready", Boolean, nullable=False),
    Column("active_at", Time, nullable=False),
)
"""Writers of the current attempt of shared uploads."""

events = Table(
    "events",
    metadata,
    Column("id", Int64, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("type", Name, nullable=False),
    Column("directory", Name, nullable=False),
    Column("checkpoint_id", Name),
    Column("data", Text, nullable=False),
    Index("events_of_directory", "directory", "id"),
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

horizons = Table(
    "horizons",
    metadata,
    Column("subject", Name, primary_key=True),
    Column("last_id", Int64, nullable=False),
    Column("until", Time, nullable=False),
)
"""The newest of the events, lines of the audit and removed checkpoints that were deleted for their age, or lost."""

trimmed_totals = Table(
    "trimmed_totals",
    metadata,
    Column("directory", Name, primary_key=True),
    Column("removed_because", Name, primary_key=True),
    Column("checkpoints", Int64, nullable=False),
    Column("size_bytes", Int64, nullable=False),
)
"""Sums over the removed checkpoints whose rows were deleted, so that counters of removals never go backwards."""

metric_history = Table(
    "metric_history",
    metadata,
    Column("directory", Name, primary_key=True),
    Column("saved_after", Int64, primary_key=True),
    Column("sequence", Int64, primary_key=True),
    Column("epoch", Int64),
    Column("metric", Float, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("step", Int64),
    sqlite_with_rowid=False,
)
"""Metrics of removed checkpoints whose rows were deleted, thinned to a bounded number for each directory."""

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
