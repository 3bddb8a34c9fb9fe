"""A disk whose power can be cut: an ext4 file system in a file, which forgets all that was not made durable.

    with Disk() as disk:
        ...a server writes below disk.path...
        disk.cut()
        ...the server is killed...
        disk.revive()

It is mounted with the fewest promises that ext4 can be made to give: what is renamed is not written early, and names
may become durable before the bytes that they name. What had reached the disk stays; torn sectors are not played.
"""

import errno
import fcntl
import functools
import os
import shutil
import struct
import subprocess
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.support.live import eventually
from tests.support.mounts import mount_point

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN: from now on every operation fails
_WITHOUT_THE_JOURNAL = struct.pack("I", 2)  # anything not in the journal yet is never written
_OPTIONS = "loop,noauto_da_alloc,data=writeback"


class Disk:
    """An empty disk at ``disk.path`` for the length of a block; nothing of it is left afterwards."""

    def __init__(self, size_mb: int = 512) -> None:
        self._size_mb = size_mb
        self._leaving = ExitStack()

    def __enter__(self) -> Self:
        self.path = self._leaving.enter_context(mount_point())
        self._image = self.path.with_name("image")
        with self._image.open("wb") as image:
            image.truncate(self._size_mb << 20)
        try:
            _run("mkfs.ext4", "-q", "-F", str(self._image))
            self._mount()
            (self.path / "lost+found").rmdir()
        except BaseException:
            self._leaving.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._leaving:
            if self.path.is_mount():
                self._unmount()

    def cut(self) -> None:
        """Cut the power. Every process that uses the disk gets errors from now on; end them, then `revive` it."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, _WITHOUT_THE_JOURNAL)
        finally:
            os.close(folder)

    def revive(self) -> None:
        """Let the power come back: durable bytes are there. No process may have a file of it open any more."""
        self._unmount()
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", _OPTIONS, str(self._image), str(self.path))

    def _unmount(self) -> None:
        """Unmount, which gives the loop device back. The kernel may take a moment to close what the dead had open."""
        if not eventually(self._is_unmounted):
            _run("umount", "--lazy", str(self.path))
            raise OSError(errno.EBUSY, "somebody still uses the disk; it goes when they end", str(self.path))

    def _is_unmounted(self) -> bool:
        if self.path.is_mount():
            subprocess.run(["umount", self.path], capture_output=True, check=False)
        return not self.path.is_mount()


@functools.cache
def hindrance() -> str | None:
    """Why this machine cannot cut the power of a disk, or None where it can."""
    if os.geteuid() != 0:
        return "only root can mount a disk whose power is cut"
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        with Disk(size_mb=32) as disk:
            disk.cut()
            disk.revive()
    except OSError as error:
        return f"a disk cannot be mounted or its power cannot be cut: {error}"
    return None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(errno.EIO, f"{command[0]}: {done.stderr.strip()}", command[-1])
