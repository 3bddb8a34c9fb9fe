"""Running copies: the threads that copy chunks into open uploads, and the copies planned for each upload."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.core.errors import Refusal
from app.runtime.thread_priority import BULK, set_niceness
from app.service.state.upload_progress import UploadProgress

logger = logging.getLogger("holdfast")

J = TypeVar("J")

THREADS = 2


@dataclass
class CopyPlan(Generic[J]):
    """The copies planned for one upload, and the open files that they read."""

    progress: UploadProgress
    jobs: deque[J] = field(default_factory=deque)
    sources: ExitStack = field(default_factory=ExitStack)
    open_files: int = 0
    running: int = THREADS


class RunningCopies:
    """Copies chunks in the background, with a low priority."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._workers = ThreadPoolExecutor(
            THREADS, thread_name_prefix="holdfast-copying", initializer=lambda: set_niceness(BULK)
        )

    def start(self, plan: CopyPlan[J], copy: Callable[[J], None]) -> None:
        """Carry out a plan, then close its sources. Ranges that cannot be copied become missing."""
        futures = [self._workers.submit(self._work, plan, copy) for _ in range(THREADS)]
        plan.progress.copying = futures
        for future in futures:
            future.add_done_callback(lambda _: self._end(plan))

    def close(self) -> None:
        """Stop copying. The next start plans anew what was not copied."""
        self._closing.set()
        self._workers.shutdown(wait=True)

    def _work(self, plan: CopyPlan[J], copy: Callable[[J], None]) -> None:
        try:
            with suppress(IndexError):
                while plan.progress.planned and not self._closing.is_set():
                    copy(plan.jobs.popleft())
        except (OSError, Refusal) as error:  # the client then sends the missing ranges
            logger.warning("upload %s: not everything could be copied: %s", plan.progress.upload.id, error)

    def _end(self, plan: CopyPlan[J]) -> None:
        with self._guard:
            plan.running -= 1
            is_last = plan.running == 0
        if is_last:
            plan.sources.close()
