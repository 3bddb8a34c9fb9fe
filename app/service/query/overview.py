"""What people look at: many directories at a glance, and one in more detail than programs ask for. Changes nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.catalog import Order, Page, Query
from app.catalog.reports import overview, series, standings
from app.catalog.reports.series import Choose, Point
from app.catalog.reports.standings import Candidate, Standing
from app.catalog.rows.directories import Totals
from app.core import retention
from app.core.errors import CheckpointNotFound
from app.core.models import Checkpoint, Directory, Policy, Reason, Tensor
from app.service.query.find import Summary, summary_of
from app.service.state.context import Context, Rules
from app.service.state.lookup import known_directory
from app.service.state.open_uploads import Transfers

RECENT_COMMITS = 40
"""Of how many commits the course of the metric is shown at a glance, and the names of metadata are known."""
MOST_POINTS = 20_000
"""How many checkpoints a course may have."""
MOST_OTHERS = 200
"""How many checkpoints are offered to be compared with."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A directory at a glance. ``metrics`` are those of the last commits, oldest first."""

    directory: Directory
    totals: Totals
    best_metric: float | None
    metrics: Sequence[float]
    uploads: int
    is_written: bool
    """Whether somebody saves there, or did a moment ago."""


@dataclass(frozen=True, slots=True)
class NextSave:
    """What the next save removes in any case, and what it removes as well if it is the best so far."""

    going: Sequence[Candidate]
    going_if_best: Sequence[Candidate]
    is_partial: bool
    """Whether there are more than were looked at, which are the oldest."""


@dataclass(frozen=True, slots=True)
class View:
    """A directory with some of its checkpoints, why each of them stays, and what comes next; all of one moment."""

    summary: Summary
    page: Page
    reasons: Mapping[str, Sequence[Reason]]
    next_save: NextSave
    keys: Sequence[str]
    """The numeric values in the metadata of the last commits."""
    uploads: int
    is_written: bool


class Viewing:
    """Answers for pages."""

    def __init__(self, context: Context, rules: Rules, transfers: Transfers) -> None:
        self._context = context
        self._rules = rules
        self._transfers = transfers

    def directories(self, prefix: str) -> list[Glance]:
        """All directories at or below a prefix, by name."""
        with self._context.catalog.reading() as session:
            found = session.directories.below(prefix)
            held = overview.held(session.connection, prefix)
            metrics = overview.recent_metrics(session.connection, prefix, RECENT_COMMITS)
            uploads = overview.uploads(session.connection, prefix)
        nothing = overview.Held(Totals(0, 0), None, None)
        return [
            Glance(
                directory,
                held.get(directory.name, nothing).totals,
                held.get(directory.name, nothing).best_metric(directory.policy.ranks_by),
                metrics.get(directory.name, ()),
                uploads.get(directory.name, 0),
                bool(uploads.get(directory.name)) or self._was_written_lately(directory),
            )
            for directory in found
        ]

    def names(self, prefix: str, *, limit: int) -> list[str]:
        """The names of the first so many directories at or below a prefix."""
        with self._context.catalog.reading() as session:
            return [directory.name for directory in session.directories.below(prefix, limit=limit)]

    def listing(self, directory: str, *, order_by: Order, include_removed: bool) -> Query:
        """What `directory` is asked for. `DirectoryNotFound` where there is none."""
        with self._context.catalog.reading() as session:
            mode = known_directory(session, directory).policy.ranks_by
        return Query(directory, order_by=order_by, mode=mode, include_removed=include_removed)

    def directory(self, query: Query, *, after: tuple[Any, ...] | None, limit: int) -> View:
        """One directory, with the checkpoints that a listing gives. `DirectoryNotFound` where there is none."""
        with self._context.catalog.reading() as session:
            directory = known_directory(session, query.directory)
            page = session.checkpoints.page(query, after=after, limit=min(limit, self._rules.limits.page_size))
            uploads = session.uploads.count(directory.name)
            summary, policy = summary_of(session, directory), directory.policy
            found = standings.standing(session.connection, directory.name, policy)
            candidates = standings.candidates(session.connection, directory.name, policy, summary.totals.count)
            return View(
                summary,
                page,
                _reasons(found, policy, page.checkpoints),
                _next_save(found, policy, candidates),
                series.keys(session.connection, directory.name, directory.sequence - RECENT_COMMITS),
                uploads,
                bool(uploads) or self._was_written_lately(directory),
            )

    def reasons(self, checkpoint: Checkpoint) -> Sequence[Reason]:
        """Why a live checkpoint stays."""
        with self._context.catalog.reading() as session:
            directory = known_directory(session, checkpoint.directory)
            found = standings.standing(session.connection, directory.name, directory.policy)
        return _reasons(found, directory.policy, [checkpoint]).get(checkpoint.id, ())

    def tensors(self, checkpoint_id: str) -> Sequence[tuple[str, Tensor]] | None:
        """The tensors of a checkpoint, removed or not, each with its file; None where none are known."""
        with self._context.catalog.reading() as session, suppress(ValueError):  # what fsck has to mend is not known
            maps = session.checkpoints.maps(checkpoint_id)
            if any(found.tensors is not None for found in maps.values()):
                return [(path, tensor) for path, found in sorted(maps.items()) for tensor in found.tensors or ()]
        return None

    def others(self, checkpoint: Checkpoint) -> Sequence[Checkpoint]:
        """The newest live checkpoints of the same directory but this one."""
        listing = Query(checkpoint.directory, order_by="-position")
        with self._context.catalog.reading() as session:
            found = session.checkpoints.page(listing, after=None, limit=MOST_OTHERS).checkpoints
        return [other for other in found if other.id != checkpoint.id]

    def named(self, path: str) -> Checkpoint:
        """The live checkpoint of a path that ends with its name, or else with ``best`` or ``latest``.

        `CheckpointNotFound` where there is none.
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

    def course(self, directory: str, by: str | None, choose: Choose) -> tuple[Sequence[Point], int]:
        """The course of the metric, or of a numeric value of the metadata, at chosen places; and of how many it is."""
        with self._context.catalog.reading() as session:
            known_directory(session, directory)
            return series.points(session.connection, directory, by, limit=MOST_POINTS, choose=choose)

    def have_uploads_changed(self, prefix: str, since: float) -> bool:
        """Whether any upload within a prefix has brought bytes, or has ended, after that time of `time.monotonic`."""
        return self._transfers.changed_since(since, prefix)

    def _was_written_lately(self, directory: Directory) -> bool:
        at = directory.last_write_at
        return at is not None and at > self._context.clock() - self._rules.writer_window


def _reasons(found: Standing, policy: Policy, checkpoints: Sequence[Checkpoint]) -> dict[str, Sequence[Reason]]:
    live = [checkpoint for checkpoint in checkpoints if checkpoint.removed_at is None]
    return {one.id: retention.reasons(one.facts, found.of(one.id), policy) for one in live}


def _next_save(found: Standing, policy: Policy, candidates: Sequence[Candidate]) -> NextSave:
    going: list[Candidate] = []
    staying: list[Candidate] = []
    for one in candidates:
        goes = retention.leaves_at_next_save(one.facts, found.of(one.id), policy, of_a_better_one=False)
        (going if goes else staying).append(one)
    also = [
        one
        for one in staying
        if retention.leaves_at_next_save(one.facts, found.of(one.id), policy, of_a_better_one=True)
    ]
    return NextSave(going, also, len(candidates) == standings.MOST_CANDIDATES)
