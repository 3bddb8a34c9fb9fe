"""Start a server, train in one process, and fetch the best checkpoint in another; run by scripts/quickstart."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
PROJECT = HERE.parent
START_TIMEOUT_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the server afterwards")
    parser.add_argument("--root", type=Path, default=PROJECT / "holdfast-data", help="where the server keeps its files")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    server, status = None, 130
    url = running_server(options.root)
    try:
        if url is not None:
            print(f"Using the Holdfast server that runs at {url}")
        else:
            server, url = start_server(options.root)
        run_example(url, options.epochs)
        status = 0
        if server is not None and not options.once:
            print(f"\nThe server keeps running at {url}; Ctrl-C stops it.", flush=True)
            server.wait()
    except KeyboardInterrupt:
        if status:
            print("Interrupted.", file=sys.stderr)
    finally:
        if server is not None and server.poll() is None:
            server.terminate()
            server.wait()
    return status


def running_server(root: Path) -> str | None:
    """Return the default URL if a server of this root answers there."""
    url = "http://127.0.0.1:8420"
    try:
        info = httpx.get(f"{url}/v1/info", timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return None
    return url if isinstance(info, dict) and info.get("root") == str(root.resolve()) else None


def start_server(root: Path) -> tuple["subprocess.Popen[bytes]", str]:
    port = free_port(8420)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app", "serve", "--root", str(root), "--port", str(port)]
    server = start(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            subprocess.run(command, cwd=PROJECT, check=True)  # run again, so that its error is shown
        try:
            httpx.get(f"{url}/health/ready").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return server, url
    server.kill()
    raise SystemExit(f"the server did not answer within {START_TIMEOUT_S} s")


def free_port(wanted: int) -> int:
    """Return the preferred port, or a free one if that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no port is free")


def run_example(url: str, epochs: int) -> None:
    checkpoint_dir = f"runs/digits/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    environment = {**os.environ, "HOLDFAST_URL": url, "HOLDFAST_PREFIX": ""}
    print(f"\nTraining, every epoch saved to {url} as {checkpoint_dir}", flush=True)
    train = [sys.executable, str(HERE / "train_digits.py"), checkpoint_dir, "--epochs", str(epochs)]
    run(train, environment)
    print("\nFetching the best and the latest from a second process", flush=True)
    run([sys.executable, str(HERE / "evaluate_digits.py"), checkpoint_dir], environment)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program that Ctrl-C does not reach: SIGTERM ends it, without a traceback."""
    with start(command, env=environment, start_new_session=True) as program:
        try:
            status = program.wait()
        except BaseException:
            program.terminate()
            raise
    if status:
        raise SystemExit(status)


def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a program. A signal that comes meanwhile is handled afterwards, or the program would be left running."""
    came: list[tuple[int, Any]] = []
    former = {each: signal.signal(each, lambda *given: came.append(given)) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        program = subprocess.Popen(command, **options)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    try:
        for number, frame in came:
            former[signal.Signals(number)](number, frame)  # type: ignore[operator,misc]
    except BaseException:
        program.terminate()
        program.wait()
        raise
    return program


if __name__ == "__main__":
    sys.exit(main())
