"""Processes of training jobs: `job.py` in the interpreter of a checkout, asked by lines of JSON."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.checkout import Checkout

SCRIPT = Path(__file__).with_name("job.py")

KEEP_ALL = {"max_checkpoints": None, "max_best_checkpoints": None}
KEEP_ONE = {"max_checkpoints": 1, "max_best_checkpoints": 1}
KEEP_SIX = {"max_checkpoints": 5, "max_best_checkpoints": 1}
KEEP_MANY = {"max_checkpoints": 10_000_000, "max_best_checkpoints": 10_000_000}


class Job:
    """A job's process, as ``with Job(checkout, url, folder) as job:``.

    Parameters
    ----------
    folder : Path
        An empty folder on the disk that is measured.
    """

    def __init__(self, checkout: Checkout, url: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._command = [str(checkout.python), "-P", str(SCRIPT), url, str(folder)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if error is not None:
            self._process.kill()
        with self._process:  # closes its input, at which it ends, and waits
            pass

    def begin(self, do: str, **arguments: Any) -> None:
        """Ask for something; `end` returns the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """Wait for the answer to what was begun.

        Raises
        ------
        RuntimeError
            The job has failed.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a job has failed; what it said is above")
        return json.loads(line)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Ask for something and wait for the answer."""
        self.begin(do, **arguments)
        return self.end()
