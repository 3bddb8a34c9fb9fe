"""The catalog: one engine, short transactions, a lock per directory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from app.catalog import schema
from app.catalog.checkpoints import CheckpointRows
from app.catalog.directories import DirectoryRows
from app.catalog.events import EventRows
from app.catalog.statistics import Statistics, statistics
from app.catalog.uploads import UploadRows
from app.errors import CatalogUnusable, NoSpace

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

    def statistics(self) -> Statistics:
        return statistics(self.connection)


class Catalog:
    """What is known of directories, checkpoints and uploads. Decides order; can be rebuilt from the files.

    Parameters
    ----------
    url : str
        A SQLAlchemy URL of an SQLite database.

    Raises
    ------
    CatalogUnusable
        The URL is of another database, or cannot be read.
    """

    def __init__(self, url: str) -> None:
        try:
            backend = make_url(url).get_backend_name()
        except ArgumentError as error:
            raise CatalogUnusable(f"The database URL cannot be read: {error}") from error
        if backend != "sqlite":
            raise CatalogUnusable(f"The catalog is kept in SQLite; {backend!r} databases are not supported yet.")
        self._engine = _engine(url)
        self._locks: dict[str, threading.RLock] = {}
        self._locks_guard = threading.Lock()
        try:
            schema.metadata.create_all(self._engine)
            with self.reading() as session:
                self.is_new = session.connection.execute(text("PRAGMA user_version")).scalar() != _COMPLETE
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise CatalogUnusable(f"The catalog {url} cannot be used: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent view; nothing can be changed in it by others, and nothing should be by us."""
        with self._engine.connect() as connection:
            yield Session(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that excludes all other writers from its first moment. An exception undoes all of it.

        Raises
        ------
        NoSpace
            The disk is full.
        """
        try:
            with self._engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
                yield Session(connection)
        except OperationalError as error:
            if "is full" in str(error.orig):
                raise NoSpace("There is no space left on the server's disk.") from error
            raise

    @contextmanager
    def lock(self, directory: str) -> Iterator[None]:
        """Exclude everybody else who would commit to, or remove from, this directory."""
        with self._locks_guard:
            lock = self._locks.setdefault(directory, threading.RLock())
        with lock:
            yield

    def mark_complete(self) -> None:
        """It holds all that the files say: from now on `is_new` is false when it is opened."""
        with self.writing() as session:
            session.connection.execute(text(f"PRAGMA user_version = {_COMPLETE}"))

    def usable(self) -> bool:
        """Whether the database answers."""
        try:
            with self.reading() as session:
                return session.connection.execute(text("SELECT 1")).scalar() == 1
        except SQLAlchemyError:
            return False

    def close(self) -> None:
        self._engine.dispose()


def _engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30})

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
