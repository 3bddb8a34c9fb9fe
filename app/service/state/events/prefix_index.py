"""Index of live watchers by prefix: an event finds its watchers by the components of its directory alone."""

from collections.abc import Iterable, Iterator, Sequence

from app.core.models import Event
from app.service.state.events.watcher import Watcher


class PrefixIndex:
    """Live watchers by prefix. Watchers of unrelated directories cost a lookup nothing. Not thread-safe."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, set[Watcher]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def __iter__(self) -> Iterator[Watcher]:
        for watchers in self._by_prefix.values():
            yield from watchers

    def add(self, watcher: Watcher) -> None:
        """Add a watcher."""
        self._by_prefix.setdefault(watcher.prefix, set()).add(watcher)

    def discard(self, watcher: Watcher) -> None:
        """Remove a watcher, if it is there."""
        watchers = self._by_prefix.get(watcher.prefix)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self._by_prefix[watcher.prefix]

    def matches(self, events: Sequence[Event]) -> list[tuple[list[Watcher], list[Event]]]:
        """Return the watchers of each prefix that some of the events are within, with those events, in order."""
        found: dict[str, list[Event]] = {}
        for event in events:
            for prefix in ancestors(event.directory):
                if prefix in self._by_prefix:
                    found.setdefault(prefix, []).append(event)
        return [(list(self._by_prefix[prefix]), within) for prefix, within in found.items()]

    def around(self, directories: Iterable[str]) -> list[Watcher]:
        """Return the watchers of any prefix that one of the directories is within."""
        prefixes = {prefix for directory in directories for prefix in ancestors(directory)}
        return [watcher for prefix in prefixes for watcher in self._by_prefix.get(prefix, ())]


def ancestors(directory: str) -> Iterator[str]:
    """Yield every prefix that a directory is within: the empty one, each of its parents, and itself."""
    yield ""
    end = directory.find("/")
    while end != -1:
        yield directory[:end]
        end = directory.find("/", end + 1)
    yield directory
