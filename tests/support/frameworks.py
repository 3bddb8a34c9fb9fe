"""Trainings in processes of their own, for the tests of integrations."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

JOBS = Path(__file__).parents[1] / "integrations" / "jobs"
LIMIT_S = 240


@contextmanager
def started(job: str, *arguments: object, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a script of ``tests/integrations/jobs``, which ends with the block; output and errors share one pipe."""
    command = [sys.executable, "-W", "ignore", JOBS / f"{job}.py", *map(str, arguments)]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
