"""The memory of this process, and of others."""

import gc
from collections.abc import Callable
from pathlib import Path


def resident_bytes() -> int:
    """The bytes of memory that are this process's own at this moment."""
    gc.collect()
    return resident_bytes_of("self")


def resident_bytes_of(process: int | str) -> int:
    """The bytes of memory that are another process's own at this moment."""
    lines = Path("/proc", str(process), "smaps_rollup").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith("Private_Dirty:"))
    return int(found.split()[1]) * 1024


def peak_growth(act: Callable[[], object]) -> int:
    """Return by how many bytes the memory of this process grows at most during a call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts anew
    before = _peak_bytes()
    act()
    return _peak_bytes() - before


def _peak_bytes() -> int:
    (found,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024
