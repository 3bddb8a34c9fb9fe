"""Empty directories, which the server does not store: those that this process has made are remembered here."""

import threading
from collections import defaultdict


class MadeDirectories:
    """The directories that were made below one prefix of one server. Thread-safe."""

    _of_all: defaultdict[tuple[str, str], "MadeDirectories"]

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._guard = threading.Lock()

    @classmethod
    def of(cls, url: str, prefix: str) -> "MadeDirectories":
        """Return the one that all file systems of this process share for the same server and prefix."""
        return cls._of_all[url, prefix]

    def add(self, path: str) -> None:
        """Remember a directory, and those that it is in."""
        parts = path.split("/")
        with self._guard:
            self._paths.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))

    def forget(self, path: str) -> None:
        """Forget a directory, and all that are in it."""
        with self._guard:
            self._paths = {each for each in self._paths if not f"{each}/".startswith(f"{path}/")}

    def children(self, path: str) -> list[str]:
        """Return the directories right below one."""
        before = f"{path}/" if path else ""
        with self._guard:
            return [each for each in self._paths if each.startswith(before) and "/" not in each[len(before) :] and each]

    def __contains__(self, path: str) -> bool:
        return path in self._paths


MadeDirectories._of_all = defaultdict(MadeDirectories)
