"""An XFS with reflink in an image on the measured disk, mounted while it is needed."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Skipped

SBIN = "/usr/sbin:/sbin"


@contextmanager
def mounted_xfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount the image and yield the mount point. The image takes only the space that is written.

    Raises
    ------
    Skipped
        This user cannot mount, or this system knows no XFS.
    """
    make = shutil.which("mkfs.xfs", path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if os.geteuid() != 0:
        raise Skipped("mounting an image needs root")
    if make is None:
        raise Skipped("there is no mkfs.xfs; on Debian: apt-get install xfsprogs")
    image, mountpoint = folder / "xfs.img", folder / "xfs"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    mountpoint.mkdir()
    try:
        _can(make, "-q", "-m", "reflink=1", str(image))
        _can("mount", "-o", "loop", str(image), str(mountpoint))
        try:
            yield mountpoint
        finally:
            _unmount(mountpoint)
    finally:
        image.unlink()


def _can(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skipped(f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")


def _unmount(mountpoint: Path) -> None:
    """Unmount, also while it is still in use: the kernel unmounts it after the last use."""
    for options in ((), (), (), ("--lazy",)):
        if subprocess.run(["umount", *options, mountpoint], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        time.sleep(1)
    raise RuntimeError(f"{mountpoint} is still mounted: umount it")
