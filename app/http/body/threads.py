"""Threads for the work on bodies, apart from those of other requests: these never wait behind a disk or a commit."""

from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")

THREADS = 40
"""The most bodies that are begun, written, read or committed at the same time, as many as other requests at work."""
_limiters: RunVar[CapacityLimiter] = RunVar("holdfast.bodies")


async def run_for_body(work: Callable[..., T], *arguments: Any) -> T:
    """Run blocking work on a body, or a commit, on one of these threads."""
    return await to_thread.run_sync(work, *arguments, limiter=_limiter())


def _limiter() -> CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiters.set(limiter)
        return limiter
