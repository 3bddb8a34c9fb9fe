"""Many connections: saves, small answers and the server's memory beside watchers, slow downloads and uploads."""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from benchmarks import process
from benchmarks.checkout import Checkout
from benchmarks.figures import Skipped
from benchmarks.live import LiveServer
from benchmarks.plan import MIB
from benchmarks.scale.crowd import Crowd
from benchmarks.scale.http_client import Connection
from benchmarks.scale.jobs import KEEP_ONE, Job
from benchmarks.scale.plan import ScalePlan
from benchmarks.scale.readings import Reading, Result, attempted, of_tail, of_times, of_value
from benchmarks.scale.rows import roots

WATCHERS, DOWNLOADS, UPLOADS = 1000, 500, 64
DOWNLOAD_BYTES = 32 * MIB
SAVES = 40
FILES_NEEDED = 2 * (WATCHERS + 500)
HEALTH = "/health/live"
HEALTH_PAUSE_S = 0.01
MB = 1e6
SETTINGS: Final = {**roots.QUIET, "HOLDFAST_MAX_REQUESTS_PER_TOKEN": "5000", "HOLDFAST_UNDO_WINDOW": "0"}
"""All connections here are of one user, whom the default would allow a thousand."""


def measure(plan: ScalePlan) -> Iterator[Result]:
    """Yield the readings of one checkout after the other, each with a server of its own for each kind."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_NEEDED:
        raise Skipped(f"{FILES_NEEDED} open files are needed, and {soft} are allowed (ulimit -n)")
    for kind in (_watchers, _downloads, _uploads):
        for checkout in plan.checkouts:
            with ExitStack() as stack:
                side = _Side(checkout, plan, kind.__name__, stack)
                yield from attempted(f"{kind.__name__.strip('_')}, {checkout.label}", kind(side))


class _Side:
    """A checkout's server, and a job that saves to it."""

    def __init__(self, checkout: Checkout, plan: ScalePlan, name: str, stack: ExitStack) -> None:
        folder = plan.folder / f"{checkout.label}{name}"
        folder.mkdir()
        self.label = checkout.label
        self.server = stack.enter_context(LiveServer(folder / "root", checkout=checkout, settings=SETTINGS))
        self._job = stack.enter_context(Job(checkout, self.server.url, folder / "job"))
        self.saves()

    def saves(self, directory: str = "runs/job", times: int = SAVES, size_bytes: int = 10_000) -> list[float]:
        """Return the seconds of some saves."""
        asked = {"directory": directory, "times": times, "policy": KEEP_ONE, "size_bytes": size_bytes}
        found: list[float] = self._job.ask("save", **asked)
        return found

    def peak_bytes(self, action: Callable[[], object]) -> int:
        """Return the highest resident memory of the server while something is done."""
        process.reset_peak(self.server.process_id)
        action()
        return process.memory(self.server.process_id).peak_bytes


def _watchers(side: _Side) -> Iterator[Reading]:
    subject = f"{WATCHERS:,} watchers of events"
    alone = side.saves()
    with Crowd("watchers", side.server.url, WATCHERS), Health(side.server.url) as health:
        beside = side.saves()
    yield of_times("save beside watchers", subject, side.label, beside, alone)
    yield of_tail("health beside watchers, p99", subject, side.label, health.seconds)


def _downloads(side: _Side) -> Iterator[Reading]:
    subject = f"{DOWNLOADS} slow downloads of {DOWNLOAD_BYTES // MIB} MiB"
    side.saves("runs/large", times=1, size_bytes=DOWNLOAD_BYTES)
    with Connection(side.server.url) as connection:
        found = connection.json("/v1/checkpoints/latest?directory=runs/large")["id"]
    alone, beside = side.saves(), []

    def save_beside() -> None:
        with Crowd("downloads", side.server.url, DOWNLOADS, found), Health(side.server.url) as health:
            beside.extend(side.saves())
            time.sleep(1)  # at least one turn of all downloads
        healths.extend(health.seconds)

    healths: list[float] = []
    peak = side.peak_bytes(save_beside)
    yield of_times("save beside downloads", subject, side.label, beside, alone)
    yield of_tail("health beside downloads, p99", subject, side.label, healths)
    yield of_value("memory with downloads", subject, side.label, peak / MB)


def _uploads(side: _Side) -> Iterator[Reading]:
    subject = f"{UPLOADS} uploads of 64 MiB"
    healths: list[float] = []

    def upload() -> None:
        with Health(side.server.url) as health, Crowd("uploads", side.server.url, UPLOADS) as crowd:
            crowd.wait()
        healths.extend(health.seconds)

    peak = side.peak_bytes(upload)
    yield of_tail("health beside uploads, p99", subject, side.label, healths)
    yield of_value("memory with uploads", subject, side.label, peak / MB)


class Health:
    """Asks for the server's health again and again, as ``with Health(url) as health:``."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self._url = url
        self._done = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _ask(self) -> None:
        try:
            with Connection(self._url) as connection:
                while not self._done.is_set() or not self.seconds:
                    self.seconds.append(connection.took_s(HEALTH))
                    self._done.wait(HEALTH_PAUSE_S)
        except Exception as error:  # raised at the end of the block
            self._error = error
