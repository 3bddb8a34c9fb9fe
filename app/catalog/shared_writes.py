"""Shared writes: threads that wait for the same turn to write are committed together, with one sync of the disk."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, NestedTransaction
from sqlalchemy.exc import DBAPIError

MOST = 100
"""The number of writes that are committed together, at most."""

T = TypeVar("T")
Work = Callable[[Connection], T]


class SharedWrites:
    """Commits the writes of several threads in one transaction. Thread-safe.

    The thread whose turn it is does the work of all that wait by then; the others find theirs done. Each work has a
    savepoint of its own, so that one that fails undoes nothing of the others. If the transaction fails, all fail.

    Parameters
    ----------
    begin : callable
        Opens a transaction that writes, whenever no other one is open.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._begin = begin
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Write[Any]] = []

    def run(self, work: Work[T]) -> T:
        """Do some work in a transaction; durable when this returns.

        It may be done by another thread, in this thread's context. Its own exceptions are raised here, and those of the
        transaction.
        """
        write = _Write(work)
        with self._guard:
            self._waiting.append(write)
        with self._turn:
            while not write.is_done:
                self._commit_waiting()
        return write.result()

    def _commit_waiting(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            with self._begin() as connection:
                for write in batch:
                    write.do(connection, is_alone=len(batch) == 1)
        except BaseException as error:
            for write in batch:
                write.fail(error)
        for write in batch:
            write.is_done = True


class _Write(Generic[T]):
    """The work of one thread, and what came of it."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._context = copy_context()
        self._error: BaseException | None = None
        self._found: list[T] = []
        self.is_done = False

    def do(self, connection: Connection, *, is_alone: bool) -> None:
        """Do the work. Alone, its exception ends the transaction; among others, it undoes this work.

        Raises
        ------
        Exception
            That of the work, if the transaction has ended with it: a full disk may have undone the others' work, too.
        """
        if is_alone:
            self._found.append(self._context.run(self._work, connection))
            return
        savepoint = connection.begin_nested()
        try:
            found = self._context.run(self._work, connection)
        except Exception as error:
            self._error = error
            if not _is_undone(savepoint):
                raise
            return
        savepoint.commit()
        self._found.append(found)

    def fail(self, error: BaseException) -> None:
        """Note that the transaction has failed."""
        self._error = self._error or error

    def result(self) -> T:
        """Return the result of the work, or raise its exception."""
        if self._error is not None:
            raise self._error
        return self._found[0]


def _is_undone(savepoint: NestedTransaction) -> bool:
    """Undo what was done since a savepoint; False if the database has dropped it, with the whole transaction."""
    try:
        savepoint.rollback()
    except DBAPIError:
        return False
    return True
