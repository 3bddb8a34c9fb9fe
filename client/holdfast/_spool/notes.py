"""Notes on a directory, in ``known.json``: the last sequence that is known of it, and what was loaded from it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._runtime.interruption import suppress
from . import unfinished


def note_of(kind: str) -> str:
    """Return the key of the note on the checkpoint of a kind that was loaded last."""
    return "loaded" if kind == "regular" else f"loaded_{kind}"


class Notes:
    """The notes of one queue. Best-effort: without them, a late delivery counts as older than it is.

    Parameters
    ----------
    folder : Path
        The folder of the queue.
    prepare : callable
        Makes the folder. It may raise `OSError`.
    """

    def __init__(self, folder: Path, prepare: Callable[[], object]) -> None:
        self._folder = folder
        self._prepare = prepare
        self._sequence = 0

    @property
    def sequence(self) -> int:
        """The last sequence that a process of this machine knew when the server last answered; 0 if none did."""
        self._sequence = max(self._sequence, int(self.read().get("sequence", 0)))
        return self._sequence

    def read(self) -> dict[str, Any]:
        """Return the content of ``known.json``."""
        with suppress(OSError, ValueError):
            found = json.loads((self._folder / "known.json").read_text())
            if isinstance(found, dict) and isinstance(found.get("sequence", 0), int):
                return found
        return {}

    def learn(self, sequence: int, loaded: Mapping[str, Any] | None = None) -> None:
        """Note that a checkpoint of this sequence exists.

        Parameters
        ----------
        loaded : mapping, optional
            The note on it, if it was loaded.
        """
        if sequence <= self.sequence and loaded is None:
            return
        self._sequence = max(sequence, self.sequence)
        with suppress(OSError):
            self._prepare()
            content = {
                **self.read(),
                "sequence": self._sequence,
                **({note_of(str(loaded["kind"])): dict(loaded)} if loaded else {}),
            }
            temporary = unfinished.begin(self._folder / f".known-{unfinished.own_name()}")
            temporary.write_text(json.dumps(content))
            temporary.replace(self._folder / "known.json")

    def absorb(self, other: "Notes") -> None:
        """Take over the notes of another queue for the same directory of the same server."""
        self.learn(other.sequence)
        mine = self.read()
        for key, note in other.read().items():
            with suppress(TypeError, KeyError):  # it is corrupt
                if key == note_of(str(note["kind"])) and note["sequence"] > mine.get(key, {"sequence": 0})["sequence"]:
                    self.learn(note["sequence"], note)
