"""Lookups in committed rows: directories, checkpoints and the audit. No pointer can dangle."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.catalog import AuditLine, ListFilter, Page, Session
from app.catalog.reports.firsts import firsts
from app.catalog.reports.statistics import Statistics
from app.catalog.rows.checkpoint_loader import ANSWER_BYTES, CHECKPOINT_BYTES, FILE_BYTES, PATH_TIMES
from app.catalog.rows.directories import Totals
from app.core.access import Access
from app.core.errors import CheckpointNotFound, NoBest, NoCheckpoint
from app.core.models import Checkpoint, Directory, FileMap, Mode
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import (
    checkpoint_not_found,
    known_checkpoint,
    known_directory,
    live_checkpoint,
    readable_maps,
)


@dataclass(frozen=True, slots=True)
class Summary:
    """A directory with the totals of what it holds, its latest and its best checkpoint."""

    directory: Directory
    totals: Totals
    latest: Checkpoint | None
    best: Checkpoint | None


class Lookups:
    """Answers from rows of the catalog alone. Changes nothing."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    # directories

    def directory(self, name: str) -> Summary:
        """Summarise one directory.

        Raises
        ------
        DirectoryNotFound
        """
        with self._context.catalog.reading() as session:
            return summary_of(session, known_directory(session, name))

    def summary(self, directory: Directory) -> Summary:
        """Summarise a directory whose row the caller has."""
        with self._context.catalog.reading() as session:
            return summary_of(session, directory)

    def directories(self, prefix: str, *, after: str, limit: int) -> tuple[list[Summary], str | None]:
        """List directories at or below a prefix, and the name after which the next page begins; bounded."""
        with self._context.catalog.reading() as session:
            limit = min(limit, self._rules.limits.page_size)
            within = session.directories.below(prefix, after=after, limit=limit + 1)
            summaries = summaries_of(session, within[:limit])
        return summaries, summaries[-1].directory.name if len(within) > len(summaries) else None

    def statistics(self, prefix: str = "") -> Statistics:
        """Compute the figures of the directories within a prefix."""
        with self._context.catalog.reading() as session:
            return session.statistics(self._rules.restorable_since(self._context.clock()), prefix=prefix)

    # checkpoints

    def reach(self, access: Access, checkpoint_id: str) -> None:
        """Check that a checkpoint, live or removed, is in a directory within reach.

        Raises
        ------
        CheckpointNotFound
            It does not, or does not exist.
        """
        with self._context.catalog.reading() as session:
            directory = session.checkpoints.directory_of(checkpoint_id)
        if directory is None or not access.reaches(directory):
            raise checkpoint_not_found(checkpoint_id)

    def is_readable(self, access: Access, checkpoint_id: str) -> bool:
        """Tell if a token may read a checkpoint; False also for an unknown id."""
        try:
            self.reach(access, checkpoint_id)
        except CheckpointNotFound:
            return False
        return access.allows("read")

    def get(self, checkpoint_id: str) -> Checkpoint:
        """Find a checkpoint, live or removed.

        Raises
        ------
        CheckpointNotFound
        """
        with self._context.catalog.reading() as session:
            return known_checkpoint(session, checkpoint_id)

    def latest(self, directory: str) -> Checkpoint:
        """Find the newest checkpoint by its position.

        Raises
        ------
        DirectoryNotFound
        NoCheckpoint
            The directory is empty.
        """
        with self._context.catalog.reading() as session:
            known_directory(session, directory)
            latest = session.checkpoints.latest(directory)
        if latest is None:
            raise _no_checkpoint(directory)
        return latest

    def best(self, directory: str, *, by: str | None = None, mode: Mode | None = None) -> tuple[Checkpoint, Mode, bool]:
        """Find the best checkpoint; also give the mode that decided, and if that is the directory's own.

        Raises
        ------
        DirectoryNotFound
        NoCheckpoint
            The directory is empty.
        NoBest
            It holds checkpoints, but none with a finite value and none flagged.
        """
        with self._context.catalog.reading() as session:
            known = known_directory(session, directory)
            ranks_by = mode or known.policy.ranks_by
            best = session.checkpoints.best(directory, ranks_by, by)
            if best is None:
                raise _no_best(session, directory, by)
        return best, ranks_by, ranks_by == known.policy.mode

    def latest_id(self, directory: str) -> str:
        """Find the id of the newest checkpoint; the number of its files does not matter. Raises as `latest` does."""
        with self._context.catalog.reading() as session:
            known_directory(session, directory)
            latest = session.checkpoints.leading(ListFilter(directory, order_by="-position"))
        if latest is None:
            raise _no_checkpoint(directory)
        return latest.id

    def best_id(self, directory: str, *, by: str | None = None, mode: Mode | None = None) -> str:
        """Find the id of the best checkpoint; the number of its files does not matter. Raises as `best` does."""
        with self._context.catalog.reading() as session:
            ranks_by = mode or known_directory(session, directory).policy.ranks_by
            return best_of(session, directory, ranks_by, by).id

    def page(self, query: ListFilter, *, after: tuple[Any, ...] | None, limit: int) -> Page:
        """List one page of a directory's checkpoints, in order; bounded."""
        with self._context.catalog.reading() as session:
            known_directory(session, query.directory)
            return session.checkpoints.page(query, after=after, limit=min(limit, self._rules.limits.page_size))

    def own_mode(self, directory: str) -> Mode:
        """Give the mode by which a directory ranks."""
        with self._context.catalog.reading() as session:
            return known_directory(session, directory).policy.ranks_by

    def maps(self, checkpoint_id: str) -> tuple[Checkpoint, dict[str, FileMap]]:
        """Give a live checkpoint with the chunks and tensors of its files.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved
        Altered
            The catalog's record of them is damaged.
        """
        with self._context.catalog.reading() as session:
            checkpoint = live_checkpoint(session, checkpoint_id)
            with readable_maps(checkpoint):
                return checkpoint, session.checkpoints.maps(checkpoint_id)

    # the audit

    def audit(
        self, before: int, *, prefix: str, token_id: str | None, limit: int
    ) -> tuple[Sequence[AuditLine], int | None]:
        """List changes within a prefix, newest first, and the id before which the next page begins."""
        limit = min(limit, self._rules.limits.page_size)
        with self._context.catalog.reading() as session:
            found = session.audit.before(before, prefix=prefix, token_id=token_id, limit=limit + 1)
        return found[:limit], found[limit - 1].id if len(found) > limit else None


def best_of(session: Session, directory: str, mode: Mode, by: str | None = None) -> Checkpoint:
    """Find the best checkpoint of a directory within the caller's transaction, without its files.

    Raises
    ------
    NoCheckpoint, NoBest
    """
    best = session.checkpoints.leading(ListFilter(directory, order_by="best", mode=mode, by=by))
    if best is None:
        raise _no_best(session, directory, by)
    return best


def _no_best(session: Session, directory: str, by: str | None) -> NoCheckpoint | NoBest:
    if session.checkpoints.leading(ListFilter(directory)) is None:
        return _no_checkpoint(directory)
    return NoBest(f"No checkpoint of {directory!r} has a finite {by or 'metric'}.", directory=directory)


def _no_checkpoint(directory: str) -> NoCheckpoint:
    return NoCheckpoint(f"{directory!r} holds no checkpoint.", directory=directory)


def summary_of(session: Session, directory: Directory) -> Summary:
    """Summarise a directory within the caller's transaction."""
    return Summary(
        directory,
        session.counters.totals(directory.name),
        session.checkpoints.latest(directory.name),
        session.checkpoints.best(directory.name, directory.policy.ranks_by),
    )


def summaries_of(session: Session, directories: Sequence[Directory]) -> list[Summary]:
    """Summarise the first of some directories, as many as fit into one answer; by few queries."""
    first = firsts(session.connection, directories)
    ids = list(dict.fromkeys(found for pair in first.values() for found in pair if found is not None))
    known = {checkpoint.id: checkpoint for checkpoint in session.checkpoints.some(session.checkpoints.fitting(ids))}
    totals = session.counters.totals_of([directory.name for directory in directories])
    summaries: list[Summary] = []
    size_bytes = 0
    for directory in directories:
        latest, best = first[directory.name]
        if {latest, best} - {None} <= known.keys():
            of = totals.get(directory.name, Totals(0, 0))
            summary = Summary(directory, of, known.get(latest or ""), known.get(best or ""))
        else:  # one of them is beyond what fits, or its row is corrupt
            summary = summary_of(session, directory)
        size_bytes += _size_in_answer(summary.latest) + _size_in_answer(summary.best)
        if size_bytes > ANSWER_BYTES and summaries:
            break
        summaries.append(summary)
    return summaries


def _size_in_answer(checkpoint: Checkpoint | None) -> int:
    """Estimate the bytes of JSON that describe a checkpoint."""
    if checkpoint is None:
        return 0
    paths = sum(PATH_TIMES * len(file.path) + FILE_BYTES for file in checkpoint.files)
    return CHECKPOINT_BYTES + len(json.dumps(checkpoint.facts.metadata)) + paths
