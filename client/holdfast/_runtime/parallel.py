"""Parallel jobs on a few threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import ServerUnreachable
from .threads import start

T = TypeVar("T")

CONNECTIONS = 2
"""The number of ranges that are transferred at a time; more are no faster on one machine."""


def in_parallel(jobs: Iterable[T], work: Callable[[T], object], *, threads: int = CONNECTIONS) -> None:
    """Do all jobs on a few threads. After the first failure no further job is started, and the failure is raised.

    If several jobs fail by then, a failure that is not about the connection has precedence.
    """
    todo = deque(jobs)
    failures: list[BaseException] = []

    def run() -> None:
        while todo and not failures:
            try:
                job = todo.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                work(job)
            except BaseException as error:
                failures.append(error)

    count = min(threads, len(todo))
    started = [threading.Thread(target=run, name="holdfast-transfer", daemon=True) for _ in range(count)]
    try:
        if count <= 1 or not start(started[0]):
            run()
            started = []
        for thread in started[1:]:
            start(thread)
        for thread in started:
            if thread.ident is not None:
                thread.join()
    except BaseException as error:  # Ctrl-C: each thread ends with its current job
        failures.append(error)
        raise
    if failures:
        raise min(failures, key=lambda error: isinstance(error, ServerUnreachable))
