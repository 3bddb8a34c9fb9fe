"""File systems mounted for tests, outside of pytest's temporary folder, which can then be removed all the same.

A run that is killed leaves its mount behind. The next run removes it: a mount lies in a folder that is named after the
process that made it.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NAME = re.compile(r"holdfast-mount-(\d+)-(\d+)-.*")


@contextmanager
def mount_point() -> Iterator[Path]:
    """Give an empty folder to mount at; what is mounted there afterwards is unmounted, and all of it removed."""
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"holdfast-mount-{os.getpid()}-{_started(os.getpid())}-"))
    place = folder / "place"
    place.mkdir()
    try:
        yield place
    finally:
        _remove(folder)


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Give a folder on a file system in memory, whose size is given as ``mount`` takes it; skip where that fails."""
    with mount_point() as place:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
        if (mounted := subprocess.run(mount, capture_output=True, text=True)).returncode != 0:
            pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
        yield place


def remove_stale() -> None:
    """Unmount and remove what processes have left that are not there any more."""
    for folder in Path(tempfile.gettempdir()).glob("holdfast-mount-*"):
        named = _NAME.fullmatch(folder.name)
        if named is not None and _started(int(named[1])) != named[2]:
            _remove(folder)


def _remove(folder: Path) -> None:
    place = folder / "place"
    while place.is_mount():
        if subprocess.run(["umount", place], check=False, capture_output=True).returncode:
            subprocess.run(["umount", "--lazy", place], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def _started(pid: int) -> str | None:
    """The time at which a process was started, in ticks; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
