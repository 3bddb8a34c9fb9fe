"""State transitions of checkpoints that several use cases record: the row, the event and the directory's policy."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from app.catalog import CheckpointIdentity, Session
from app.catalog.reports import judgement
from app.catalog.rows.uploads import Saved
from app.core.models import Checkpoint, Directory, Policy, PolicyRequest, RemovedBecause
from app.service.state.context import Context

logger = logging.getLogger("holdfast")


def mark_removed(
    session: Session, checkpoints: Iterable[Checkpoint], because: RemovedBecause, at: datetime
) -> list[Checkpoint]:
    """Mark checkpoints as removed and record the events, within the caller's transaction."""
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


def note_restored(session: Session, restored: Checkpoint, at: datetime) -> None:
    """Record the event that a removed checkpoint is live again, within the caller's transaction."""
    session.events.add(
        "checkpoint.restored",
        at=at,
        directory=restored.directory,
        checkpoint_id=restored.id,
        name=restored.name,
        pinned=restored.facts.pinned,
    )


def note_verified(context: Context, checkpoint: Checkpoint | CheckpointIdentity, damage: str | None) -> None:
    """Record the result of reading a checkpoint back, with an event if it is new; not if the checkpoint was removed."""
    with context.catalog.lock(checkpoint.directory), context.catalog.writing() as session:
        if not session.checkpoints.mark_verified(checkpoint.id, context.clock(), damage):
            return
        found: dict[str, Any] = {"damage": damage} if damage else {}
        session.events.add(
            "checkpoint.damaged" if damage else "checkpoint.intact",
            at=context.clock(),
            directory=checkpoint.directory,
            checkpoint_id=checkpoint.id,
            name=checkpoint.name,
            **found,
        )
    if damage:
        logger.error("%s/%s is damaged: %s", checkpoint.directory, checkpoint.name, damage)
    context.notifier.notify()


def record_save(session: Session, upload_id: str, checkpoint: Checkpoint, *, at: datetime) -> None:
    """Record the save that became a checkpoint, and its event, within the caller's transaction."""
    saved = Saved(upload_id, checkpoint.id, checkpoint.digest)
    session.uploads.add_save(checkpoint.directory, checkpoint.save_id, saved)
    session.events.add(
        "checkpoint.saved",
        at=at,
        directory=checkpoint.directory,
        checkpoint_id=checkpoint.id,
        name=checkpoint.name,
        sequence=checkpoint.sequence,
    )


def live_count(session: Session, directory: str, policy: Policy) -> int | None:
    """Give the number of live checkpoints of a directory, if a judgement by this policy gains by it."""
    return session.counters.totals(directory).count if judgement.is_count_worthwhile(policy) else None


def policy_after(session: Session, directory: Directory, checkpoint: Checkpoint, asked: PolicyRequest) -> Policy:
    """Give the policy after a commit. A late delivery does not undo the limits of newer saves."""
    policy = directory.policy
    if policy.after_save(asked) == policy and asked.mode in {None, policy.mode}:
        return policy
    latest = session.checkpoints.latest(directory.name)
    is_late = latest is not None and checkpoint.saved_after < latest.saved_after
    is_first = latest is None and directory.sequence > 0
    return policy.after_save(replace(asked, limits={}) if is_late else asked, is_first=is_first)


def lost_directory(checkpoint: Checkpoint) -> Directory:
    """Make the directory of a checkpoint whose row the catalog has lost."""
    return Directory(checkpoint.directory, checkpoint.created_at)
