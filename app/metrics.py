"""Figures for Prometheus, read from the catalog when somebody asks: they survive restarts and cannot drift."""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.catalog.statistics import Statistics


class Counts(Protocol):
    """Whoever knows the figures."""

    def statistics(self) -> Statistics:
        """The figures at this moment."""


class _Figures(Collector):
    def __init__(self, counts: Counts, longest_stall_s: Callable[[], float]) -> None:
        self._counts = counts
        self._longest_stall_s = longest_stall_s

    def collect(self) -> Iterator[Metric]:
        found = self._counts.statistics()
        yield _gauge("holdfast_directories", "Directories with commits.", found.directories)
        yield _gauge("holdfast_checkpoints", "Live checkpoints.", found.checkpoints)
        yield _gauge("holdfast_checkpoint_bytes", "Bytes of live checkpoints.", found.size_bytes)
        yield _gauge("holdfast_uploads", "Uploads under way.", found.uploads)
        yield _gauge(
            "holdfast_unfreed_checkpoints", "Removed checkpoints whose bytes are not yet freed.", found.unfreed
        )
        yield _gauge(
            "holdfast_event_loop_stall_seconds",
            "The longest time within the last minute that the event loop was kept from its work.",
            self._longest_stall_s(),
        )
        commits = CounterMetricFamily("holdfast_commits", "Commits in all directories.")
        commits.add_metric([], found.commits)
        yield commits
        removed = CounterMetricFamily("holdfast_removed_checkpoints", "Removed checkpoints.", labels=["because"])
        for because, count in sorted(found.removed.items()):
            removed.add_metric([because], count)
        yield removed


def registry(counts: Counts, longest_stall_s: Callable[[], float]) -> CollectorRegistry:
    """A registry that gives this server's figures."""
    found = CollectorRegistry(auto_describe=False)
    found.register(_Figures(counts, longest_stall_s))
    return found


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
