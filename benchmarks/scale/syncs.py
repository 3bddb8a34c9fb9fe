"""The calls with which a process makes bytes durable, counted by strace."""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Skipped

CALLS = "fsync,fdatasync,syncfs,sync"
PATIENCE_S = 30


def count_syncs(process_id: int, folder: Path, action: Callable[[], object]) -> int:
    """Return how many of these calls all threads of a process make while something is done.

    Raises
    ------
    Skipped
        There is no strace, or it may not look at the process.
    """
    if shutil.which("strace") is None:
        raise Skipped("strace is not installed, so fsyncs are not counted")
    summary = folder / "strace.txt"
    command = ["strace", "-f", "-c", "-e", f"trace={CALLS}", "-o", str(summary), "-p", str(process_id)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            if "attached" not in said:
                raise Skipped(f"strace cannot attach to the server: {said.strip()}")
            action()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=PATIENCE_S)
    return _total(summary.read_text())


def _total(summary: str) -> int:
    """Return the sum of the calls in a summary; columns: % time, seconds, usecs/call, calls, errors, syscall. Pure."""
    lines = re.findall(rf"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s.*\b(?:{CALLS.replace(',', '|')})$", summary, re.MULTILINE)
    return sum(map(int, lines))
