"""A folder of 9,000 small files, saved and loaded, against a copy of it on the same disk with an fsync of each file."""

import os
import shutil
import subprocess
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.figures import Figure, Outcome, median_s
from benchmarks.live import LiveServer
from benchmarks.plan import Plan
from benchmarks.rounds import Spent, contest, spend

DIRECTORY = "runs/folder"
FILES, FILE_BYTES, FOLDERS = 9_000, 4096, 30
AIM = 3.0


def measure(plan: Plan) -> Outcome:
    """Return the times of a save and of a load of a folder, relative to those of a copy."""
    with LiveServer(plan.folder / "root") as server:
        manager = server.manager(DIRECTORY)
        numbers = count()

        def saved() -> Spent:
            folder = _made(plan.folder / f"checkpoint-{next(numbers)}")
            spent = spend(partial(manager.save_folder, folder), server.process_id)
            shutil.rmtree(folder)
            return spent

        def copied() -> Spent:
            folder = _made(plan.folder / f"made-{next(numbers)}")
            spent = spend(partial(_copy, folder, plan.folder / "copy"), server.process_id)
            shutil.rmtree(folder)
            shutil.rmtree(plan.folder / "copy")
            return spent

        def loaded() -> Spent:
            spent = spend(partial(manager.load_folder, to=plan.folder / "loaded"), server.process_id)
            shutil.rmtree(plan.folder / "loaded")
            return spent

        def read_back() -> Spent:
            spent = spend(partial(_copy, _on_server(server), plan.folder / "copy"), server.process_id)
            shutil.rmtree(plan.folder / "copy")
            return spent

        spent = contest({"save": saved, "copy for save": copied}, plan.rounds, prepare=server.wait_until_freed)
        spent |= contest({"load": loaded, "copy for load": read_back}, plan.rounds)
    return Outcome(
        figures=tuple(
            _figure(name, median_s(spent[name]), median_s(spent[f"copy for {name}"])) for name in ("save", "load")
        ),
        spent=spent,
        details={"files": FILES, "file_bytes": FILE_BYTES, "folders": FOLDERS},
        notes=(
            f"In folder, theirs is cp -r of {FILES:,} files of {FILE_BYTES} bytes, and an fsync of each and its folder",
        ),
    )


def _made(folder: Path) -> Path:
    """Make a folder of new bytes, all of them on the disk and in the page cache."""
    for number in range(FOLDERS):
        (folder / f"{number:02d}").mkdir(parents=True)
    for number in range(FILES):
        (folder / f"{number % FOLDERS:02d}" / f"{number:05d}.bin").write_bytes(os.urandom(FILE_BYTES))
    os.sync()
    return folder


def _on_server(server: LiveServer) -> Path:
    """Return the newest checkpoint as the server keeps it, with its files in the page cache."""
    found = max((server.root / DIRECTORY).glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in found.rglob("*.bin"):
        path.read_bytes()
    return found


def _copy(folder: Path, to: Path) -> None:
    subprocess.run(["cp", "-r", folder, to], check=True)
    for where, _, names in os.walk(to, topdown=False):
        for name in names:
            _fsync(Path(where, name))
        _fsync(Path(where))
    _fsync(to.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _figure(name: str, ours_s: float, theirs_s: float) -> Figure:
    return Figure(
        name=f"folder {name}",
        value=ours_s / theirs_s,
        unit="x",
        ours=ours_s,
        theirs=theirs_s,
        measured_in="s",
        reach=AIM,
        aim=None,
        lower_is_better=True,
    )
