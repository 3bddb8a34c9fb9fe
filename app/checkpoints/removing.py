"""Remove checkpoints: one, a directory's, or those that its policy lets go. Marked first, freed afterwards."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from app import retention
from app.catalog import Session
from app.checkpoints.freeing import Freeing
from app.checkpoints.parts import Parts, known_checkpoint, known_directory, live_checkpoint
from app.domain import Checkpoint, Directory, PolicyRequest, RemovedBecause, Verdict
from app.errors import Pinned

logger = logging.getLogger("holdfast")


@dataclass(frozen=True, slots=True)
class Pruning:
    """The verdicts on one directory. What does not stay was removed, or would be in a dry run."""

    directory: Directory
    verdicts: Sequence[Verdict]

    @property
    def going(self) -> list[Checkpoint]:
        return [verdict.checkpoint for verdict in self.verdicts if not verdict.stays]


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was removed from a directory, and what stayed because it is pinned."""

    removed: Sequence[Checkpoint]
    pinned: Sequence[Checkpoint]


def mark_removed(
    session: Session, checkpoints: Iterable[Checkpoint], because: RemovedBecause, at: datetime
) -> list[Checkpoint]:
    """Mark checkpoints as removed and say so in events, within the caller's transaction."""
    marked = []
    for checkpoint in checkpoints:
        marked.append(session.checkpoints.mark_removed(checkpoint, because, at))
        session.events.add(
            "checkpoint.removed",
            at=at,
            directory=checkpoint.directory,
            checkpoint_id=checkpoint.id,
            name=checkpoint.name,
            because=because,
        )
    return marked


class Removing:
    """Removals that somebody asked for. When these methods return, the bytes are gone or in the trash.

    They are what helps a full disk, so they may use the space that is set aside for them.
    """

    def __init__(self, parts: Parts, freeing: Freeing) -> None:
        self._parts = parts
        self._freeing = freeing

    def delete(self, checkpoint_id: str) -> Checkpoint:
        """Remove one checkpoint.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved
        Pinned
            It is pinned: unpin it first.
        """
        with self._parts.catalog.reading() as session:
            directory = live_checkpoint(session, checkpoint_id).directory
        with self._parts.catalog.lock(directory):
            with self._marking() as session:
                checkpoint = live_checkpoint(session, checkpoint_id)
                if checkpoint.facts.pinned:
                    raise Pinned(f"{directory}/{checkpoint.name} is pinned; unpin it before you delete it.")
                (removed,) = mark_removed(session, [checkpoint], "deleted", self._parts.clock())
            self._free([removed])
        with self._parts.catalog.reading() as session:
            return known_checkpoint(session, checkpoint_id)

    def clear(self, directory: str, *, include_pinned: bool = False) -> Cleared:
        """Remove all checkpoints that a directory holds at this moment; later commits stand."""
        with self._parts.catalog.lock(directory):
            with self._marking() as session:
                known_directory(session, directory)
                live = session.checkpoints.live(directory)
                pinned = [c for c in live if c.facts.pinned and not include_pinned]
                going = [c for c in live if c not in pinned]
                removed = mark_removed(session, going, "deleted", self._parts.clock())
            self._free(removed)
        return Cleared(removed, pinned)

    def prune(self, directory: str, *, dry_run: bool = False) -> Pruning:
        """Judge one directory by its policy, and remove what does not stay unless it is a dry run, which only reads."""
        if dry_run:
            return self.preview(directory)
        with self._parts.catalog.lock(directory):
            with self._marking() as session:
                known = known_directory(session, directory)
                pruning = Pruning(known, retention.judge(session.checkpoints.live(directory), known.policy))
                removed = mark_removed(session, pruning.going, "pruned", self._parts.clock())
            self._free(removed)
        return pruning

    def preview(self, directory: str, ordered: PolicyRequest | None = None) -> Pruning:
        """The verdicts on one directory by its policy, or if an operator had ordered that one; only reads.

        The policy of the answer's directory is the one that was judged by.

        Raises
        ------
        DirectoryNotFound
        """
        with self._parts.catalog.reading() as session:
            known = known_directory(session, directory)
            if ordered is not None:
                known = replace(known, policy=known.policy.after_order(ordered))
            return Pruning(known, retention.judge(session.checkpoints.live(directory), known.policy))

    def prune_below(self, prefix: str, *, dry_run: bool = False) -> list[Pruning]:
        """Judge every directory at or below a prefix."""
        with self._parts.catalog.reading() as session:
            directories = session.directories.below(prefix)
        return [self.prune(directory.name, dry_run=dry_run) for directory in directories]

    @contextmanager
    def _marking(self) -> Iterator[Session]:
        """A transaction that writes, in the space that was set aside if there is no other."""
        if self._parts.storage.drop_ballast():
            logger.warning("the disk is full: what was set aside for removals is used")
        with self._parts.catalog.writing() as session:
            yield session

    def _free(self, removed: Sequence[Checkpoint]) -> None:
        for checkpoint in removed:
            self._freeing.attempt(checkpoint)
        if removed:
            self._parts.bell.ring()
