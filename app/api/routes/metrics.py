"""Figures for Prometheus, read from the catalog when somebody asks: they survive restarts and cannot drift."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.catalog.reports.statistics import Statistics
from app.core.quotas import Quota, Usage


class Counts(Protocol):
    """Whoever knows the figures."""

    def statistics(self, prefix: str = "") -> Statistics:
        """The figures on the directories within a prefix at this moment."""


@dataclass(frozen=True)
class Process:
    """Figures of this process, which begin anew with it."""

    longest_stall_s: Callable[[], float]
    scrubbed_bytes: Callable[[], int]
    free_bytes: Callable[[], int]


Quotas = Callable[[str], Iterable[tuple[Quota, Usage]]]
"""Gives the quotas within a prefix, and what is kept under each."""


class _Figures(Collector):
    def __init__(self, counts: Counts, process: Process, quotas: Quotas, prefix: str) -> None:
        self._counts = counts
        self._process = process
        self._quotas = quotas
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        found = self._counts.statistics(self._prefix)
        yield from _gauges(found)
        if not self._prefix:
            yield from self._of_process()
        commits = CounterMetricFamily("holdfast_commits", "Commits in all directories.")
        commits.add_metric([], found.commits)
        yield commits
        removed = CounterMetricFamily("holdfast_removed_checkpoints", "Removed checkpoints.", labels=["because"])
        for because, count in sorted(found.removed.items()):
            removed.add_metric([because], count)
        yield removed
        yield from _of_quotas(self._quotas(self._prefix))

    def _of_process(self) -> Iterator[Metric]:
        yield _gauge("holdfast_free_bytes", "Free space on the disk of the root.", self._process.free_bytes())
        yield _gauge(
            "holdfast_event_loop_stall_seconds",
            "The longest time within the last minute that the event loop was kept from its work.",
            self._process.longest_stall_s(),
        )
        scrubbed = CounterMetricFamily("holdfast_scrubbed_bytes", "Bytes read back since the start.")
        scrubbed.add_metric([], self._process.scrubbed_bytes())
        yield scrubbed


def registry(counts: Counts, process: Process, quotas: Quotas, prefix: str = "") -> CollectorRegistry:
    """A registry that gives the figures of the directories within a prefix, and without one the server's own."""
    found = CollectorRegistry(auto_describe=False)
    found.register(_Figures(counts, process, quotas, prefix))
    return found


def _gauges(found: Statistics) -> Iterator[Metric]:
    yield _gauge("holdfast_directories", "Directories with commits.", found.directories)
    yield _gauge("holdfast_checkpoints", "Live checkpoints.", found.checkpoints)
    yield _gauge("holdfast_checkpoint_bytes", "Bytes of live checkpoints.", found.size_bytes)
    yield _gauge("holdfast_uploads", "Uploads under way.", found.uploads)
    yield _gauge(
        "holdfast_unfreed_checkpoints", "Removed checkpoints whose bytes should be gone and are not.", found.unfreed
    )
    yield _gauge("holdfast_trash_checkpoints", "Removed checkpoints that can be restored.", found.trash)
    yield _gauge("holdfast_trash_bytes", "Bytes of removed checkpoints that can be restored.", found.trash_bytes)
    yield _gauge("holdfast_damaged_checkpoints", "Live checkpoints whose bytes are not what was saved.", found.damaged)
    yield _gauge("holdfast_unverified_checkpoints", "Live checkpoints never read back so far.", found.unverified)


def _of_quotas(found: Iterable[tuple[Quota, Usage]]) -> Iterable[Metric]:
    """Limits and what is used of them, by prefix; where there is no limit, neither."""
    by_prefix = ["prefix"]
    limits = GaugeMetricFamily("holdfast_quota_bytes", "The most bytes.", labels=by_prefix)
    used = GaugeMetricFamily("holdfast_quota_used_bytes", "Bytes of live checkpoints.", labels=by_prefix)
    count_limits = GaugeMetricFamily("holdfast_quota_checkpoints", "The most checkpoints.", labels=by_prefix)
    count_used = GaugeMetricFamily("holdfast_quota_used_checkpoints", "Live checkpoints.", labels=by_prefix)
    for quota, usage in found:
        if quota.max_bytes is not None:
            limits.add_metric([quota.prefix], quota.max_bytes)
            used.add_metric([quota.prefix], usage.size_bytes)
        if quota.max_checkpoints is not None:
            count_limits.add_metric([quota.prefix], quota.max_checkpoints)
            count_used.add_metric([quota.prefix], usage.checkpoints)
    return limits, used, count_limits, count_used


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
