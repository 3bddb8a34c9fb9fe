"""MLflow's newest release in an environment of its own: its artifact server on loopback, and its client."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.figures import Skipped

START_TIMEOUT_S = 180
END_TIMEOUT_S = 20
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def install_mlflow(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the python of an environment with the newest MLflow that can be installed, and a remark about it.

    pip takes an older release without a word where the newest one lacks a dependency: that is said.

    Raises
    ------
    Skipped
        There is none, and none can be installed.
    """
    python = folder / "mlflow" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "mlflow"], check=True)
    done = _pip(python, "install", "--upgrade", "mlflow")
    if _pip(python, "show", "mlflow").returncode != 0:
        raise Skipped(f"MLflow could not be installed: {done.stderr.strip()[-500:]}")
    if done.returncode != 0:
        return python, ("MLflow could not be upgraded: whether its newest release was measured is not known.",)
    newer = _newer_mlflow(python)
    if newer is None:
        return python, ("Whether there is a newer release of MLflow could not be found out.",)
    return python, tuple(f"MLflow {each} is newer, but it cannot be installed here." for each in newer)


def _newer_mlflow(python: Path) -> list[str] | None:
    """Return the newest release if another one is installed, even if its requirements are missing."""
    seen = _pip(python, "install", "--dry-run", "--no-deps", "--upgrade", "--report", "-", "mlflow")
    if seen.returncode != 0:
        return None
    return [each["metadata"]["version"] for each in json.loads(seen.stdout)["install"]]


def _pip(python: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    options = ["-P", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([python, *options, *arguments], capture_output=True, text=True, check=False)


class Mlflow:
    """An MLflow server with its defaults, and a client, as ``with Mlflow(python, folder) as peer:``."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        self._environment |= QUIET
        self._stack = ExitStack()
        self._client: subprocess.Popen[str] | None = None
        self.version = ""

    def __enter__(self) -> Self:
        self._folder.mkdir()
        with ExitStack() as starting:
            url = self._serve(starting)
            self._client = self._connect(starting, url)
            self.version = self._heard()
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def upload(self, path: Path, folder: str) -> float:
        """Log a file as an artifact in a folder of the run; return the seconds."""
        seconds, _ = self._asked("upload", str(path), folder)
        return float(seconds)

    def download(self, artifact: str, to: Path) -> tuple[float, Path]:
        """Download an artifact into a folder; return the seconds and its path."""
        seconds, path = self._asked("download", artifact, str(to))
        return float(seconds), Path(path)

    def remove(self, folder: str) -> None:
        """Remove a folder of the run from the server's disk."""
        for found in (self._folder / "artifacts").glob(f"*/*/artifacts/{folder}"):
            shutil.rmtree(found)

    def _serve(self, starting: ExitStack) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = ["-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}", "--serve-artifacts"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        log = self._folder / "server.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                [self._python, *command],
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        starting.callback(_end_session, server)
        end = time.monotonic() + START_TIMEOUT_S
        while not _answers(f"http://127.0.0.1:{port}/health"):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"MLflow's server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        return f"http://127.0.0.1:{port}"

    def _connect(self, starting: ExitStack, url: str) -> "subprocess.Popen[str]":
        with (self._folder / "client.log").open("w") as errors:
            client = subprocess.Popen(
                [self._python, "-P", Path(__file__).with_name("mlflow_client.py"), url],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        starting.enter_context(client)
        starting.callback(client.kill)
        return client

    def _asked(self, *question: str) -> Any:
        assert self._client is not None
        assert self._client.stdin is not None
        self._client.stdin.write(json.dumps(question) + "\n")
        self._client.stdin.flush()
        return self._heard()

    def _heard(self) -> Any:
        assert self._client is not None
        assert self._client.stdout is not None
        line = self._client.stdout.readline()
        if not line:
            raise RuntimeError(f"MLflow's client failed:\n{(self._folder / 'client.log').read_text()[-3000:]}")
        return json.loads(line)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def _end_session(server: "subprocess.Popen[bytes]") -> None:
    """End a process and all its children: MLflow's server is a group of processes."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
            server.wait(END_TIMEOUT_S)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
