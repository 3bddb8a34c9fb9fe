"""Retries: transient failures, back-off, and the circuit breaker of each server."""

import random
import threading
import time
from typing import ClassVar

from .._runtime.forks import ProcessLocal
from ..errors import HoldfastError, NotAllowed, ServerUnreachable
from . import identity

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""The bounds of full jitter: a wait is drawn from 0 to a limit that doubles from the first of these to the second."""
PATIENCE_S = 10.0
"""The time, in seconds, for which a save retries an unreachable server."""
READERS_PATIENCE = 3.0
"""The factor by which readers are more patient than a save, as a save can go to the spool instead."""
_random = random.SystemRandom()  # `random` belongs to the job, and forked ranks should draw different waits
_TRANSIENT = {408, 421, 425, 429}
_ABOUT_CLIENT = {401, 403, 507}


def is_transient(error: HoldfastError) -> bool:
    """Tell if a failure may be gone at the next attempt.

    Transient are: whatever never arrived or arrived altered, a server that is temporarily unable, and every response of
    a proxy, whatever its status, since it says nothing about the server or about this client's token.
    """
    if isinstance(error, ServerUnreachable) or error.code in {"upload_busy", "body_altered", "upload_not_found"}:
        return True
    if error.status is None:
        return False
    if "code" not in error.problem:
        return True
    return error.status != 507 and (error.status >= 500 or error.status in _TRANSIENT)


def is_refused_for_now(error: HoldfastError) -> bool:
    """Tell if a refusal is about permission or free space, so that the server may accept the same save later."""
    return isinstance(error, NotAllowed) or (error.status in _ABOUT_CLIENT and "code" in error.problem)


class Backoff:
    """The waits before retries: exponential back-off with full jitter, and at least ``Retry-After``."""

    def __init__(self) -> None:
        self._limit_s = FIRST_WAIT_S

    def reset(self) -> None:
        """Start again from the shortest wait, after a success."""
        self._limit_s = FIRST_WAIT_S

    def next_s(self, error: HoldfastError | None = None) -> float:
        """Return the next wait, in seconds."""
        wait_s = _random.uniform(0, self._limit_s)
        self._limit_s = min(2 * self._limit_s, LONGEST_WAIT_S)
        asked_s = min((error and error.retry_after_s) or 0.0, LONGEST_WAIT_S)
        return max(wait_s, asked_s)


class RetryDeadline:
    """The time that retries may take, counted from the last progress.

    Parameters
    ----------
    limit_s : float
        The longest time, in seconds, without progress.
    stopping : threading.Event, optional
        Once it is set, no attempt follows a failure.
    """

    def __init__(self, limit_s: float, stopping: threading.Event | None = None) -> None:
        self._limit_s = limit_s
        self._stopping = stopping or threading.Event()
        self._waits = Backoff()
        self._since = time.monotonic()

    def progress(self) -> None:
        """Note that something has arrived."""
        self._since = time.monotonic()
        self._waits.reset()

    def wait(self, error: HoldfastError) -> None:
        """Wait before the next attempt; raise the error if no time is left for one."""
        left_s = self._since + self._limit_s - time.monotonic()
        if left_s <= 0 or self._stopping.is_set():
            raise error
        wait_s = self._waits.next_s(error)
        if error.retry_after_s and wait_s > left_s:
            raise error
        if self._stopping.wait(min(wait_s, left_s)):
            raise error


class CircuitBreaker:
    """The circuit breaker of a server, so that not every save waits for the same unreachable server.

    It opens once a save or a delivery has failed in all its retries, and closes with the first response to one. While
    it is open, saves go to the spool, and every other call makes one attempt instead of several. `allows_attempt` is
    for callers that can do without an answer: the open circuit lets one of these through at a time, after waits that
    grow.
    """

    _known: ClassVar[ProcessLocal[dict[tuple[str, str], "CircuitBreaker"]]] = ProcessLocal(dict)

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waits = Backoff()
        self._retry_at: float | None = None
        self.because: HoldfastError | None = None
        """The last failure; None while the circuit is closed."""
        self.is_reported = False
        """True once the user has been warned."""

    @classmethod
    def of(cls, url: str, token: str = "") -> "CircuitBreaker":
        """Return the circuit of the server at a URL, shared by all of this process that use the same token.

        ``token`` is a `Token.key`: a server that refuses one token still serves others.
        """
        return cls._known.get().setdefault((url, token), cls())

    @property
    def is_open(self) -> bool:
        """True if the server was unreachable at the last attempt."""
        return self._retry_at is not None

    @property
    def allows_attempt(self) -> bool:
        """True if the next attempt is due; then it is False for other callers until the following one is due."""
        with self._guard:
            if self._retry_at is None:
                return True
            if time.monotonic() < self._retry_at:
                return False
            self._retry_at = time.monotonic() + self._waits.next_s()
            return True

    def trip(self, error: HoldfastError) -> None:
        """Open the circuit, or keep it open: an attempt has failed, or the last of several."""
        with self._guard:
            self.because = error
            self._retry_at = time.monotonic() + self._waits.next_s(error)

    def close(self) -> None:
        """Close the circuit: the server has answered."""
        if self.is_open:
            identity.note_outage_end()  # before others see it closed
        with self._guard:
            self._retry_at, self.because, self.is_reported = None, None, False
            self._waits.reset()
