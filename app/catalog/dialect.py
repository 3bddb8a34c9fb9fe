"""The dialect: all that databases do differently when the catalog opens, locks, checks and copies them.

Types, indexes and sums that differ are declared in `tables.portable`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.core.errors import Refusal


class Dialect(Protocol):
    """One database that can hold a catalog. Only `make` and `engine` run before the first transaction."""

    @property
    def location(self) -> str:
        """The location of the database, for the operator; without secrets."""
        ...

    def exists(self) -> bool:
        """Tell if there is a database."""
        ...

    def make(self) -> None:
        """Create the database if it is missing, and close it to other users of the machine. Best-effort."""
        ...

    def engine(self) -> Engine:
        """Return an engine whose connections are durable: a commit that was acknowledged survives a power cut."""
        ...

    def options(self, *, writes: bool, is_durable: bool = True) -> Mapping[str, Any]:
        """Return the execution options of a transaction.

        One that reads sees a single snapshot. One that writes excludes all other writers from its beginning; a power
        cut may undo it unless it ``is_durable``, but none that it follows.
        """
        ...

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn of a transaction that writes, if the database takes one at a time."""
        ...

    def refusal(self, error: DBAPIError) -> Refusal | None:
        """Translate an error of the disk or the connection; None for any other error, which is a defect."""
        ...

    def is_complete(self, connection: Connection) -> bool:
        """Tell if `mark_complete` was called on this database."""
        ...

    def mark_complete(self, connection: Connection) -> None:
        """Record that the catalog holds everything that the files of its root say."""
        ...

    def faults(self, connection: Connection) -> list[str]:
        """Check the database's own structures and return the faults in words."""
        ...

    def has_unused_space(self, connection: Connection) -> bool:
        """Tell if the database holds more unused space than its next rows need, and can give it back."""
        ...

    def release_space(self, connection: Connection) -> None:
        """Give a little of the unused space back to the disk, in the caller's transaction."""
        ...

    def compact(self) -> tuple[int, int]:
        """Give all unused space back, while nothing else uses the database; return its bytes before and after.

        From then on, `release_space` works.

        Raises
        ------
        OSError
            The disk is full or fails; the database stays as it was.
        """
        ...

    def back_up(self, *, every: timedelta, now: datetime) -> bool:
        """Write a durable copy of the database, unless there is one younger than ``every``; tell if it did.

        Raises
        ------
        OSError
            No copy could be written; the previous one stays.
        """
        ...

    def keep_backup(self, now: datetime) -> str | None:
        """Protect the copy of a database that was lost from later copies; return its new location, if there is one."""
        ...

    def is_inside(self, folder: Path) -> bool:
        """Tell if the database lies in this folder."""
        ...

    def how_to_replace(self, root: Path) -> str:
        """Return advice to the operator: how to give a root a catalog of its own."""
        ...
