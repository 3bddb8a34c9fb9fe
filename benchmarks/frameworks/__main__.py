"""The command line: a save of two ranks, and the time of a step beside saves in the background."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.live import LiveServer

HERE = Path(__file__).parent
_SAVES_AIM, _STEPS_AIM = 0.8, 1.03


def main() -> None:
    """Print each figure with its aim; a missed one is no failure."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark --frameworks")
    parser.add_argument("--only", nargs="*", choices=["dcp", "lightning", "transformers"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size-mib", type=int, default=1024, help="the state of both ranks together")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a folder on the disk to measure")
    options = parser.parse_args()
    wanted = options.only or ["dcp", "lightning", "transformers"]
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        LiveServer(Path(folder) / "root", settings={"HOLDFAST_SCRUB_BYTES_PER_S": "0"}) as server,
    ):
        if "dcp" in wanted:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
            found = _run([*launcher, HERE / "dcp.py"], server.url, folder, options.rounds, options.size_mib)
            _show_saves(found)
        for name in ("lightning", "transformers"):
            if name in wanted:
                _show_steps(name, _run([HERE / "steps.py", name], server.url, folder, options.rounds))


def _run(command: list[object], *arguments: object) -> dict[str, list[float]]:
    parts = [sys.executable, "-W", "ignore", *map(str, [*command, *arguments])]
    done = subprocess.run(parts, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _show_saves(found: dict[str, list[float]]) -> None:
    ours, local = (statistics.median(found[name]) for name in ("ours", "local"))
    print(f"dcp of 2 ranks     ours {ours:8.2f} s    local {local:8.2f} s   {local / ours:6.3f} x   aim ≥ {_SAVES_AIM}")


def _show_steps(name: str, found: dict[str, list[float]]) -> None:
    with_saves, without = (statistics.median(found[kind]) for kind in ("saves", "none"))
    print(
        f"{name:12} step  saves {1000 * with_saves:7.2f} ms    none {1000 * without:8.2f} ms  "
        f"{with_saves / without:6.3f} x   aim ≤ {_STEPS_AIM}"
    )


if __name__ == "__main__":
    main()
