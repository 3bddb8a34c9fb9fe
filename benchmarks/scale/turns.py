"""Timing in turns: each contender gets some calls, then the next one, forwards and backwards (ABBA)."""

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

CALLS_A_TURN = 10
TURN_S = 0.1


def in_turns(
    contenders: Mapping[Key, Callable[[], float]], *, budget_s: float, most: int = 150, least: int = 3
) -> dict[Key, list[float]]:
    """Return the seconds of the calls of each contender, after one warm-up call each.

    Parameters
    ----------
    budget_s : float
        The time after which a contender gets no more turns; it has at least ``least`` calls then.
    most : int
        The most calls of each.
    """
    spent: dict[Key, list[float]] = {key: [] for key in contenders}
    for call in contenders.values():
        call()
    order = list(contenders)
    while order:
        for key in order:
            _turn(contenders[key], spent[key], most, min(TURN_S, budget_s))
        order = [key for key in reversed(order) if not _is_done(spent[key], budget_s, most, least)]
    return spent


def by_rounds(contenders: Mapping[Key, Callable[[], Sequence[float]]], rounds: int) -> dict[Key, list[float]]:
    """Return the seconds of the calls of each contender, several in each round, after a warm-up round."""
    spent: dict[Key, list[float]] = {key: [] for key in contenders}
    order = list(contenders)
    for number in range(rounds + 1):
        for key in order if number % 2 else reversed(order):
            found = contenders[key]()
            if number:
                spent[key] += found
    return spent


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values do not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def p50_ms(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(seconds) * 1000


def p99_ms(seconds: Sequence[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return percentile(seconds, 0.99) * 1000


def _turn(call: Callable[[], float], spent: list[float], most: int, turn_s: float) -> None:
    used_s = 0.0
    for _ in range(CALLS_A_TURN):
        if len(spent) >= most or used_s > turn_s:
            return
        spent.append(call())
        used_s += spent[-1]


def _is_done(spent: Sequence[float], budget_s: float, most: int, least: int) -> bool:
    return len(spent) >= most or (sum(spent) >= budget_s and len(spent) >= least)
