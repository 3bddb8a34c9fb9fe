"""Timeouts and minimum transfer rates of a connection. Pure: callers report the time that they waited for the client.

Time that the server itself needs is never reported, so it never counts against a client.
"""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a connection: the size and time of a request head, and the pace of bodies and responses."""

    header_bytes: int = 64 * 1024
    head_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0
    body_grace_s: float = 300.0
    min_bytes_per_s: float = 1000.0

    def of_head(self) -> "Pace":
        """Return the pace of a request head: a total time, however its bytes trickle in."""
        return Pace(inf, self.head_timeout_s, inf)

    def of_body(self) -> "Pace":
        """Return the pace of a request body: an idle timeout, and a minimum rate over the whole body."""
        return Pace(self.idle_timeout_s, self.body_grace_s, self.min_bytes_per_s)

    def of_answer(self) -> "Pace":
        """Return the pace of a response: an idle timeout only, without a minimum rate."""
        return Pace(self.idle_timeout_s, inf, inf)


class Pace:
    """The time spent waiting for a client, set against the bytes transferred.

    Parameters
    ----------
    idle_s : float
        Longest wait without any byte, in seconds.
    grace_s : float
        Total wait allowed, in seconds, on top of the time that the bytes take at the minimum rate.
    bytes_per_s : float
        Minimum rate.
    """

    def __init__(self, idle_s: float, grace_s: float, bytes_per_s: float) -> None:
        self._idle_s, self._grace_s, self._bytes_per_s = idle_s, grace_s, bytes_per_s
        self._silent_s = self._waited_s = 0.0
        self._bytes = 0

    @property
    def left_s(self) -> float:
        """Seconds that the client still has. At 0 it is too slow."""
        total_left_s = self._grace_s + self._bytes / self._bytes_per_s - self._waited_s
        return max(0.0, min(self._idle_s - self._silent_s, total_left_s))

    def waited(self, seconds: float) -> None:
        """Count seconds during which only the client could proceed."""
        self._silent_s += seconds
        self._waited_s += seconds

    def came(self, count: int) -> None:
        """Count bytes that were transferred."""
        self._bytes += count
        self._silent_s = 0.0
