"""Which checkpoints of a directory stay when it is pruned, and why. Pure: no clock, disk or SQL."""

from collections.abc import Iterable, Mapping

from app.core import ranking
from app.core.models import Checkpoint, Facts, Mode, Place, Policy, Reason, Verdict


def judge(checkpoints: Iterable[Checkpoint], policy: Policy) -> tuple[Verdict, ...]:
    """A verdict on each checkpoint, newest first.

    What stays is a union: the last ``max_checkpoints`` regular ones by position, the best ``max_best_checkpoints`` of
    all kinds, pinned ones, and regular ones of every ``keep_every_epochs``-th epoch. The newest always stays. A policy
    without either limit keeps everything.
    """
    newest_first = sorted(checkpoints, key=ranking.position, reverse=True)
    found = places(newest_first, policy.ranks_by)
    return tuple(
        Verdict(checkpoint, reasons(checkpoint.facts, found[checkpoint.id], policy)) for checkpoint in newest_first
    )


def reasons(facts: Facts, place: Place, policy: Policy) -> tuple[Reason, ...]:
    """Why a checkpoint stays that has this place; nothing where it may go."""
    last, best, every = policy.max_checkpoints, policy.max_best_checkpoints, policy.keep_every_epochs
    found = []
    if place.is_newest:
        found.append(Reason("newest"))
    if policy.keeps_everything:
        found.append(Reason("unlimited"))
    if place.last is not None and (last is None or place.last <= last):
        found.append(Reason("last", place.last, last))
    if place.best is not None and (best is None or place.best <= best):
        found.append(Reason("best", place.best, best))
    if _falls_on(facts, every):
        found.append(Reason("every", limit=every))
    if facts.pinned:
        found.append(Reason("pinned"))
    return tuple(found)


def leaves_at_next_save(facts: Facts, place: Place, policy: Policy, *, of_a_better_one: bool) -> bool:
    """Whether the next regular save, perhaps of the best checkpoint so far, takes the last reason to stay.

    A save brings its manager's limits; this is by the policy as it is.
    """
    last = place.last + 1 if place.last is not None else None
    best = place.best + of_a_better_one if place.best is not None else None
    return not reasons(facts, Place(False, last, best), policy)


def places(newest_first: list[Checkpoint], mode: Mode) -> Mapping[str, Place]:
    """The place of each live checkpoint of a directory, by id."""
    regular = [checkpoint for checkpoint in newest_first if checkpoint.facts.kind == "regular"]
    last = {checkpoint.id: number for number, checkpoint in enumerate(regular, start=1)}
    best = {checkpoint.id: number for number, checkpoint in enumerate(ranking.ranked(newest_first, mode), start=1)}
    return {
        checkpoint.id: Place(age == 0, last.get(checkpoint.id), best.get(checkpoint.id))
        for age, checkpoint in enumerate(newest_first)
    }


def _falls_on(facts: Facts, every: int | None) -> bool:
    return every is not None and facts.kind == "regular" and facts.epoch is not None and facts.epoch % every == 0
