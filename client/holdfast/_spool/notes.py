"""Notes on a directory, in ``known.json``: what is known of its order, and what was loaded from it."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .._runtime.interruption import suppress
from . import temporary_files

_DELIVERED = "delivered_after"


def note_of(kind: str) -> str:
    """Return the key of the note on the checkpoint of a kind that was loaded last."""
    return "loaded" if kind == "regular" else f"loaded_{kind}"


class Notes:
    """The notes of one queue. Best-effort: without them, a late delivery counts as older than it is.

    Parameters
    ----------
    folder : Path
        The folder of the queue.
    kept : callable
        Makes the folder, and keeps it during a ``with`` block. It may raise `OSError`.
    """

    def __init__(self, folder: Path, kept: Callable[[], AbstractContextManager[None]]) -> None:
        self._folder = folder
        self._kept = kept
        self._sequence = 0

    @property
    def sequence(self) -> int:
        """The last sequence that a process of this machine knew when the server last answered; 0 if none did."""
        return self._newest(self.read())

    def _newest(self, content: Mapping[str, Any]) -> int:
        """Return the last sequence of what was read and of what this object knows."""
        self._sequence = max(self._sequence, int(content.get("sequence", 0)))
        return self._sequence

    def read(self) -> dict[str, Any]:
        """Return the content of ``known.json``."""
        with suppress(OSError, ValueError):
            found = json.loads((self._folder / "known.json").read_text())
            if isinstance(found, dict) and isinstance(found.get("sequence", 0), int):
                return found
        return {}

    @property
    def delivered_after(self) -> int:
        """The last place in the order that a checkpoint got which was delivered from here; 0 if none did."""
        found = self.read().get(_DELIVERED, 0)
        return found if isinstance(found, int) else 0

    def learn(self, sequence: int, loaded: Mapping[str, Any] | None = None, delivered_after: int = 0) -> None:
        """Note that a checkpoint of this sequence exists.

        Parameters
        ----------
        loaded : mapping, optional
            The note on it, if it was loaded.
        delivered_after : int
            Its place in the order, if it was delivered from here.
        """
        content = self.read()
        place = content.get(_DELIVERED, 0)
        is_later = isinstance(place, int) and delivered_after > place
        if sequence <= self._newest(content) and loaded is None and not is_later:
            return
        self._sequence = max(sequence, self._sequence)
        with suppress(OSError), self._kept():
            content["sequence"] = self._sequence
            if is_later:
                content[_DELIVERED] = delivered_after
            if loaded:
                content[note_of(str(loaded["kind"]))] = dict(loaded)
            temporary = temporary_files.begin(self._folder / f".known-{temporary_files.own_name()}")
            temporary.write_text(json.dumps(content))
            temporary.replace(self._folder / "known.json")

    def absorb(self, other: "Notes") -> None:
        """Take over the notes of another queue for the same directory of the same server."""
        self.learn(other.sequence, delivered_after=other.delivered_after)
        mine = self.read()
        for key, note in other.read().items():
            with suppress(TypeError, KeyError):  # it is corrupt
                if key == note_of(str(note["kind"])) and note["sequence"] > mine.get(key, {"sequence": 0})["sequence"]:
                    self.learn(note["sequence"], note)
