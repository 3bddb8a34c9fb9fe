"""A Holdfast server in its own process, on a free port of loopback."""

import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from benchmarks.checkout import OURS, Checkout
from holdfast import CheckpointManager

PROJECT = OURS.folder
PATIENCE_S = 60
LOG_LINES = 30


class LiveServer:
    """``python -m app serve``, as ``with LiveServer(root) as server:``. The process ends with the block.

    Parameters
    ----------
    checkout : Checkout
        The checkout whose server it is.
    settings : mapping of str to str
        Variables such as ``HOLDFAST_SCRUB_BYTES_PER_S``; everything else has its default.
    """

    def __init__(self, root: Path, *, checkout: Checkout = OURS, settings: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.url = ""
        self._checkout = checkout
        self._settings = dict(settings or {})
        self._log = root.with_name(f"{root.name}.log")
        self._http = httpx.Client(timeout=PATIENCE_S)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [self._checkout.python, "-m", "app", "serve"],
                cwd=self._checkout.folder,
                env={**kept, **self._settings, "HOLDFAST_ROOT": str(self.root), "HOLDFAST_PORT": "0"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdout is not None
        found = re.search(r"at (http://\S+)", self._process.stdout.readline())
        if found is None:
            self._end()
            raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")
        self.url = found[1]
        self._http.get(f"{self.url}/health/ready").raise_for_status()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        complaints = [line for line in self._log.read_text().splitlines() if not line.startswith("INFO:")]
        if error is not None and complaints:
            error.add_note("\n".join(["the server's log ends with:", *complaints[-LOG_LINES:]]))

    @property
    def process_id(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    def manager(self, directory: str, *, url: str | None = None) -> CheckpointManager:
        """Return a manager that keeps one checkpoint of a directory; ``url`` may be that of a forwarder."""
        return CheckpointManager(directory, max_checkpoints=1, max_best_checkpoints=1, server=url or self.url)

    def metric(self, name: str) -> float | None:
        """Return a figure of ``/metrics``; None if there is none."""
        found = re.search(rf"^{name} (\S+)$", self._http.get(f"{self.url}/metrics").text, re.MULTILINE)
        return float(found[1]) if found else None

    def wait_until_freed(self) -> None:
        """Wait until the bytes of removed checkpoints are freed, which happens after the reply."""
        end = time.monotonic() + PATIENCE_S
        while self.metric("holdfast_unfreed_checkpoints") != 0:
            if time.monotonic() > end:
                raise TimeoutError("removed checkpoints were not freed")
            time.sleep(0.02)

    def _end(self) -> None:
        self._http.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
