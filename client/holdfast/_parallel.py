"""Jobs on several threads, and patience with connections that break."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import ServerUnreachable

T = TypeVar("T")

CONNECTIONS = 2
"""How many ranges are under way at a time; more are no faster on one machine."""
PATIENCE_S = 30.0
"""How long, in seconds, a transfer that has begun waits for a server that is away, counted from the last progress."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 3.0


def in_parallel(jobs: Iterable[T], work: Callable[[T], None]) -> None:
    """Do all jobs on a few threads. After the first failure no further job is begun, and it is raised.

    Where the others fail by then, too, a failure that is not about the connection is raised before one that is.
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

    count = min(CONNECTIONS, len(todo))
    if count <= 1:
        run()
    else:
        threads = [threading.Thread(target=run, name="holdfast-transfer", daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # Ctrl-C: the threads end with what they are at
            failures.append(error)
            raise
    if failures:
        raise min(failures, key=lambda error: isinstance(error, ServerUnreachable))


class Patience:
    """How long to go on trying: up to `PATIENCE_S` without progress, with full jitter between the attempts."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._wait_s = _FIRST_WAIT_S

    def progress(self) -> None:
        """Something arrived."""
        self._since = time.monotonic()
        self._wait_s = _FIRST_WAIT_S

    def wait(self, error: ServerUnreachable) -> None:
        """Wait a little; raise the error where it has been too long."""
        if time.monotonic() - self._since > PATIENCE_S:
            raise error
        time.sleep(random.uniform(0, self._wait_s))
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
