"""Admission checks for a save, run before any bytes are sent and again at commit."""

from collections.abc import Callable
from dataclasses import dataclass

from app.catalog import Session
from app.core import ranking
from app.core.errors import ForeignFile, ModeConflict, NameTaken, NotImproved, Pinned, Superseded
from app.core.models import NO_PRECONDITION, Checkpoint, Directory, Precondition, Save
from app.service.state.get_or_refuse import require_expected
from app.storage.ports import ContentStore


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of a request on the commit that it asks for.

    Parameters
    ----------
    precondition : Precondition
        The expectation of this request, beside the one that came with the save.
    still_may : callable
        Raises if the request's token was revoked or has expired: the body may have taken hours. Reads the catalog, so
        it is never called within a session: those are few, and commits that each wait for a second one never end.
    """

    precondition: Precondition = NO_PRECONDITION
    still_may: Callable[[], None] = lambda: None

    def check(self, save: Save, current: Checkpoint | None) -> None:
        """Check the preconditions of save and request against the live checkpoint of that name, if any.

        Raises
        ------
        PreconditionFailed
        """
        for precondition in (save.precondition, self.precondition):
            require_expected(precondition, save.directory, save.name, current)


UNCONDITIONAL = Conditions()


def admit_save(
    session: Session,
    content: ContentStore,
    directory: Directory,
    save: Save,
    digest: str | None,
    conditions: Conditions = UNCONDITIONAL,
) -> Checkpoint | None:
    """Admit a save, and give the live checkpoint that has its name already, if any.

    Parameters
    ----------
    digest : str, optional
        The digest of the save's content, once it is known.

    Raises
    ------
    PreconditionFailed, Unauthorized, Forbidden
        The conditions do not hold.
    Pinned, Superseded, ModeConflict, NameTaken, ForeignFile, NotImproved
    """
    current = session.checkpoints.named(save.directory, save.name)
    conditions.check(save, current)
    if current is not None and current.facts.pinned and digest is not None and digest != current.digest:
        raise Pinned(
            f"{save.directory}/{save.name} is pinned and is not replaced by other content.", checkpoint_id=current.id
        )
    if current is not None and save.saved_after is not None and save.saved_after < current.saved_after:
        raise Superseded(
            f"{save.directory}/{save.name} was saved again since this save was made, and is not replaced by it.",
            checkpoint_id=current.id,
        )
    _refuse_mode(session, directory, save)
    if session.directories.anything_below(f"{save.directory}/{save.name}"):
        raise NameTaken(f"{save.name!r} cannot be a checkpoint of {save.directory!r}: a directory has that name.")
    conflict = content.conflict(save.directory, save.name, current)
    if conflict and not session.checkpoints.to_move_to_trash(save.directory, save.name):
        raise ForeignFile(f"{conflict} exists and was not written by this server; it is not overwritten.")
    if save.only_if_improved:
        _refuse_unimproved(session, directory, save)
    return current


def may_change_mode(session: Session, directory: Directory) -> bool:
    """Tell if a save may bring another mode: the directory was saved to, and is empty now.

    The mode of a directory that was never saved to was set by an operator.
    """
    return directory.sequence > 0 and session.checkpoints.latest(directory.name) is None


def _refuse_mode(session: Session, directory: Directory, save: Save) -> None:
    asked, stored = save.policy.mode, directory.policy.mode
    if asked is None or stored is None or asked == stored:
        return
    if not may_change_mode(session, directory):
        raise ModeConflict(
            f"{save.directory!r} ranks by mode={stored!r}; a save with mode={asked!r} is refused.", mode=stored
        )


def _refuse_unimproved(session: Session, directory: Directory, save: Save) -> None:
    mode = directory.policy.mode or save.policy.mode or "min"
    best = session.checkpoints.best(save.directory, mode)
    best_metric = best.facts.metric if best is not None else None
    if not ranking.improves(save.facts.metric, best_metric, mode):
        raise NotImproved(
            "`only_if_improved` compares metrics, and this save has none that is a number: give it a metric."
            if ranking.finite(save.facts.metric) is None
            else f"A metric of {save.facts.metric} is not better than {best_metric} (mode={mode!r}).",
            best_metric=best_metric,
            best_id=best.id if best is not None else None,
        )
