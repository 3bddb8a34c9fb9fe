"""Trainings in processes of their own, for the tests of integrations."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.live import port_to_keep

JOBS = Path(__file__).parents[1] / "integrations" / "jobs"
LIMIT_S = 240
_TORCHRUN = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run"]


@contextmanager
def started(
    job: str, *arguments: object, launcher: Sequence[str] = (), cwd: Path | None = None, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Start a script of ``tests/integrations/jobs``, which ends with the block; output and errors share one pipe."""
    command = [*(launcher or [sys.executable, "-W", "ignore"]), str(JOBS / f"{job}.py"), *map(str, arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        command, env=variables, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(job: str, *arguments: object, status: int = 0, **environment: str) -> str:
    """Run a script of ``tests/integrations/jobs`` to its end; returns what it wrote."""
    with started(job, *arguments, **environment) as process:
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status, said[-3000:]
    return said


def run_ranks(count: int, job: str, *arguments: object, status: int = 0, **environment: str) -> str:
    """Run a script in several ranks, connected by gloo; if one dies, the others are ended."""
    with started(job, *arguments, launcher=ranks(count), **environment) as process:
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status, said[-3000:]
    return said


def wait_for(line: str, process: "subprocess.Popen[str]") -> None:
    """Return once a process has written a line that begins so."""
    said = []
    assert process.stdout is not None
    for each in process.stdout:
        if each.startswith(line):
            return
        said.append(each)
    raise AssertionError(f"it ended without {line!r}: {''.join(said)[-3000:]}")


def ranks(count: int) -> list[str]:
    """Return the command that starts a script in several ranks."""
    return [*_TORCHRUN, "--standalone", f"--nproc-per-node={count}"]


def run_nodes(folders: Sequence[Path], job: str, *arguments: object) -> list[str]:
    """Run a script in a rank on each of several nodes: with a name, and a working folder, of its own."""
    port = port_to_keep()
    with ExitStack() as stack:
        running = []
        for number, folder in enumerate(folders):
            folder.mkdir()
            variables = {"RANK": number, "LOCAL_RANK": 0, "WORLD_SIZE": len(folders), "LOCAL_WORLD_SIZE": 1}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "HOLDFAST_SPOOL": folder / "spool"}
            named = ["unshare", "--uts", "sh", "-c", f'hostname node{number}; exec "$0" "$@"', sys.executable]
            each = started(
                job, *arguments, launcher=named, cwd=folder, **{name: str(value) for name, value in variables.items()}
            )
            running.append(stack.enter_context(each))
        said = [process.communicate(timeout=LIMIT_S)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(folders), said
    return said
