"""Which checkpoint is best and which is latest: one total order each. Pure: no clock, disk or SQL."""

import math
from collections.abc import Iterable

from app.core.models import Checkpoint, Mode


def position(checkpoint: Checkpoint) -> tuple[int, int]:
    """Where a checkpoint stands in time: late deliveries never come before newer work."""
    return checkpoint.saved_after, checkpoint.sequence


def next_sequence(sequence: int, place: int | None) -> int:
    """The number of a directory's next commit, beyond the last one and beyond the place that the save was given."""
    return max(sequence, place or 0) + 1


def saved_after(known: int | None, sequence: int) -> int:
    """The first part of a position: the last sequence that the writer knew, below the checkpoint's own sequence.

    Parameters
    ----------
    known : int or None
        The place that the save was given at its reservation. None: everything that there is.
    """
    direct = sequence - 1
    return direct if known is None else min(known, direct)


def latest(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """The newest by position."""
    return max(checkpoints, key=position, default=None)


def best(checkpoints: Iterable[Checkpoint], mode: Mode, by: str | None = None) -> Checkpoint | None:
    """The first of the ranking, or None where nothing can be ranked."""
    return next(iter(ranked(checkpoints, mode, by)), None)


def ranked(checkpoints: Iterable[Checkpoint], mode: Mode, by: str | None = None) -> list[Checkpoint]:
    """Those that can be called best, best first.

    First those with a finite metric, by mode, the older first among equals; then those flagged ``is_best`` without a
    metric, newest first. With ``by``, a numeric metadata value takes the metric's place and flags do not count.
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
    """Whether a metric is strictly better than the best so far; what is not finite never is."""
    if finite(metric) is None:
        return False
    if finite(best_metric) is None:
        return True
    assert metric is not None
    assert best_metric is not None
    return metric < best_metric if mode == "min" else metric > best_metric


def finite(value: object) -> float | None:
    """The value as a float if it is a finite number, else None. Booleans are not numbers here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
