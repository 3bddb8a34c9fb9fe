"""SQLite: the catalog in one file beside its root, in WAL mode, with one writer at a time."""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from app.core.errors import DiskFailed, NoSpace, Overloaded, Refusal

logger = logging.getLogger("holdfast")

# SQLite reports bytes that it cannot read as a malformed database, too.
_DISK_FAILED = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT}
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")
_WRITES, _LAZY, _SYNCHRONOUS = "writes", "lazy", "synchronous"
_COMPLETE = 1
"""The ``user_version`` of a catalog that holds everything that the files say."""
_BUSY_TIMEOUT_S = 30
_INCREMENTAL = 2
"""The ``auto_vacuum`` of a database that can give single pages back."""
_PAGES_AT_ONCE = 250
"""How many unused pages are given back in one transaction."""
_SPARE_PAGES, _SPARE_SHARE = 1000, 0.1
"""The unused pages that stay for the next saves: so many, or this share of all if that is more."""


def url_of(database: Path) -> URL:
    """Return the URL of a database file."""
    return URL.create("sqlite", database=str(database))


class Sqlite:
    """The dialect of SQLite.

    Parameters
    ----------
    url : URL
        Names the file; without one, the database is in memory.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._database = Path(url.database or "")
        self._turn = threading.Lock()

    @property
    def location(self) -> str:
        return str(self._database.resolve())

    def exists(self) -> bool:
        return self._database.is_file()

    def make(self) -> None:
        """Create the file, readable by its owner alone: it holds keys of links and hashes of tokens.

        SQLite gives the files beside the database its mode when it creates them; after a crash they are already there.
        """
        if self._database.name in {"", ":memory:"}:
            return
        with suppress(OSError):  # if it cannot be used, the first transaction says so
            os.close(os.open(self._database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            for file in (self._database, self._beside("-wal"), self._beside("-shm")):
                if file.exists() and file.stat().st_mode & 0o077:
                    file.chmod(0o600)

    def engine(self) -> Engine:
        connect: dict[str, Any] = {"check_same_thread": False, "timeout": _BUSY_TIMEOUT_S}
        # Errors leave out the values: keys of links and hashes of tokens would be in the log.
        engine = create_engine(self._url, connect_args=connect, hide_parameters=True)

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # `begin` below starts transactions, not the driver
            if _pragma(connection, "page_count") == 0:  # only an empty database takes it, and only before its log
                connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}").close()
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").close()

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            options = connection.get_execution_options()
            if not options.get(_WRITES):
                connection.exec_driver_sql("BEGIN")
                return
            _set_durability(connection, is_lazy=options.get(_LAZY, False))
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine

    @contextmanager
    def turn(self) -> Iterator[None]:
        # Threads of this process wait here: SQLite would let each sleep for ever longer, in no order. Commands that run
        # meanwhile are waited for by SQLite.
        with self._turn:
            yield

    def options(self, *, writes: bool, is_durable: bool = True) -> Mapping[str, Any]:
        return {_WRITES: True, _LAZY: not is_durable} if writes else {}

    def refusal(self, error: DBAPIError) -> Refusal | None:
        match getattr(error.orig, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_FULL:
                return NoSpace("There is no space left on the server's disk.")
            case sqlite3.SQLITE_CANTOPEN if not _can_open():
                return Overloaded("The server has too many files open; try again in a moment.")
            case code if code in _DISK_FAILED:
                logger.error("the disk fails under the catalog: %s", error.orig)
                return DiskFailed("The server's disk fails under the catalog.")
        return None

    def is_complete(self, connection: Connection) -> bool:
        return connection.execute(text("PRAGMA user_version")).scalar() == _COMPLETE

    def mark_complete(self, connection: Connection) -> None:
        connection.execute(text(f"PRAGMA user_version = {_COMPLETE}"))

    def faults(self, connection: Connection) -> list[str]:
        lines = connection.execute(text("PRAGMA integrity_check")).scalars()
        return [line for line in lines if line != "ok"]

    def has_unused_space(self, connection: Connection) -> bool:
        pages, unused, mode = (_pragma(connection, name) for name in ("page_count", "freelist_count", "auto_vacuum"))
        spare = max(_SPARE_PAGES, int(pages * _SPARE_SHARE))
        return mode == _INCREMENTAL and unused >= spare + _PAGES_AT_ONCE

    def release_space(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        for _ in range(_PAGES_AT_ONCE):  # the driver takes a single step of it, which gives one page back
            driver.execute("PRAGMA incremental_vacuum(1)").close()

    def compact(self) -> tuple[int, int]:
        """Write the database anew. It takes as much free space again as the database holds, twice for a moment."""
        before = self._size_bytes()
        try:
            with closing(sqlite3.connect(self._database, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=FULL").close()
                connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}").close()
                connection.execute("VACUUM").close()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise OSError(f"{self._database} cannot be compacted: {error}") from error
        return before, self._size_bytes()

    def back_up(self, *, every: timedelta, now: datetime) -> bool:
        """Write a copy beside the database, for what only the catalog knows: removals, tokens, the audit."""
        target, fresh = self._beside(".copy"), self._beside(".copy.new")
        fresh.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            if now - datetime.fromtimestamp(target.stat().st_mtime, UTC) < every:
                return False
        with _private_file(fresh) as descriptor:
            self._vacuum_into(fresh)
            os.fsync(descriptor)
            fresh.rename(target)
        _sync_folder(target.parent)
        return True

    def keep_backup(self, now: datetime) -> str | None:
        kept = self._beside(f".lost-{now:%Y%m%dT%H%M%SZ}")
        try:
            return str(self._beside(".copy").rename(kept))
        except FileNotFoundError:
            return None

    def is_inside(self, folder: Path) -> bool:
        return self._database.resolve().is_relative_to(folder)

    def how_to_replace(self, root: Path) -> str:
        if not self.is_inside(root):
            return (
                "Set HOLDFAST_DATABASE_URL to the catalog of this root, or to a new file, which is filled from the "
                "files."
            )
        return (
            "Move it away, and start again, which makes a new one from the files: "
            f"mv {self.location} {self.location}.other"
        )

    def _size_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self._database, self._beside("-wal")) if file.exists())

    def _beside(self, ending: str) -> Path:
        return self._database.with_name(f"{self._database.name}{ending}")

    def _vacuum_into(self, target: Path) -> None:
        try:
            with closing(sqlite3.connect(self._database)) as connection:
                connection.execute("VACUUM INTO ?", [str(target)])
        except sqlite3.Error as error:
            raise OSError(f"{self._database} cannot be copied: {error}") from error


@contextmanager
def _private_file(path: Path) -> Iterator[int]:
    """Create a file that only its owner may read; remove it if the body fails."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_durability(connection: Connection, *, is_lazy: bool) -> None:
    """Let the next commit of a connection wait for no sync of the log, or do so again."""
    if is_lazy and _SYNCHRONOUS not in connection.info:
        connection.info[_SYNCHRONOUS] = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
    elif not is_lazy and _SYNCHRONOUS in connection.info:
        connection.exec_driver_sql(f"PRAGMA synchronous={connection.info.pop(_SYNCHRONOUS)}")


def _pragma(connection: Any, name: str) -> int:
    """Return the number that a pragma gives, on a connection of the driver or of SQLAlchemy."""
    driver: Any = connection.connection.driver_connection if isinstance(connection, Connection) else connection
    return int(driver.execute(f"PRAGMA {name}").fetchone()[0])


def _can_open() -> bool:
    """Tell if the process can open one more file; SQLite's error leaves the reason out."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
