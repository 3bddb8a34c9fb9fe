"""Warnings about keywords of a save: misspelt facts, and a monitored value that is missing."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import WarnOnce

_CUTOFF = 0.8
_ALIASES = {"pin": "pinned", "filename": "name", "file_name": "name"}
_OTHERS: dict[str, tuple[type, str]] = {
    "metadata": (Mapping, "give its values as keywords of their own: save(..., **metadata)"),
    "meta": (Mapping, "give its values as keywords of their own: save(..., **meta)"),
    "kind": (str, "save makes regular checkpoints, and save_best_if_improved makes best ones"),
    "is_best": (bool, "save_best_if_improved decides by the metric"),
    "best": (bool, "is_best=True flags one of the best"),
}
_OF_MANAGERS: dict[str, Callable[[Any], bool]] = {
    "mode": lambda value: value in ("min", "max"),
    "monitor": lambda value: isinstance(value, str),
    "max_checkpoints": lambda value: isinstance(value, int),
    "max_best_checkpoints": lambda value: isinstance(value, int),
    "max_to_keep": lambda value: isinstance(value, int),
    "keep_every_epochs": lambda value: isinstance(value, int),
    "keep_every_steps": lambda value: isinstance(value, int),
    "background": lambda value: isinstance(value, bool),
    "server": lambda value: isinstance(value, str) and "://" in value,
    "token": lambda value: isinstance(value, str),
}
"""Parameters of a manager that have no effect on a save, with a test for values that they could have."""
_NAMED = ("NaN", "Infinity", "-Infinity")


class KeywordWarnings:
    """The warnings about one manager's saves; each is given once.

    Parameters
    ----------
    monitor : str or None
        The metadata value that stands in for a metric.
    is_default : bool
        True if the manager chose it, not the user.
    warn_once : WarnOnce
        Gives the warnings.
    """

    def __init__(self, monitor: str | None, *, is_default: bool, warn_once: WarnOnce) -> None:
        self._monitor = monitor
        self._is_default = is_default
        self._warn_once = warn_once
        self._is_monitor_told = False
        self._seen: set[str] = set()
        self._epochs: dict[str, Any] = {}

    def check_keywords(self, facts: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Warn about keywords of a save that look misspelt.

        Parameters
        ----------
        facts : mapping
            The facts as the user gave them, by name; None or False where they were not given.
        metadata : mapping
            All other keywords.
        """
        missing = [name for name, given in facts.items() if given is None or given is False]
        for key, value in metadata.items():
            if key in self._seen:
                continue
            self._seen.add(key)
            if fact := _meant(key, value, missing):
                self._warn_once(f"{key}= is only stored as metadata; did you mean {fact}=?")
            elif key in _OTHERS and isinstance(value, _OTHERS[key][0]):
                self._warn_once(f"{key}= is only stored as metadata: {_OTHERS[key][1]}")
            elif key in _OF_MANAGERS and _OF_MANAGERS[key](value):
                self._warn_once(f"{key}= is only stored as metadata: it is a parameter of CheckpointManager")
        self._look_at_name(facts.get("name"), facts.get("epoch"))

    def _look_at_name(self, name: str | None, epoch: Any) -> None:
        """Warn if a name looks like metadata, as it has no suffix, and makes each save replace the last."""
        if name is not None and "." not in name:
            if self._epochs.get(name, epoch) != epoch:
                self._warn_once(
                    f"name={name!r} is the checkpoint's name: this save replaces that of epoch {self._epochs[name]}. "
                    "Without name=, each epoch has a checkpoint of its own."
                )
            self._epochs[name] = epoch

    def check_monitor(self, metadata: Mapping[str, Any]) -> None:
        """Warn if the value that is to rank a save is missing, or is no number.

        If the user named no monitor, warn only if a value looks like one.

        Parameters
        ----------
        metadata : mapping
            As JSON.
        """
        monitor = self._monitor
        if monitor is None or self._is_monitor_told or _is_number(metadata.get(monitor)):
            return
        numbers = [key for key, value in metadata.items() if _is_number(value)]
        near = [key for key in numbers if monitor.lower() in _words(key)]
        if self._is_default and monitor not in metadata and not near:
            return
        near = near or _close_matches(monitor, numbers)
        self._is_monitor_told = True
        what = "is not a number among the values" if monitor in metadata else "is not among the values"
        hint = f"; did you mean monitor={near[0]!r}?" if near else ""
        self._warn_once(f"monitor={monitor!r} {what} of this save, so it is not ranked{hint}")


def _meant(key: str, value: Any, missing: list[str]) -> str | None:
    """Return the fact that a keyword misspells, if its value is one that the fact could have."""
    if key in _ALIASES:
        near = [_ALIASES[key]] if _ALIASES[key] in missing else []
    else:
        word = key.rstrip("0123456789_")
        is_numbered = word in missing and key[-1].isdigit()  # ``metric_2`` is a second metric, no misspelling
        near = [] if is_numbered else _close_matches(key.lower(), missing, _CUTOFF)
        near = near or [fact for fact in missing if _is_shuffled(key.lower(), fact)]
    return near[0] if near and _could_be(near[0], value) else None


def _close_matches(word: str, known: list[str], cutoff: float = 0.6) -> list[str]:
    """Return the known word that is most similar, if one is."""
    from difflib import get_close_matches

    return get_close_matches(word, known, 1, cutoff)


def _is_shuffled(key: str, fact: str) -> bool:
    """Tell if a word is the name of a fact, or its plural, with letters in another order."""
    return key[:1] == fact[:1] and sorted(key) in (sorted(fact), sorted(f"{fact}s"))


def _could_be(fact: str, value: Any) -> bool:
    if fact in {"is_best", "pinned", "wait"}:
        return isinstance(value, bool | int)
    if fact in {"metric", "epoch", "step"}:
        return not isinstance(value, str | bytes | list | tuple | set | Mapping | bool) and value is not None
    return isinstance(value, str | list | tuple | set)


def _is_number(value: Any) -> bool:
    """Tell if a JSON value is a number, or one of the texts for numbers that JSON lacks."""
    return value in _NAMED if isinstance(value, str) else isinstance(value, int | float) and not isinstance(value, bool)


def _words(key: str) -> list[str]:
    """Split a name into words: ``val_loss`` and ``valLoss`` have the word ``loss``."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", key)]
