"""The command line: run the requested measures, print a table, write every single timing as JSON."""

import argparse
import dataclasses
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import limits, machine, table
from benchmarks.figures import Finding, Skipped
from benchmarks.measures import MEASURES
from benchmarks.plan import MIB, Plan
from benchmarks.scale import command as scale_command

HERE = Path(__file__).parent
SCALE = "--scale"
ROOM = 10  # the most disk space in use, as a multiple of the size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measures; return 1 if one failed. A missed figure or a skipped measure is no failure."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _settle_environment()
    if SCALE in given:
        given.remove(SCALE)
        return scale_command.main(given)
    options = _parser().parse_args(given)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        plan = Plan(Path(folder), options.peers.resolve(), options.rounds, options.size_mib * MIB)
        if shutil.disk_usage(folder).free < ROOM * plan.size_bytes:
            sys.exit(f"{options.folder} has no room for {ROOM * options.size_mib} MiB; try --folder or --size-mib")
        about = {"machine": machine.describe(plan.folder), "versions": machine.versions()}
        print(table.heading(about["machine"], about["versions"], options.size_mib, options.rounds), flush=True)
        about["limits_gb_per_s"] = limits.measure(plan.folder, plan.size_bytes, plan.rounds)
        findings = []
        for name in options.only or MEASURES:
            findings.append(_take(name, plan))
            options.output.write_text(json.dumps(_report(options, about, findings), indent=2) + "\n")
    _show(about["limits_gb_per_s"], findings)
    print(f"\nEvery timing is in {options.output}")
    return 1 if any(finding.status == "failed" for finding in findings) else 0


def _take(name: str, plan: Plan) -> Finding:
    """Run a measure in a folder of its own. A failure is recorded, and the next measure follows."""
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    started = time.monotonic()
    folder = plan.folder / name
    folder.mkdir()
    try:
        outcome = MEASURES[name](dataclasses.replace(plan, folder=folder))
    except Skipped as reason:
        return Finding(measure=name, status="skipped", took_s=time.monotonic() - started, reason=str(reason))
    except Exception as error:
        reason_given = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
        return Finding(measure=name, status="failed", took_s=time.monotonic() - started, reason=reason_given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()
    return Finding(measure=name, status="measured", took_s=time.monotonic() - started, outcome=outcome)


def _report(options: argparse.Namespace, about: dict[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """Return everything, for the JSON file."""
    measures = []
    for finding in findings:
        found = dataclasses.asdict(finding)
        if finding.outcome is not None:
            for figure, plain in zip(finding.outcome.figures, found["outcome"]["figures"], strict=True):
                plain["verdict"] = figure.verdict
        measures.append(found)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "size_mib": options.size_mib, "rounds": options.rounds, **about, "measures": measures}


def _show(machine_can: dict[str, float], findings: Sequence[Finding]) -> None:
    for part in (
        table.limits_table(machine_can),
        table.findings_table(findings),
        table.cpu_table(findings),
        "\n".join(table.notes(findings)),
    ):
        if part:
            print(f"\n{part}")


def _settle_environment() -> None:
    """Ignore the user's settings, clean up on SIGTERM, and use no proxy."""
    for name in [name for name in os.environ if name.startswith("HOLDFAST_")]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument(SCALE, action="store_true", help="measure many checkpoints and small sizes; has its own --help")
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=MEASURES, metavar="NAME", help=", ".join(MEASURES)
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each contender is timed [5]")
    parser.add_argument("--size-mib", type=_positive, default=1024, help="the size of a state [1024]")
    parser.add_argument("--output", type=Path, default=HERE / "results.json", help="the JSON file")
    parser.add_argument("--peers", type=Path, default=HERE / ".peers", help="where MLflow is installed and stays")
    parser.add_argument("--folder", type=Path, default=HERE / ".scratch", help="a folder on the disk to measure")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
