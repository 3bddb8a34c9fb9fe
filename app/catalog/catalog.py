"""The catalog: one engine, short transactions, a lock per directory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, SQLAlchemyError

from app.catalog import root_marks, sqlite
from app.catalog.dialect import Dialect
from app.catalog.locks import NamedLocks
from app.catalog.migrations.run import migrate
from app.catalog.session import Session
from app.catalog.shared_writes import SharedWrites
from app.core.errors import CatalogUnusable, Refusal
from app.core.models import RootMark

T = TypeVar("T")

CatalogError = DatabaseError
"""An error of the database that no dialect translates, such as a table that is corrupt."""

_DIALECTS: Mapping[str, Callable[[URL], Dialect]] = {"sqlite": sqlite.Sqlite}


class Catalog:
    """Directories, checkpoints, uploads, tokens, events and the audit, in a database.

    The files of a root can rebuild its checkpoints and directories; the rest is nowhere else.

    Parameters
    ----------
    url : str or URL
        A SQLAlchemy URL of an SQLite database.
    read_only : bool
        Neither create nor migrate the database, as a caller needs that changes nothing.

    Raises
    ------
    CatalogUnusable
        The URL is not valid or names another kind of database; the database cannot be opened; or a newer version of
        the server has used it. With ``read_only``, also if it is missing or of an older version.
    """

    def __init__(self, url: str | URL, *, read_only: bool = False) -> None:
        try:
            self._dialect = _dialect_of(url)
            self._engine = self._dialect.engine()
        except ArgumentError as error:
            raise CatalogUnusable(f"The database URL cannot be read: {error}") from error
        self._locks = NamedLocks()
        self._shared = SharedWrites(self._beginning)
        try:
            self._open(read_only=read_only)
        except (SQLAlchemyError, Refusal) as error:
            self._engine.dispose()
            raise CatalogUnusable(
                f"The catalog {self._engine.url!r} cannot be used: {error.__cause__ or error}"
            ) from error
        except CatalogUnusable:
            self._engine.dispose()
            raise

    def _open(self, *, read_only: bool) -> None:
        if not read_only:
            self._dialect.make()
        elif not self._dialect.exists():
            raise CatalogUnusable(f"There is no catalog at {self._engine.url!r}.")
        with self.reading() if read_only else self.writing() as session:
            if migrate(session.connection, read_only=read_only):
                session.checkpoints.count_all_anew()
        with self.reading() as session:
            self.is_new = not self._dialect.is_complete(session.connection)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that sees one snapshot. The caller changes nothing in it.

        Raises
        ------
        NoSpace, DiskFailed, Overloaded
            The disk fails or is full, which also a read may meet.
        """
        options = self._dialect.options(writes=False)
        with self._translated(), self._engine.connect().execution_options(**options) as connection:
            yield Session(connection)

    @contextmanager
    def writing(self, *, is_durable: bool = True) -> Iterator[Session]:
        """Open a transaction that excludes all other writers from its beginning. An exception rolls it back.

        Parameters
        ----------
        is_durable : bool
            If false, a power cut may undo it until a durable one follows: only for what is then found out and done
            again. It costs no sync of the disk.

        Raises
        ------
        NoSpace
            The disk is full.
        DiskFailed, Overloaded
            The disk fails, or too many files are open.
        """
        with self._beginning(is_durable=is_durable) as connection:
            session = Session(connection)
            yield session
            session.write_sums()

    def write_together(self, work: Callable[[Session], T]) -> T:
        """Do some work in a transaction that other threads may share, which wait to write as well.

        One sync of the disk makes all of it durable. The work may be done by one of these threads, in the context of
        this one. An exception undoes this work alone. For the errors see `writing`.
        """

        def do(connection: Connection) -> T:
            session = Session(connection)
            with self._translated():
                done = work(session)
                session.write_sums()
            return done

        return self._shared.run(do)

    @contextmanager
    def _beginning(self, *, is_durable: bool = True) -> Iterator[Connection]:
        options = self._dialect.options(writes=True, is_durable=is_durable)
        with (
            self._dialect.turn(),
            self._translated(),
            self._engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def lock(self, directory: str) -> AbstractContextManager[None]:
        """Exclude the other threads that would commit to this directory, or remove from it. Re-entrant."""
        return self._locks.hold(directory)

    def release_space(self) -> bool:
        """Give a little unused space back to the disk in a short transaction; False if there is none to give."""
        with self.reading() as session:
            if not self._dialect.has_unused_space(session.connection):
                return False
        with self.writing() as session:
            self._dialect.release_space(session.connection)
        return True

    def compact(self) -> tuple[int, int]:
        """Give all unused space back, while nothing else uses the database; return its bytes before and after.

        Raises
        ------
        OSError
            The disk is full or fails; the database stays as it was.
        """
        self._engine.dispose()
        return self._dialect.compact()

    def back_up(self, *, every: timedelta, now: datetime) -> bool:
        """Write a durable copy of the database, unless there is one younger than ``every``; tell if it did.

        Raises
        ------
        OSError
            No copy could be written; the previous one stays.
        """
        return self._dialect.back_up(every=every, now=now)

    def keep_backup(self, now: datetime) -> str | None:
        """Protect the copy of a database that was lost from later copies; return its new location, if there is one."""
        return self._dialect.keep_backup(now)

    def marks(self) -> list[RootMark]:
        """Return the marks of the last two openings of this catalog's root; none if it was never opened."""
        with self.reading() as session:
            return root_marks.marks(session.connection)

    def put_mark(self, mark: RootMark, before: RootMark | None) -> None:
        """Keep the mark of this opening, and the one that the root carries until it carries the new one."""
        with self.writing() as session:
            root_marks.put(session.connection, mark, before)

    def holds_anything(self) -> bool:
        """Tell if there is a live checkpoint."""
        with self.reading() as session:
            return session.checkpoints.any_live()

    @property
    def location(self) -> str:
        """The location of the database, for the operator."""
        return self._dialect.location

    def is_inside(self, folder: Path) -> bool:
        """Tell if the database lies in this folder."""
        return self._dialect.is_inside(folder)

    def how_to_replace(self, root: Path) -> str:
        """Return advice to the operator: how to give a root a catalog of its own."""
        return self._dialect.how_to_replace(root)

    def mark_complete(self) -> None:
        """Record that the catalog holds everything that the files say, so that `is_new` is false at the next start."""
        if not self.is_new:
            return  # nothing to write, for which a full disk may have no room
        with self.writing() as session:
            self._dialect.mark_complete(session.connection)

    def faults(self) -> list[str]:
        """Check the database's own structures and return the faults in words."""
        try:
            with self.reading() as session:
                return self._dialect.faults(session.connection)
        except SQLAlchemyError as error:
            return [f"it cannot be checked: {error}"]

    def usable(self) -> bool:
        """Tell if the database answers."""
        try:
            with self.reading() as session:
                return session.connection.execute(text("SELECT 1")).scalar() == 1
        except (SQLAlchemyError, Refusal):
            return False

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if (refusal := self._dialect.refusal(error)) is not None:
                raise refusal from error
            raise


def default_url(folder: Path) -> URL:
    """Return the URL of the catalog that a root keeps in a folder of its own, unless another one is configured."""
    return sqlite.url_of(folder / "catalog.db")


def _dialect_of(url: str | URL) -> Dialect:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in _DIALECTS:
        raise CatalogUnusable(f"The catalog is kept in SQLite; {backend!r} databases are not supported yet.")
    return _DIALECTS[backend](parsed)
