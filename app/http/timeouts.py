"""How slow a client may be. Pure: whoever waits for it says how long, so that the server's own time never counts."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may cost: the bytes of a head, the seconds of a head, the pace of bodies and of answers."""

    header_bytes: int = 64 * 1024
    head_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0
    body_grace_s: float = 300.0
    min_bytes_per_s: float = 1000.0

    def of_head(self) -> "Pace":
        """For a head, however its bytes trickle in."""
        return Pace(inf, self.head_timeout_s, inf)

    def of_body(self) -> "Pace":
        """For a body: never silent for long, and on the whole not too slow."""
        return Pace(self.idle_timeout_s, self.body_grace_s, self.min_bytes_per_s)

    def of_answer(self) -> "Pace":
        """For an answer: the client may take it as slowly as it likes, but must take something."""
        return Pace(self.idle_timeout_s, inf, inf)


class Pace:
    """How long has been waited for bytes, and how many came meanwhile.

    Parameters
    ----------
    idle_s : float
        How long may be waited in one go, in seconds.
    grace_s : float
        How long may be waited in all, in seconds, beside the time that the bytes take at the lowest rate.
    bytes_per_s : float
        The lowest rate.
    """

    def __init__(self, idle_s: float, grace_s: float, bytes_per_s: float) -> None:
        self._idle_s, self._grace_s, self._bytes_per_s = idle_s, grace_s, bytes_per_s
        self._silent_s = self._waited_s = 0.0
        self._bytes = 0

    @property
    def left_s(self) -> float:
        """How long may still be waited, in seconds; without any left, the client is too slow."""
        on_the_whole = self._grace_s + self._bytes / self._bytes_per_s - self._waited_s
        return max(0.0, min(self._idle_s - self._silent_s, on_the_whole))

    def waited(self, seconds: float) -> None:
        """So long, only the client could have gone on."""
        self._silent_s += seconds
        self._waited_s += seconds

    def came(self, count: int) -> None:
        """So many bytes passed."""
        self._bytes += count
        self._silent_s = 0.0
