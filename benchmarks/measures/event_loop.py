"""Stalls of the server's event loop during four uploads, and the latency of other requests."""

import os
import threading
import time
from types import TracebackType
from typing import Self

import httpx

from benchmarks.figures import Figure, Outcome
from benchmarks.live import LiveServer
from benchmarks.measures.server_memory import CLIENTS, MAX_ROUNDS, refuse_without_memory
from benchmarks.plan import Plan
from benchmarks.saver import Savers

GAUGE = "holdfast_event_loop_stall_seconds"
LIVE = "/health/live"
LIST = "/v1/checkpoints?directory=runs/0"
PAUSE_S = 0.01
GAUGE_EVERY_S = 1.0
GAUGE_FORGETS_S = 65.0  # its longest stall covers about a minute


def measure(plan: Plan) -> Outcome:
    """Return the longest stall that the server has measured, and the longest latencies of small requests."""
    refuse_without_memory(plan)
    with LiveServer(plan.folder / "root") as server, Savers(server, CLIENTS, plan.size_bytes) as savers:
        at_start = _stall_after_first_use(server, savers)
        time.sleep(GAUGE_FORGETS_S)  # otherwise, stalls before the uploads would be counted
        idle = _stall_s(server)
        with Poller(server) as poller:
            for _ in range(min(plan.rounds, MAX_ROUNDS)):
                os.sync()
                savers.save()
                server.wait_until_freed()
    figures = (
        _slowest("event_loop", max(poller.stalls_s), reach=50, aim=10),
        _slowest("stall before the load", at_start),
        _slowest("stall at rest", idle),
        _slowest("slowest health answer", max(poller.answers_s[LIVE])),
        _slowest("slowest list answer", max(poller.answers_s[LIST])),
    )
    details = {
        "stall_at_start_s": at_start,
        "stall_at_rest_s": idle,
        "stalls_s": poller.stalls_s,
        "answers_s": poller.answers_s,
    }
    return Outcome(figures=figures, details=details)


def _stall_after_first_use(server: LiveServer, savers: Savers) -> float:
    """Return the longest stall between the server's start and the end of a first save and a first list."""
    savers.save(only=(0,))
    with httpx.Client(base_url=server.url, timeout=60) as http:
        _answered_s(http, LIST)
    server.wait_until_freed()
    return _stall_s(server)


class Poller:
    """A client that sends small requests one after another, as ``with Poller(server) as poller:``."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._error: Exception | None = None
        self.answers_s: dict[str, list[float]] = {LIVE: [], LIST: []}
        self.stalls_s: list[float] = []

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
        if error is None:
            self.stalls_s.append(_stall_s(self._server))

    def _ask(self) -> None:
        next_gauge = time.monotonic() + GAUGE_EVERY_S
        try:
            with httpx.Client(base_url=self._server.url, timeout=60) as http:
                while not self._done.wait(PAUSE_S):
                    for path, answers in self.answers_s.items():
                        answers.append(_answered_s(http, path))
                    if time.monotonic() > next_gauge:
                        self.stalls_s.append(_stall_s(self._server))
                        next_gauge = time.monotonic() + GAUGE_EVERY_S
        except Exception as error:  # raised at the end of the block
            self._error = error


def _answered_s(http: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    http.get(path).raise_for_status()
    return time.perf_counter() - started


def _stall_s(server: LiveServer) -> float:
    found = server.metric(GAUGE)
    if found is None:
        raise LookupError(f"the server has no figure {GAUGE}")
    return found


def _slowest(name: str, seconds: float, *, reach: float | None = None, aim: float | None = None) -> Figure:
    value = seconds * 1000
    return Figure(name=name, value=value, unit="ms", reach=reach, aim=aim, lower_is_better=True)
