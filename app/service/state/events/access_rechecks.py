"""Rechecks of access: the token or session of open streams is checked again, once for all streams that share it."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from app.service.state.events.watcher import Watcher

RECHECK_S = 15.0
"""Interval at which the token of an open stream is checked again, in seconds."""


@dataclass
class _Checked:
    still_may: Callable[[], bool]
    due_at: float
    watchers: set[Watcher] = field(default_factory=set)


class AccessRechecks:
    """The open streams by what they were authorised with. Not thread-safe."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, _Checked] = {}

    def add(self, key: Hashable, watcher: Watcher) -> None:
        """Add a watcher that was authorised just now, with what its key names."""
        checked = self._by_key.setdefault(key, _Checked(watcher.still_may, time.monotonic() + RECHECK_S))
        checked.watchers.add(watcher)

    def discard(self, key: Hashable, watcher: Watcher) -> None:
        """Remove a watcher, if it is there."""
        checked = self._by_key.get(key)
        if checked is not None:
            checked.watchers.discard(watcher)
            if not checked.watchers:
                del self._by_key[key]

    def due(self, *, all_of_them: bool = False) -> list[tuple[Hashable, Callable[[], bool]]]:
        """Return the checks that are due, until they are marked as done."""
        now = time.monotonic()
        return [(key, each.still_may) for key, each in self._by_key.items() if all_of_them or each.due_at <= now]

    def mark_done(self, key: Hashable) -> None:
        """Count a check as done."""
        if (checked := self._by_key.get(key)) is not None:
            checked.due_at = time.monotonic() + RECHECK_S

    def watchers(self, key: Hashable) -> list[Watcher]:
        """Return the watchers that share a key."""
        checked = self._by_key.get(key)
        return list(checked.watchers) if checked is not None else []

    def next_in_s(self) -> float:
        """Return the time until the next check is due, in seconds."""
        now = time.monotonic()
        return max(0.0, min((each.due_at - now for each in self._by_key.values()), default=RECHECK_S))
