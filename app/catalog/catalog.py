"""The catalog: one engine, short transactions, a lock per directory."""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from app.catalog import backup
from app.catalog.migrations.run import migrate
from app.catalog.reports.statistics import Statistics, statistics
from app.catalog.rows import openings
from app.catalog.rows.audit import AuditRows
from app.catalog.rows.checkpoints import CheckpointRows
from app.catalog.rows.directories import DirectoryRows
from app.catalog.rows.events import EventRows
from app.catalog.rows.tokens import TokenRows
from app.catalog.rows.uploads import UploadRows
from app.core.errors import CatalogUnusable, DiskFailed, NoSpace, Overloaded, Refusal
from app.core.models import Mark

logger = logging.getLogger("holdfast")

# Bytes that cannot be read are called malformed, too.
_DISK_FAILED = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT}
_WRITES = "writes"
_COMPLETE = 1


@dataclass
class Session:
    """One transaction and the rows it can reach."""

    connection: Connection

    @cached_property
    def directories(self) -> DirectoryRows:
        return DirectoryRows(self.connection)

    @cached_property
    def checkpoints(self) -> CheckpointRows:
        return CheckpointRows(self.connection)

    @cached_property
    def uploads(self) -> UploadRows:
        return UploadRows(self.connection)

    @cached_property
    def events(self) -> EventRows:
        return EventRows(self.connection)

    @cached_property
    def audit(self) -> AuditRows:
        return AuditRows(self.connection)

    @cached_property
    def tokens(self) -> TokenRows:
        return TokenRows(self.connection)

    def statistics(self, undo_begins: datetime | None = None, *, prefix: str = "") -> Statistics:
        return statistics(self.connection, undo_begins, prefix)


class Catalog:
    """What is known of directories, checkpoints and uploads. Decides order; can be rebuilt from the files.

    Parameters
    ----------
    url : str
        A SQLAlchemy URL of an SQLite database.
    as_it_is : bool
        It is neither made nor brought up to date: for those who only look.

    Raises
    ------
    CatalogUnusable
        The URL is of another database or cannot be read, or a newer version of the server has used it. Or an older
        one, or nobody, where it is to be taken as it is.
    """

    def __init__(self, url: str, *, as_it_is: bool = False) -> None:
        try:
            backend = make_url(url).get_backend_name()
            if backend != "sqlite":
                raise CatalogUnusable(f"The catalog is kept in SQLite; {backend!r} databases are not supported yet.")
            self._engine = _engine(url)
        except ArgumentError as error:
            raise CatalogUnusable(f"The database URL cannot be read: {error}") from error
        if not as_it_is:
            _keep_private(make_url(url).database)
        self._locks: dict[str, threading.RLock] = {}
        self._locks_guard = threading.Lock()
        try:
            if as_it_is and not Path(make_url(url).database or "").is_file():
                raise CatalogUnusable(f"There is no catalog at {self._engine.url!r}.")
            with self.reading() if as_it_is else self.writing() as session:
                migrate(session.connection, only_look=as_it_is)
                if not as_it_is:
                    openings.make(session.connection)
            with self.reading() as session:
                self.is_new = session.connection.execute(text("PRAGMA user_version")).scalar() != _COMPLETE
        except (SQLAlchemyError, Refusal) as error:
            self._engine.dispose()
            raise CatalogUnusable(
                f"The catalog {self._engine.url!r} cannot be used: {error.__cause__ or error}"
            ) from error
        except CatalogUnusable:
            self._engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent view; nothing can be changed in it by others, and nothing should be by us.

        Raises
        ------
        NoSpace, DiskFailed, Overloaded
            Even to read takes a disk that works.
        """
        with _refusing(), self._engine.connect() as connection:
            yield Session(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that excludes all other writers from its first moment. An exception undoes all of it.

        Raises
        ------
        NoSpace
            The disk is full.
        DiskFailed, Overloaded
            The disk fails, or too many files are open.
        """
        with (
            _refusing(),
            self._engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            yield Session(connection)

    @contextmanager
    def lock(self, directory: str) -> Iterator[None]:
        """Exclude everybody else who would commit to, or remove from, this directory."""
        with self._locks_guard:
            lock = self._locks.setdefault(directory, threading.RLock())
        with lock:
            yield

    def copy(self, *, every: timedelta, now: datetime) -> bool:
        """Put a durable copy beside the database, unless there is one younger than that; whether it did.

        Raises
        ------
        OSError, sqlite3.Error
            It could not; the copy before stays.
        """
        return backup.copy(self._database, every=every, now=now)

    def keep_copy(self, now: datetime) -> Path | None:
        """Where the copy of a database that was lost is kept from now on; None where there is none."""
        return backup.keep(self._database, now=now)

    def marks(self) -> list[Mark]:
        """The marks of the last openings of the root that this is the catalog of; none where it was never opened so."""
        with self.reading() as session:
            return openings.marks(session.connection)

    def put_mark(self, mark: Mark, before: Mark | None) -> None:
        """Keep the mark of this opening, and the one that the root bears until it bears this one."""
        with self.writing() as session:
            openings.put(session.connection, mark, before)

    def holds_anything(self) -> bool:
        """Whether it knows a live checkpoint."""
        with self.reading() as session:
            return session.checkpoints.any_live()

    @property
    def place(self) -> Path:
        """Where the database lies."""
        return self._database.resolve()

    @property
    def _database(self) -> Path:
        return Path(self._engine.url.database or "")

    def mark_complete(self) -> None:
        """It holds all that the files say: from now on `is_new` is false when it is opened."""
        if not self.is_new:
            return  # nothing to write, for which a full disk may have no room
        with self.writing() as session:
            session.connection.execute(text(f"PRAGMA user_version = {_COMPLETE}"))

    def faults(self) -> list[str]:
        """What the database finds wrong with itself."""
        try:
            with self.reading() as session:
                said = session.connection.execute(text("PRAGMA integrity_check")).scalars().all()
        except SQLAlchemyError as error:
            return [f"it cannot be checked: {error}"]
        return [line for line in said if line != "ok"]

    def usable(self) -> bool:
        """Whether the database answers."""
        try:
            with self.reading() as session:
                return session.connection.execute(text("SELECT 1")).scalar() == 1
        except (SQLAlchemyError, Refusal):
            return False

    def close(self) -> None:
        self._engine.dispose()


def _keep_private(database: str | None) -> None:
    """Nobody else may read the keys and what is kept of tokens.

    SQLite gives the files beside the database its mode when it makes them; after a crash they are there already.
    """
    if not database or database == ":memory:":
        return
    with suppress(OSError):  # that it cannot be used is found out, and said, in a moment
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for file in (Path(database), Path(f"{database}-wal"), Path(f"{database}-shm")):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


@contextmanager
def _refusing() -> Iterator[None]:
    """Say in our own words what the disk does to SQLite."""
    try:
        yield
    except DBAPIError as error:
        match getattr(error.orig, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_FULL:
                raise NoSpace("There is no space left on the server's disk.") from error
            case sqlite3.SQLITE_CANTOPEN if not _can_open():
                raise Overloaded("The server has too many files open; try again in a moment.") from error
            case code if code in _DISK_FAILED:
                logger.error("the disk fails under the catalog: %s", error.orig)
                raise DiskFailed("The server's disk fails under the catalog.") from error
        raise


def _can_open() -> bool:
    """Whether a file could be opened; SQLite does not tell why it could not."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _engine(url: str) -> Engine:
    # Errors do not say the values: keys of links and hashes of tokens would be in the log.
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says so, not where the driver thinks
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
