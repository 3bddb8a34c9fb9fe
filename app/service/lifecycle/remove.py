"""Removals: one checkpoint, all of a directory, or those that its policy lets go. Marked first, purged afterwards."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from app.catalog import Session
from app.catalog.reports import ranks
from app.catalog.reports.ranks import Position
from app.core.errors import Pinned
from app.core.models import NO_PRECONDITION, Checkpoint, PolicyRequest, Precondition, RemovedBecause
from app.service.lifecycle import retention_verdicts
from app.service.lifecycle.purge import Purge
from app.service.lifecycle.retention_verdicts import VerdictFilter, VerdictPage
from app.service.state.context import Context
from app.service.state.get_or_refuse import known_checkpoint, known_directory, live_checkpoint, require_expected
from app.service.state.transitions import mark_removed

logger = logging.getLogger("holdfast")


MOST_NAMED = 1000
"""The number of names that an answer lists of removed and of kept checkpoints."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Cleared:
    """The checkpoints that were removed from a directory, and the pinned ones that stayed; the first names of both."""

    removed: Sequence[str]
    removed_count: int
    pinned: Sequence[str]
    pinned_count: int
    freed_bytes: int
    is_directory_removed: bool = False


class Removals:
    """Removes checkpoints. When a method returns, the bytes are deleted or in the trash.

    Removals are the way out of a full disk, so they may use the reserve file's space.
    """

    def __init__(self, context: Context, purge: Purge) -> None:
        self._context = context
        self._purge = purge

    def delete(self, checkpoint_id: str, expected: Precondition = NO_PRECONDITION) -> Checkpoint:
        """Remove one checkpoint.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved, PreconditionFailed
        Pinned
            It is pinned.
        """
        with self._context.catalog.reading() as session:
            directory = live_checkpoint(session, checkpoint_id).directory
        with self._context.catalog.lock(directory), self._marking() as session:
            checkpoint = live_checkpoint(session, checkpoint_id)
            require_expected(expected, directory, checkpoint.name, checkpoint)
            if checkpoint.facts.pinned:
                raise Pinned(f"{directory}/{checkpoint.name} is pinned; unpin it before you delete it.")
            (removed,) = mark_removed(session, [checkpoint], "deleted", self._context.clock())
        self._purge_all([removed.id])
        with self._context.catalog.reading() as session:
            return known_checkpoint(session, checkpoint_id)

    def clear(
        self,
        directory: str,
        *,
        include_pinned: bool = False,
        only_empty: bool = False,
        may_forget_policy: bool = False,
    ) -> Cleared:
        """Remove all checkpoints that a directory holds at this moment; later commits stay.

        An empty directory is removed itself, unless it has an open upload, a checkpoint that can still be restored, or
        an operator's policy that may not be forgotten. With ``only_empty``, any other directory is left alone.
        """
        with self._context.catalog.lock(directory):
            if self._remove_directory(directory, may_forget_policy=may_forget_policy):
                return Cleared((), 0, (), 0, 0, is_directory_removed=True)
            if only_empty:
                return Cleared((), 0, (), 0, 0)
            with self._marking() as session:
                known_directory(session, directory)
                with closing(ranks.newest_first(session.connection, directory)) as found:
                    live = [(one.id, one.size_bytes, one.pinned and not include_pinned) for one in found][::-1]
                going = [checkpoint_id for checkpoint_id, _, stays in live if not stays]
                pinned = [checkpoint_id for checkpoint_id, _, stays in live if stays]
                named = [_names(session, ids) for ids in (going, pinned)]
                self._mark(session, going, "deleted")
        self._purge_all(going)
        freed_bytes = sum(size_bytes for _, size_bytes, stays in live if not stays)
        return Cleared(named[0], len(going), named[1], len(pinned), freed_bytes)

    def _remove_directory(self, name: str, *, may_forget_policy: bool) -> bool:
        """Remove an empty directory, and its folder if that holds nothing else; False if it must stay."""
        with self._marking() as session:
            known = known_directory(session, name)
            is_ordered = bool(known.policy.operator) or (not known.sequence and known.policy.mode is not None)
            if is_ordered and not may_forget_policy:
                return False
            if session.checkpoints.any_bytes(name) or session.uploads.count(name):
                return False
            session.directories.remove(name)
            session.audit.add("directory.removed", at=self._context.clock(), directory=name)
        self._context.storage.records.forget_directory(name)
        return True

    def prune(
        self,
        directory: str,
        *,
        dry_run: bool = False,
        after: Position | None = None,
        limit: int,
        shown: VerdictFilter = "all",
    ) -> VerdictPage:
        """Judge one directory by its policy, and remove the checkpoints that do not stay, except in a dry run."""
        if dry_run:
            return self.preview(directory, after=after, limit=limit, shown=shown)
        with self._context.catalog.lock(directory):  # nothing that is judged changes; saves elsewhere need not wait
            with self._context.catalog.reading() as session:
                known = known_directory(session, directory)
                page = retention_verdicts.page_of_verdicts(session, known, shown=shown, limit=limit)
                going = retention_verdicts.ids_to_remove(session, known) if page.tally.goes else []
            if going:
                with self._marking() as session:
                    self._mark(session, going, "pruned")
        self._purge_all(going)
        return page

    def preview(
        self,
        directory: str,
        wanted: PolicyRequest | None = None,
        *,
        after: Position | None = None,
        limit: int,
        shown: VerdictFilter = "all",
    ) -> VerdictPage:
        """Judge one directory by its policy, or by the one that an operator might set. Changes nothing.

        The directory of the answer has the policy of the verdicts.

        Raises
        ------
        DirectoryNotFound
        """
        with self._context.catalog.reading() as session:
            known = known_directory(session, directory)
            if wanted is not None:
                asked = known.policy.set_by_operator(wanted)
                known = replace(known, policy=replace(asked, operator=known.policy.operator))  # no operator has set it
            return retention_verdicts.page_of_verdicts(session, known, shown=shown, after=after, limit=limit)

    def directories(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Iterate over the names of the directories at or below a prefix."""
        while True:
            with self._context.catalog.reading() as session:
                names = [found.name for found in session.directories.below(prefix, after=after, limit=_AT_ONCE)]
            yield from names
            if len(names) < _AT_ONCE:
                return
            after = names[-1]

    @contextmanager
    def _marking(self) -> Iterator[Session]:
        """Begin a writing transaction; on a full disk, give up the reserve file for it."""
        volume = self._context.storage.volume
        if volume is not None and volume.drop_reserve_file():
            logger.warning("the disk is full: the reserve file is deleted to make room for removals")
        with self._context.catalog.writing() as session:
            yield session

    def _mark(self, session: Session, ids: Sequence[str], because: RemovedBecause) -> None:
        at = self._context.clock()
        for some in _batches(ids):
            mark_removed(session, session.checkpoints.some(some), because, at)

    def _purge_all(self, ids: Sequence[str]) -> None:
        """Delete the bytes of removed checkpoints, or see that another thread has. No lock of a directory is held."""
        for some in _batches(ids):
            with self._context.catalog.reading() as session:
                removed = session.checkpoints.some(some)
            for checkpoint in removed:
                self._purge.attempt(checkpoint)
        if ids:
            self._context.notifier.notify()


def _names(session: Session, ids: Sequence[str]) -> list[str]:
    return [checkpoint.name for some in _batches(ids[:MOST_NAMED]) for checkpoint in session.checkpoints.some(some)]


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
