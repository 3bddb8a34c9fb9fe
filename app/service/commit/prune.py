"""Prunes after a commit: marks the checkpoints that the policy does not keep as removed."""

from collections.abc import Iterable
from datetime import datetime

from app.catalog import Session
from app.catalog.reports import judgement
from app.core.models import Checkpoint, Directory
from app.core.retention import Boundaries
from app.service.state.transitions import live_count, mark_removed


def prune(
    session: Session, directory: Directory, before: Boundaries | None, changed: Iterable[str], at: datetime
) -> list[Checkpoint]:
    """Mark the checkpoints that the policy does not keep as removed, within the caller's transaction, and give them.

    The same as those that `core.retention.judge` finds among all, which a test compares, except that a row that cannot
    be read keeps its rank.

    Parameters
    ----------
    before : Boundaries or None
        Those of the last judgement, which end when the directory is put.
    changed : iterable of str
        The checkpoints that this transaction has added.
    """
    if directory.policy.keeps_everything:
        return []
    counted = live_count(session, directory.name, directory.policy)
    found = judgement.judge(session.connection, directory.name, directory.policy, before, changed, live_count=counted)
    removed = mark_removed(session, session.checkpoints.some([row.id for row in found.going]), "pruned", at)
    if found.boundaries is not None:
        session.directories.put_judged(directory.name, found.boundaries)
        session.checkpoints.mark_judged(directory.name)
    return removed
