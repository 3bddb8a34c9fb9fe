"""The memory of this process."""

import gc
from collections.abc import Callable
from pathlib import Path


def resident_bytes() -> int:
    """The bytes of memory that are this process's own at this moment."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
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
