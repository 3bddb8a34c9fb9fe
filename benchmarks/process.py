"""CPU time and memory of a process, from the kernel."""

import ctypes
import gc
import mmap
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MADV_POPULATE_WRITE = 23  # Linux 5.14 and newer; otherwise nothing is warmed
RESET_PEAK = "5"  # for clear_refs, see proc(5)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory: now, and its peak since the last reset."""

    resident_bytes: int
    peak_bytes: int


def cpu_s(process: int) -> float:
    """Return the seconds that all threads of a process have spent in user and kernel mode."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    user, system = int(after_name[11]), int(after_name[12])
    return (user + system) / TICKS_PER_S


def memory(process: int) -> Memory:
    """Return the resident memory of a process."""
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE))
    return Memory(int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024)


def give_memory_back() -> None:
    """Return memory that this process has freed to the kernel.

    Without it the allocator keeps the tensors of one round for the next: from the third load on, ``torch.load`` would
    get memory without a page fault and take a fifth of the time that it takes in a process that loads once.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def reset_peak(process: int) -> None:
    """Reset the peak to the current resident memory."""
    Path(f"/proc/{process}/clear_refs").write_text(RESET_PEAK)


def warm_free_memory(size_bytes: int = 2 * 2**30) -> None:
    """Touch as much free memory as a round needs, and release it.

    A virtual machine gives free memory back to its host after a while. The next process to touch it waits for the host:
    a contender that happens to get such memory would pay several times its own time.
    """
    with mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory, suppress(OSError):
        memory.madvise(MADV_POPULATE_WRITE)
