"""Facts about the machine: its processor, memory, file system, and the versions of the software."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("holdfast-server", "holdfast", "torch", "blake3", "fastapi", "starlette", "uvicorn", "httpx")


def describe(folder: Path) -> dict[str, Any]:
    """Return the facts of the machine, and of the file system of a folder."""
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "file_system": file_system(folder),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages involved."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def cpu_model() -> str:
    """Return the name of the processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder."""
    found = (Path("/"), "unknown")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mountpoint = Path(before.split()[4].replace("\\040", " "))
        if folder.resolve().is_relative_to(mountpoint) and len(mountpoint.parts) >= len(found[0].parts):
            found = (mountpoint, after.split()[0])
    return found[1]


def available_bytes() -> int:
    """Return the memory that is available without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
