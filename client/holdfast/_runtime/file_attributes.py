"""Permissions and times of files and folders: read when they are uploaded, applied when they are downloaded."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .interruption import reraise


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """The permissions and the time of last change of a file or a folder, as far as they are known."""

    mode: int | None = None
    mtime_ns: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data.get("mode"), data.get("mtime_ns"))

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Return those of a file on this machine; a time before 1970 counts as unknown."""
        return cls(found.st_mode & 0o777, found.st_mtime_ns if found.st_mtime_ns >= 0 else None)

    def as_json(self) -> dict[str, Any]:
        said = {"mode": self.mode, "mtime_ns": self.mtime_ns}
        return {name: value for name, value in said.items() if value is not None}

    def apply(self, path: Path) -> None:
        """Apply them to a file or a folder, within the umask of this process."""
        if self.mode is not None:
            path.chmod(self.mode & 0o777 & ~umask() | 0o400)
        if self.mtime_ns is not None:
            os.utime(path, ns=(self.mtime_ns, self.mtime_ns))


def umask() -> int:
    """Return the umask of this process."""
    try:
        said = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError as error:
        reraise(error)
        said = None
    if said is not None:
        return int(said[1], 8)
    mask = os.umask(0o022)  # there is no other way to ask
    os.umask(mask)
    return mask
