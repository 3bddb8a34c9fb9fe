"""Throughput of a hundred jobs, fsyncs of a save, and the cost of small checkpoints beside the local disk."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import process
from benchmarks.checkout import Checkout
from benchmarks.live import LiveServer
from benchmarks.scale.jobs import KEEP_ALL, KEEP_ONE, Job
from benchmarks.scale.plan import ScalePlan
from benchmarks.scale.readings import Reading, of_times, of_value
from benchmarks.scale.rows import roots
from benchmarks.scale.syncs import count_syncs
from benchmarks.scale.turns import by_rounds

JOBS, PROCESSES = 100, 2
FOR_S = 10
SYNCED_SAVES = 20
ROUNDS = 8
SAVES_A_ROUND = 5
STATES: Final = {"1 MiB": "one", "tiny tensors": "tiny"}
COMPARED: Final = {"one": 20, "tiny": 8}
"""The rounds of each state."""
IMPORT = "import time; a = time.perf_counter(); import holdfast; print(time.perf_counter() - a)"
IMPORTS = 7
MB = 1e6


@dataclass(frozen=True, slots=True)
class _Side:
    """A checkout's server and jobs."""

    checkout: Checkout
    folder: Path
    server: LiveServer
    jobs: list[Job]


def measure(plan: ScalePlan) -> Iterator[Reading]:
    """Yield the throughput of one checkout after the other, then small sizes in turns."""
    for checkout in plan.checkouts:
        with _side(checkout, plan.folder / f"{checkout.label}-throughput", PROCESSES) as side:
            yield from _throughput(side)
    with ExitStack() as stack:
        sides = [stack.enter_context(_side(each, plan.folder / each.label, 1)) for each in plan.checkouts]
        yield from _small_saves(sides)
        for side in sides:
            yield from _states(side)
    yield from _imports(plan)


def measure_syncs(plan: ScalePlan) -> Iterator[Reading]:
    """Yield the fsyncs of a save, of one checkout after the other."""
    for checkout in plan.checkouts:
        with _side(checkout, plan.folder / checkout.label, 1) as side:
            yield from _syncs(side)


@contextmanager
def _side(checkout: Checkout, folder: Path, jobs: int) -> Iterator[_Side]:
    folder.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(LiveServer(folder / "root", checkout=checkout, settings=roots.QUIET))
        made = [stack.enter_context(Job(checkout, server.url, folder / f"job{number}")) for number in range(jobs)]
        yield _Side(checkout, folder, server, made)


def _throughput(side: _Side) -> Iterator[Reading]:
    subject = f"{JOBS} jobs in {PROCESSES} processes, 10 kB"
    names = [f"runs/{number}" for number in range(JOBS)]
    shares = [names[number::PROCESSES] for number in range(PROCESSES)]
    _crowds(side, shares, times=1)
    before_s = process.cpu_s(side.server.process_id)
    answers = _crowds(side, shares, for_s=FOR_S)
    cpu_s = process.cpu_s(side.server.process_id) - before_s
    saves = sum(len(answer["took_s"]) for answer in answers)
    wall_s = max(answer["wall_s"] for answer in answers)
    label = side.checkout.label
    yield of_value("saves of 100 jobs", subject, label, saves / wall_s)
    yield of_value("server CPU of a save", subject, label, 1000 * cpu_s / saves)
    yield of_value("memory with 100 jobs", subject, label, process.memory(side.server.process_id).resident_bytes / MB)


def _crowds(side: _Side, shares: list[list[str]], **until: float) -> list[dict]:
    for job, names in zip(side.jobs, shares, strict=True):
        job.begin("crowd", directories=names, policy=KEEP_ONE, **until)
    return [job.end() for job in side.jobs]


def _small_saves(sides: list[_Side]) -> Iterator[Reading]:
    """Compare with the same bytes written, fsynced and renamed by the job itself."""
    calls = {}
    for side in sides:
        ask = partial(side.jobs[0].ask, times=SAVES_A_ROUND)
        calls[side.checkout.label, "save"] = partial(ask, "save", directory="runs/small", policy=KEEP_ONE)
        calls[side.checkout.label, "local"] = partial(ask, "publish_locally")
    spent = by_rounds(calls, ROUNDS)
    for side in sides:
        label = side.checkout.label
        yield of_times("10 kB save", "against the local disk", label, spent[label, "save"], spent[label, "local"])


def _states(side: _Side) -> Iterator[Reading]:
    for name, state in STATES.items():
        spent = side.jobs[0].ask("compare", directory=f"runs/{state}", state=state, rounds=COMPARED[state])
        for verb in ("save", "load"):
            local = spent[f"local_{verb}"]
            yield of_times(f"{name} {verb}", "against torch", side.checkout.label, spent[verb], local)


def _syncs(side: _Side) -> Iterator[Reading]:
    """Count those of the server, until removed checkpoints are freed."""
    for name, directory, policy in (
        ("fsyncs of a save", "runs/kept", KEEP_ALL),
        ("fsyncs, one pruned", "runs/pruned", {"max_checkpoints": 1, "max_best_checkpoints": 0}),
    ):
        asked = {"directory": directory, "policy": policy}
        side.jobs[0].ask("save", times=3, **asked)
        side.server.wait_until_freed()

        def save(asked: dict = asked) -> None:
            side.jobs[0].ask("save", times=SYNCED_SAVES, **asked)
            side.server.wait_until_freed()

        count = count_syncs(side.server.process_id, side.folder, save)
        yield of_value(name, "counted by strace", side.checkout.label, count / SYNCED_SAVES)


def _imports(plan: ScalePlan) -> Iterator[Reading]:
    calls = {each.label: partial(_import_s, each) for each in plan.checkouts}
    for label, seconds in by_rounds(calls, IMPORTS).items():
        yield of_times("import holdfast", "in a fresh interpreter", label, seconds)


def _import_s(checkout: Checkout) -> list[float]:
    done = subprocess.run([checkout.python, "-P", "-c", IMPORT], check=True, capture_output=True, text=True)
    return [float(done.stdout)]
