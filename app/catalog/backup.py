"""Copies of an SQLite catalog, for what no file but it says: removed checkpoints, tokens, the audit."""

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path


def copy(database: Path, *, every: timedelta, now: datetime) -> bool:
    """Put a whole and durable copy beside the database, unless the one there is young enough; whether it did.

    Raises
    ------
    OSError, sqlite3.Error
        It could not; the copy before stays.
    """
    target = place_of(database)
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        if now - datetime.fromtimestamp(target.stat().st_mtime, UTC) < every:
            return False
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", [str(fresh)])
        os.fsync(descriptor)
        fresh.rename(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def keep(database: Path, *, now: datetime) -> Path | None:
    """Give the copy of a database that was lost a name of its own, so that no later copy takes its place."""
    kept = database.with_name(f"{database.name}.lost-{now:%Y%m%dT%H%M%SZ}")
    try:
        return place_of(database).rename(kept)
    except FileNotFoundError:
        return None


def place_of(database: Path) -> Path:
    """Where the copy of a database lies."""
    return database.with_name(f"{database.name}.copy")
