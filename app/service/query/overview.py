"""Overviews for people: all directories at a glance, and one in more detail than programs ask for."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.catalog import ListFilter, Order, Page, Session
from app.catalog.reports import overview, ranks, series
from app.catalog.reports.overview import Glance
from app.catalog.reports.ranks import Candidate, Ranks
from app.catalog.reports.series import Choose, Point
from app.catalog.rows.directories import Totals
from app.core.errors import CheckpointNotFound
from app.core.models import Checkpoint, Directory, Tensor
from app.core.retention import Reason
from app.service.query.lookup import Summary, summary_of
from app.service.state.caches import Caches, CommitsOf
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import known_directory
from app.service.state.open_uploads import OpenUploads

RECENT_COMMITS = 40
"""The number of commits whose metrics an overview shows, and whose metadata names are offered."""
MOST_POINTS = 20_000
"""The number of checkpoints that a metric series covers at most."""
MOST_OTHERS = 200
"""The number of checkpoints that are offered for a comparison."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A directory at a glance. ``metrics`` are those of the last commits, oldest first."""

    directory: Directory
    totals: Totals
    best_metric: float | None
    metrics: tuple[float, ...]
    is_written: bool
    """True if an upload is open, or the last save was a moment ago."""


@dataclass(frozen=True, slots=True)
class NextSave:
    """The checkpoints that the next save removes in any case, and those that it also removes if it is the new best."""

    going: Sequence[Candidate]
    going_if_best: Sequence[Candidate]
    is_partial: bool
    """True if only the oldest checkpoints were considered."""


@dataclass(frozen=True, slots=True)
class DirectoryView:
    """A snapshot of a directory: one page of its checkpoints, why each is kept, and what the next save removes."""

    summary: Summary
    page: Page
    reasons: Mapping[str, Sequence[Reason]]
    next_save: NextSave
    keys: Sequence[str]
    """The names of numeric values in the metadata of the last commits."""
    uploads: int
    is_written: bool
    removed_until: datetime | None
    """The newest removal whose checkpoint is no longer listed for its age; None if all are."""


class Overviews:
    """Answers for pages of the dashboard. Changes nothing."""

    def __init__(self, context: Context, rules: Rules, open_uploads: OpenUploads, caches: Caches) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._caches = caches

    def glances(self, prefix: str) -> list[Glance]:
        """List all directories at or below a prefix, by name, with their totals; active also by open uploads."""
        with self._context.catalog.reading() as session:
            found = overview.glances(session.connection, prefix, self._active_since())
            uploads = overview.uploads(session.connection, prefix)
        return [one._replace(is_written=True) if one.name in uploads else one for one in found]

    def directories(self, glances: Sequence[Glance]) -> list[Overview]:
        """Tell more of some directories, by name."""
        names = [one.name for one in glances]
        with self._context.catalog.reading() as session:
            found = session.directories.some(names)
            ranges = overview.metric_ranges(session.connection, names)
            metrics = self._recent_metrics(session, found)
        known = {one.name: one for one in glances}
        return [
            Overview(
                directory,
                known[directory.name].totals,
                ranges.get(directory.name, overview.MetricRange()).best(directory.policy.ranks_by),
                metrics.get(directory.name, ()),
                known[directory.name].is_written,
            )
            for directory in found
        ]

    def _recent_metrics(self, session: Session, directories: Sequence[Directory]) -> Mapping[str, tuple[float, ...]]:
        """Return the metrics of the last commits to each directory; read again only after another commit."""
        cache = self._caches.recent_metrics
        keys = {one.name: CommitsOf(one.name, one.created_at, one.sequence) for one in directories}
        found = {name: known for name, key in keys.items() if (known := cache.get(key)) is not None}
        unknown = [name for name in keys if name not in found]
        read = overview.recent_metrics(session.connection, unknown, RECENT_COMMITS)
        for name in unknown:
            found[name] = read.get(name, ())
            cache.put(keys[name], found[name])
        return found

    def names(self, prefix: str, *, limit: int) -> list[str]:
        """List the first names of directories at or below a prefix."""
        with self._context.catalog.reading() as session:
            return [directory.name for directory in session.directories.below(prefix, limit=limit)]

    def listing(self, directory: str, *, order_by: Order, include_removed: bool) -> ListFilter:
        """Make the query that `directory` takes; `DirectoryNotFound` if there is none of this name."""
        with self._context.catalog.reading() as session:
            mode = known_directory(session, directory).policy.ranks_by
        return ListFilter(directory, order_by=order_by, mode=mode, include_removed=include_removed)

    def directory(self, query: ListFilter, *, after: tuple[Any, ...] | None, limit: int) -> DirectoryView:
        """Show one directory with one page of its checkpoints; `DirectoryNotFound` if there is none of this name."""
        with self._context.catalog.reading() as session:
            directory = known_directory(session, query.directory)
            page = session.checkpoints.page(query, after=after, limit=min(limit, self._rules.limits.page_size))
            uploads = session.uploads.count(directory.name)
            summary, policy = summary_of(session, directory), directory.policy
            horizon = session.horizons.of("removed")
            live = summary.totals.count
            found = ranks.of_directory(session.connection, directory.name, policy, live)
            candidates = ranks.candidates(session.connection, directory.name, policy, live)
            return DirectoryView(
                summary,
                page,
                _reasons(found, page.checkpoints),
                _next_save(found, candidates),
                series.keys(session.connection, directory.name, directory.sequence - RECENT_COMMITS),
                uploads,
                bool(uploads) or self._was_written_lately(directory),
                horizon.until if horizon is not None else None,
            )

    def reasons(self, checkpoint: Checkpoint) -> Sequence[Reason]:
        """Give the reasons why a live checkpoint is kept."""
        with self._context.catalog.reading() as session:
            directory = known_directory(session, checkpoint.directory)
            live = session.counters.totals(directory.name).count
            found = ranks.of_directory(session.connection, directory.name, directory.policy, live)
            return _reasons(found, [checkpoint]).get(checkpoint.id, ())

    def tensors(self, checkpoint_id: str) -> Sequence[tuple[str, Tensor]] | None:
        """List the tensors of a checkpoint, live or removed, each with its file; None if none are known."""
        with self._context.catalog.reading() as session, suppress(ValueError):  # a record that fsck has to repair
            maps = session.checkpoints.maps(checkpoint_id)
            if any(found.tensors is not None for found in maps.values()):
                return [(path, tensor) for path, found in sorted(maps.items()) for tensor in found.tensors or ()]
        return None

    def others(self, checkpoint: Checkpoint) -> Sequence[Checkpoint]:
        """List the newest live checkpoints of the same directory, except this one."""
        listing = ListFilter(checkpoint.directory, order_by="-position")
        with self._context.catalog.reading() as session:
            found = session.checkpoints.page(listing, after=None, limit=MOST_OTHERS).checkpoints
        return [other for other in found if other.id != checkpoint.id]

    def named(self, path: str) -> Checkpoint:
        """Find a live checkpoint by a path that ends with its name, with ``best`` or with ``latest``.

        Raises
        ------
        CheckpointNotFound
        """
        where, _, name = path.rpartition("/")
        with self._context.catalog.reading() as session:
            found = session.checkpoints.named(where, name)
            if found is None and name in {"best", "latest"} and (directory := session.directories.get(where)):
                summary = summary_of(session, directory)
                found = summary.best if name == "best" else summary.latest
        if found is None:
            raise CheckpointNotFound(f"There is no checkpoint {path!r}.")
        return found

    def metric_series(self, directory: str, by: str | None, choose: Choose) -> tuple[Sequence[Point], int]:
        """Give the metric, or a numeric value of the metadata, at chosen points; and the number of all points."""
        with self._context.catalog.reading() as session:
            known_directory(session, directory)
            return series.points(session.connection, directory, by, limit=MOST_POINTS, choose=choose)

    def _was_written_lately(self, directory: Directory) -> bool:
        at = directory.last_write_at
        return at is not None and at > self._active_since()

    def _active_since(self) -> datetime:
        return self._context.clock() - self._rules.writer_window


def _reasons(found: Ranks, checkpoints: Sequence[Checkpoint]) -> dict[str, Sequence[Reason]]:
    return {one.id: found.reasons(one) for one in checkpoints if one.removed_at is None}


def _next_save(found: Ranks, candidates: Sequence[Candidate]) -> NextSave:
    going: list[Candidate] = []
    staying: list[Candidate] = []
    for one in candidates:
        (going if found.leaves_at_next_save(one, of_a_better_one=False) else staying).append(one)
    also = [one for one in staying if found.leaves_at_next_save(one, of_a_better_one=True)]
    return NextSave(going, also, len(candidates) == ranks.MOST_CANDIDATES)
