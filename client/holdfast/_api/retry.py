"""When to try again: which failures pass by themselves, how long to wait, and which server is known to be away."""

import random
import threading
import time
from typing import ClassVar

from .._runtime.process import ProcessLocal
from ..errors import HoldfastError, NotAllowed, ServerUnreachable

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""The bounds of full jitter: a wait is drawn from 0 to a limit that doubles from the first of these to the second."""
PATIENCE_S = 10.0
"""How long, in seconds, a save tries to reach a server that is away."""
READERS_PATIENCE = 3.0
"""How many times as patient those are who want to read: they have nothing else to turn to."""
_chance = random.SystemRandom()  # the sequence of `random` is the job's, and forked ranks should not wait alike
_PASSING = {408, 421, 425, 429}
_ABOUT_US = {401, 403, 507}


def is_transient(error: HoldfastError) -> bool:
    """Whether a failure may be gone at the next attempt.

    So it is with what never arrived or arrived altered, with a server that cannot at the moment, and with every answer
    of a proxy, whatever its status: it says nothing of the server, or of this client's token there.
    """
    if isinstance(error, ServerUnreachable) or error.code in {"upload_busy", "body_altered", "upload_not_found"}:
        return True
    if error.status is None:
        return False
    if "code" not in error.problem:
        return True
    return error.status != 507 and (error.status >= 500 or error.status in _PASSING)


def is_refused_for_now(error: HoldfastError) -> bool:
    """Whether a server's refusal is about who asks or about room, so that the same save may be taken later."""
    return isinstance(error, NotAllowed) or (error.status in _ABOUT_US and "code" in error.problem)


class Backoff:
    """How long to wait before each further attempt: full jitter, and as long as the server asks for."""

    def __init__(self) -> None:
        self._limit_s = FIRST_WAIT_S

    def reset(self) -> None:
        """The last attempt went well."""
        self._limit_s = FIRST_WAIT_S

    def next_s(self, error: HoldfastError | None = None) -> float:
        """The next wait in seconds."""
        wait_s = _chance.uniform(0, self._limit_s)
        self._limit_s = min(2 * self._limit_s, LONGEST_WAIT_S)
        asked_s = min((error and error.retry_after_s) or 0.0, LONGEST_WAIT_S)
        return max(wait_s, asked_s)


class Patience:
    """How long to go on trying, counted from the last progress.

    Parameters
    ----------
    limit_s : float
        How many seconds may pass without progress.
    stopping : threading.Event, optional
        Once it is set, no attempt follows a failure.
    """

    def __init__(self, limit_s: float, stopping: threading.Event | None = None) -> None:
        self._limit_s = limit_s
        self._stopping = stopping or threading.Event()
        self._waits = Backoff()
        self._since = time.monotonic()

    def progress(self) -> None:
        """Something arrived."""
        self._since = time.monotonic()
        self._waits.reset()

    def wait(self, error: HoldfastError) -> None:
        """Wait a little before the next attempt; raise the error where no time is left for one."""
        left_s = self._since + self._limit_s - time.monotonic()
        if left_s <= 0 or self._stopping.is_set():
            raise error
        wait_s = self._waits.next_s(error)
        if error.retry_after_s and wait_s > left_s:
            raise error
        if self._stopping.wait(min(wait_s, left_s)):
            raise error


class Outage:
    """What this process knows of a server that is away, so that it is not asked again by every save.

    It begins when a save has lost its patience, and ends with the first answer.
    """

    _known: ClassVar[ProcessLocal[dict[tuple[str, str], "Outage"]]] = ProcessLocal(dict)

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waits = Backoff()
        self._retry_at: float | None = None
        self.because: HoldfastError | None = None
        """How it was noticed last; None where there is none."""
        self.is_reported = False
        """Whether the user has been told of it."""

    @classmethod
    def of(cls, url: str, token: str = "") -> "Outage":
        """What is known of the server at a URL; the same for all of this process that ask with this token.

        ``token`` is the name of one, as `_token.Token.key` gives it: a server that refuses one is there for others.
        """
        return cls._known.get().setdefault((url, token), cls())

    @property
    def is_on(self) -> bool:
        """Whether the server was away when it was last asked."""
        return self._retry_at is not None

    @property
    def allows_attempt(self) -> bool:
        """Whether enough time has passed since then; whoever is told so is the only one for a while."""
        with self._guard:
            if self._retry_at is None:
                return True
            if time.monotonic() < self._retry_at:
                return False
            self._retry_at = time.monotonic() + self._waits.next_s()
            return True

    def begin(self, error: HoldfastError) -> None:
        """An attempt failed, or the last of several."""
        with self._guard:
            self.because = error
            self._retry_at = time.monotonic() + self._waits.next_s(error)

    def end(self) -> None:
        """The server has answered."""
        with self._guard:
            self._retry_at, self.because, self.is_reported = None, None, False
            self._waits.reset()
