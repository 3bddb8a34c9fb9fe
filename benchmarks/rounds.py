"""Timing of contenders: one warm-up, alternating order, a quiet disk, and no memory kept between rounds."""

import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import process


@dataclass(frozen=True, slots=True)
class Spent:
    """The time of one round, and the figures of the processes."""

    wall_s: float
    client_cpu_s: float | None = None
    server_cpu_s: float | None = None
    client_page_faults: int | None = None


@dataclass(frozen=True, slots=True)
class _Used:
    cpu_s: float
    page_faults: int


def spend(action: Callable[[], object], server: int | None = None) -> Spent:
    """Run something; measure this process and the server's.

    The result of the action lives until the clock has stopped: releasing memory is not timed.
    """
    server_before = process.cpu_s(server) if server is not None else 0.0
    before, started = _used(), time.perf_counter()
    result = action()
    wall_s, after = time.perf_counter() - started, _used()
    server_cpu_s = process.cpu_s(server) - server_before if server is not None else None
    del result
    return Spent(wall_s, after.cpu_s - before.cpu_s, server_cpu_s, after.page_faults - before.page_faults)


def contest(
    contenders: Mapping[str, Callable[[], Spent]], rounds: int, *, prepare: Callable[[], object] = lambda: None
) -> dict[str, list[Spent]]:
    """Return the figures of each contender in each round, after a warm-up round.

    Parameters
    ----------
    prepare : callable
        Called before each round, so once for all contenders.
    """
    spent: dict[str, list[Spent]] = {name: [] for name in contenders}
    order = list(contenders)
    for number in range(rounds + 1):
        prepare()
        for name in order if number % 2 else reversed(order):
            os.sync()
            process.give_memory_back()
            process.warm_free_memory()
            taken = contenders[name]()
            if number > 0:
                spent[name].append(taken)
    return spent


def _used() -> _Used:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return _Used(used.ru_utime + used.ru_stime, used.ru_minflt)
