"""Saves under way in this process, and how they become durable before the process ends.

Knows no signals: `shutdown` decides when it is time.
"""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from .._runtime.forks import after_fork_in_child
from .._spool.courier import Courier
from .._spool.queue import Queue
from .._spool.temporary_files import discard_interrupted
from . import background

DRAIN_S = 20.0
"""The time, in seconds, by which saves may delay the end of a process."""
GRACE_S = 2.0
"""The time, in seconds, that a save has to arrive after SIGTERM before it is also written to the spool."""

log = logging.getLogger("holdfast")


class SaveUnderWay(Protocol):
    """A save that is under way."""

    @property
    def what(self) -> str:
        """Its name, for people."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is durable, or has failed and reported that; False after so many seconds."""

    def stop_retrying(self) -> None:
        """Let the next failure be the last one."""

    def is_alive(self) -> bool:
        """Tell if it is still to be saved, and was not interrupted."""

    def spill_to_spool(self) -> bool:
        """Write it to the spool unless it has ended; False if it is durable nowhere."""


class _State:
    """The saves of this process."""

    def __init__(self) -> None:
        self.requested_at: float | None = None
        """When, of `time.monotonic`, the process was asked to end. Handlers of signals take no lock: it is no Event."""
        self.jobs: list[SaveUnderWay] = []
        self.limit_s: float | None = None
        """The longest time that a save may delay the end by; None before the first save."""
        self.logged: set[tuple[Queue, int]] = set()


_state = _State()


@after_fork_in_child
def _forget() -> None:
    """Leave to the parent what was under way there."""
    global _state
    _state = _State()


def is_requested() -> bool:
    """Tell if the process was asked to end."""
    return _state.requested_at is not None


def request() -> None:
    """Note that the process was asked to end. It is called by handlers of signals: it takes no lock."""
    _state.requested_at = _state.requested_at or time.monotonic()


def limit_s() -> float:
    """Return the time, in seconds, by which saves may delay the end of this process."""
    return DRAIN_S if _state.limit_s is None else _state.limit_s


def add(job: SaveUnderWay, drain_s: float) -> None:
    """Count a save as under way, until `remove`.

    Parameters
    ----------
    drain_s : float
        The time, in seconds, by which this save may delay the end of the process.
    """
    _state.limit_s = max(drain_s, _state.limit_s or 0.0)
    _remove_interrupted()
    if job not in _state.jobs:
        _state.jobs.append(job)


def remove(job: SaveUnderWay) -> None:
    """Count a save as ended."""
    with suppress(ValueError):  # a forked child removes a job of its parent
        _state.jobs.remove(job)


def _remove_interrupted() -> None:
    for job in list(_state.jobs):
        if not job.is_alive():
            remove(job)


def stop_retrying() -> None:
    """Let the next failure of each save under way be its last one."""
    for job in list(_state.jobs):
        job.stop_retrying()


def drain(limit_s: float) -> None:
    """Make durable what is under way in this process, deliver what can be delivered, and log the rest.

    A save under way has the whole time to arrive, or `GRACE_S` once the process was asked to end. Then it is written to
    the spool.

    Parameters
    ----------
    limit_s : float
        The time, in seconds, that this may take; writing to the spool at its end comes on top.
    """
    end = time.monotonic() + limit_s
    lost = spill(end)
    couriers = Courier.all()
    for courier in couriers:
        courier.finish(end)
    for job in lost:
        if not job.wait(max(0.0, end - time.monotonic())):
            log.error("%s was not saved: the process ends before it has arrived", job.what)
    discard_interrupted()
    background.log_errors()
    log_waiting(queue for courier in couriers for queue in courier.waiting())


def spill(end: float) -> list[SaveUnderWay]:
    """Write to the spool what does not arrive until then; returns what could not be written.

    Parameters
    ----------
    end : float
        The time, of `time.monotonic`.
    """
    _remove_interrupted()
    return [job for job in list(_state.jobs) if not _is_durable(job, end) and not job.spill_to_spool()]


def _is_durable(job: SaveUnderWay, end: float) -> bool:
    """Wait for a save, for as long as that is allowed."""
    while not job.wait(0.02):
        if not job.is_alive():
            return True
        if _state.requested_at is not None:
            end = min(end, _state.requested_at + GRACE_S)
            return job.wait(max(0.0, end - time.monotonic()))
        if time.monotonic() >= end:
            return False
    return True


def log_waiting(queues: Iterable[Queue]) -> None:
    """Log, once, what has not reached its server yet, and its folder."""
    for queue in queues:
        count = len(queue.items())
        if count and (queue, count) not in _state.logged:
            _state.logged.add((queue, count))
            what = f"{count} checkpoint{'s' * (count != 1)} of {queue.directory!r} wait{'s' * (count == 1)}"
            where = f"in {queue.folder} for {queue.server}"
            log.warning("%s %s: the next job that uses it delivers them, or 'holdfast sync'", what, where)
