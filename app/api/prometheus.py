"""Prometheus metrics: figures of the catalog, read at each scrape, and figures of this process since its start."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.catalog.reports.statistics import Statistics
from app.core.quotas import Quota, Usage


class StatisticsSource(Protocol):
    """The provider of the statistics in the catalog."""

    def statistics(self, prefix: str = "") -> Statistics:
        """Return the current statistics of the directories at and below a prefix."""


@dataclass(frozen=True)
class ProcessFigures:
    """Figures of this process, which start from zero with it."""

    longest_stall_s: Callable[[], float]
    scrubbed_bytes: Callable[[], int]
    free_bytes: Callable[[], int] | None
    """None if the store has no disk."""


Quotas = Callable[[str], Iterable[tuple[Quota, Usage]]]
"""Returns the quotas within a prefix, with the usage of each."""


class _HoldfastCollector(Collector):
    def __init__(self, source: StatisticsSource, process: ProcessFigures, quotas: Quotas, prefix: str) -> None:
        self._source = source
        self._process = process
        self._quotas = quotas
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        found = self._source.statistics(self._prefix)
        yield from _gauges(found)
        if not self._prefix:
            yield from self._of_process()
        commits = CounterMetricFamily("holdfast_commits", "Commits in all directories.")
        commits.add_metric([], found.commits)
        yield commits
        removed = CounterMetricFamily("holdfast_removed_checkpoints", "Removals of checkpoints.", labels=["because"])
        for because, count in sorted(found.removed.items()):
            removed.add_metric([because], count)
        yield removed
        yield from _of_quotas(self._quotas(self._prefix))

    def _of_process(self) -> Iterator[Metric]:
        if self._process.free_bytes is not None:
            yield _gauge("holdfast_free_bytes", "Free space on the disk of the root.", self._process.free_bytes())
        yield _gauge(
            "holdfast_event_loop_stall_seconds",
            "Longest time that the event loop was blocked within the last minute.",
            self._process.longest_stall_s(),
        )
        scrubbed = CounterMetricFamily("holdfast_scrubbed_bytes", "Bytes read back by the scrub since the start.")
        scrubbed.add_metric([], self._process.scrubbed_bytes())
        yield scrubbed


def registry(source: StatisticsSource, process: ProcessFigures, quotas: Quotas, prefix: str = "") -> CollectorRegistry:
    """Return a registry for the directories within a prefix; without a prefix it includes the process's figures."""
    found = CollectorRegistry(auto_describe=False)
    found.register(_HoldfastCollector(source, process, quotas, prefix))
    return found


def _gauges(found: Statistics) -> Iterator[Metric]:
    yield _gauge("holdfast_directories", "Directories with commits.", found.directories)
    yield _gauge("holdfast_checkpoints", "Live checkpoints.", found.checkpoints)
    yield _gauge("holdfast_checkpoint_bytes", "Bytes of live checkpoints.", found.size_bytes)
    yield _gauge("holdfast_uploads", "Open uploads.", found.uploads)
    yield _gauge(
        "holdfast_unfreed_checkpoints", "Removed checkpoints whose bytes are still to be deleted.", found.unfreed
    )
    yield _gauge("holdfast_trash_checkpoints", "Removed checkpoints that can be restored.", found.trash)
    yield _gauge("holdfast_trash_bytes", "Bytes of removed checkpoints that can be restored.", found.trash_bytes)
    yield _gauge("holdfast_damaged_checkpoints", "Live checkpoints whose bytes are corrupt.", found.damaged)
    yield _gauge("holdfast_unverified_checkpoints", "Live checkpoints that were never read back.", found.unverified)


def _of_quotas(found: Iterable[tuple[Quota, Usage]]) -> Iterable[Metric]:
    """Yield each limit and its usage by prefix; a quota without a limit has neither."""
    by_prefix = ["prefix"]
    limits = GaugeMetricFamily("holdfast_quota_bytes", "Limit on the bytes of live checkpoints.", labels=by_prefix)
    used = GaugeMetricFamily("holdfast_quota_used_bytes", "Bytes of live checkpoints.", labels=by_prefix)
    count_limits = GaugeMetricFamily("holdfast_quota_checkpoints", "Limit on live checkpoints.", labels=by_prefix)
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
