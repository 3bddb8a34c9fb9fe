"""Lag of the event loop, measured by a task that sleeps and compares when it wakes."""

import asyncio
import time
from collections import deque

EVERY_S = 0.01
REMEMBERED_S = 60.0


class LoopProbe:
    """The longest stall of an event loop within the last minute."""

    def __init__(self) -> None:
        self._stalls: deque[tuple[float, float]] = deque()  # (when, how long), each longer than all after it

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._note(loop.time() - due)

    def longest_s(self) -> float:
        """Return the longest stall within the last minute, in seconds."""
        self._forget()
        return self._stalls[0][1] if self._stalls else 0.0

    def _note(self, stall_s: float) -> None:
        while self._stalls and self._stalls[-1][1] <= stall_s:
            self._stalls.pop()
        self._stalls.append((time.monotonic(), stall_s))
        self._forget()

    def _forget(self) -> None:
        oldest = time.monotonic() - REMEMBERED_S
        while self._stalls and self._stalls[0][0] < oldest:
            self._stalls.popleft()
