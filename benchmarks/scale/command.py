"""``scripts/benchmark --scale``: run the requested groups, print a table, write every single timing as JSON."""

import argparse
import dataclasses
import gc
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.checkout import OURS, Checkout
from benchmarks.figures import Skipped
from benchmarks.scale import report
from benchmarks.scale.measures import GROUPS
from benchmarks.scale.plan import BASE_ROWS, ScalePlan
from benchmarks.scale.readings import Failure, Reading, attempted
from benchmarks.scale.rows import roots

HERE = Path(__file__).parent.parent
MIN_ROWS = 2 * BASE_ROWS
ROW_BYTES = 3000  # of the catalog, and of a copy of it while an index is made
ROOM_BYTES = 6_000_000_000  # for the uploads


@dataclasses.dataclass(slots=True)
class Run:
    """All results of a run so far."""

    readings: list[Reading] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    took_s: dict[str, float] = dataclasses.field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the groups; return 1 if one failed. A missed figure or a skipped measure is no failure."""
    options = _parser().parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    _allow_many_files()
    run = Run()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        checkouts = [OURS, *([options.against] if options.against else [])]
        _refuse_without_room(Path(folder), options.rows, len(checkouts))
        about = _about(Path(folder), options.rows, checkouts)
        print(_heading(about), flush=True)
        saves = min(roots.SEED_SAVES, options.rows // 50)
        seeds = {each.label: roots.seed(each, Path(folder) / f"seed-{each.label}", saves) for each in checkouts}
        plan = ScalePlan(Path(folder), options.rows, checkouts, seeds, options.seconds)
        for name in options.only or GROUPS:
            _take(name, plan, run)
            options.output.write_text(json.dumps(_report(about, run), indent=1) + "\n")
    print(f"\n{report.readings_table(run.readings, [each.label for each in checkouts])}")
    for title, reasons in (("SKIPPED", run.skipped), ("FAILED", run.failed)):
        if reasons:
            print(f"\n{title}\n{report.failures(reasons)}")
    print(f"\nEvery timing is in {options.output}")
    return 1 if run.failed else 0


def _take(name: str, plan: ScalePlan, run: Run) -> None:
    """Run a group in a folder of its own. Failures are recorded, and the next group follows."""
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    started = time.monotonic()
    folder = plan.folder / name
    folder.mkdir()
    try:
        for result in attempted(name, GROUPS[name](dataclasses.replace(plan, folder=folder))):
            if isinstance(result, Failure):
                run.failed[result.name] = result.reason
            else:
                run.readings.append(result)
    except Skipped as reason:
        run.skipped[name] = str(reason)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()
        run.took_s[name] = round(time.monotonic() - started, 1)


def _about(folder: Path, rows: int, checkouts: Sequence[Checkout]) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "machine": machine.describe(folder),
        "versions": machine.versions(),
        "checkouts": [each.label for each in checkouts],
    }


def _heading(about: dict[str, Any]) -> str:
    found = about["machine"]
    return (
        f"{found['cpu']}, {found['cpus']} CPUs, {found['memory_bytes'] / 2**30:.0f} GiB, Linux {found['kernel']}, "
        f"{found['file_system']}; Python {about['versions']['python']}; {about['rows']:,} rows; "
        f"load average {os.getloadavg()[0]:.1f}"
    )


def _report(about: dict[str, Any], run: Run) -> dict[str, Any]:
    readings = [reading.plain() for reading in run.readings]
    return {**about, "took_s": run.took_s, "skipped": run.skipped, "failed": run.failed, "readings": readings}


def _refuse_without_room(folder: Path, rows: int, checkouts: int) -> None:
    needed = 2 * ROW_BYTES * rows * checkouts + ROOM_BYTES
    if shutil.disk_usage(folder).free < needed:
        sys.exit(f"{folder.parent} has no room for {needed / 1e9:.0f} GB; try --folder or --rows")


def _allow_many_files() -> None:
    """Raise the limit of open files, which the servers inherit, as far as it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/benchmark --scale", description=__doc__)
    parser.add_argument("--only", nargs="+", action="extend", choices=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--rows", type=_rows, default=1_000_000, help="how many checkpoints there are [1000000]")
    parser.add_argument("--against", type=_checkout, help="another checkout with its own .venv, measured in turns")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each read is repeated, at least [1]")
    parser.add_argument("--output", type=Path, default=HERE / "scale.json", help="the JSON file")
    parser.add_argument("--folder", type=Path, default=HERE / ".scratch", help="a folder on the disk to measure")
    return parser


def _rows(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < MIN_ROWS:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from {MIN_ROWS}")
    return number


def _checkout(text: str) -> Checkout:
    try:
        return Checkout.at(Path(text), "before")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
