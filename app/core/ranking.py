"""Ranking: the total orders that decide the best and the latest checkpoint. Pure: no clock, disk or SQL."""

import math
from collections.abc import Iterable

from app.core.models import Checkpoint, Mode

KEY_MAX_CHARACTERS = 200
"""The longest key of metadata to rank by: some databases cannot index long text."""


def is_key(text: str) -> bool:
    """Tell if a key of metadata can be ranked by: it is short, and without NUL, which some databases cannot store."""
    return len(text) <= KEY_MAX_CHARACTERS and "\0" not in text


def position(checkpoint: Checkpoint) -> tuple[int, int]:
    """Return the position in time, by which a late delivery never counts as newer than later work."""
    return checkpoint.saved_after, checkpoint.sequence


def next_sequence(sequence: int, place: int | None) -> int:
    """Return the number of a directory's next commit: above the last one and above the place of the save."""
    return max(sequence, place or 0) + 1


def saved_after(known: int | None, sequence: int) -> int:
    """Return the first part of a position: the last sequence that the writer knew, below the checkpoint's own.

    Parameters
    ----------
    known : int or None
        The place that the save got at its reservation. None: all commits so far.
    """
    direct = sequence - 1
    return direct if known is None else min(known, direct)


def latest(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """Return the newest checkpoint by position."""
    return max(checkpoints, key=position, default=None)


def best(checkpoints: Iterable[Checkpoint], mode: Mode, by: str | None = None) -> Checkpoint | None:
    """Return the first of the ranking; None if no checkpoint can be ranked."""
    return next(iter(ranked(checkpoints, mode, by)), None)


def ranked(checkpoints: Iterable[Checkpoint], mode: Mode, by: str | None = None) -> list[Checkpoint]:
    """Return the checkpoints that can be ranked, best first.

    First come those with a finite metric, by mode, the older first among equals; then those flagged ``is_best``
    without a metric, newest first. With ``by``, a numeric value of the metadata takes the place of the metric, and
    flags do not count.
    """
    sign = 1 if mode == "min" else -1
    measured: list[tuple[float, tuple[int, int], Checkpoint]] = []
    flagged: list[Checkpoint] = []
    for checkpoint in checkpoints:
        value = finite(checkpoint.facts.metric if by is None else checkpoint.facts.metadata.get(by))
        if value is not None:
            measured.append((sign * value, position(checkpoint), checkpoint))
        elif by is None and checkpoint.facts.metric is None and checkpoint.facts.is_best:
            flagged.append(checkpoint)
    measured.sort(key=lambda entry: entry[:2])
    flagged.sort(key=position, reverse=True)
    return [entry[2] for entry in measured] + flagged


def improves(metric: float | None, best_metric: float | None, mode: Mode) -> bool:
    """Tell if a metric is strictly better than the best so far. A metric that is not finite never is."""
    if finite(metric) is None:
        return False
    if finite(best_metric) is None:
        return True
    assert metric is not None
    assert best_metric is not None
    return metric < best_metric if mode == "min" else metric > best_metric


def finite(value: object) -> float | None:
    """Return the value as a float if it is a finite number, else None. Booleans do not count as numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
