"""Which checkpoints of a directory stay when it is pruned, and why. Pure: no clock, disk or SQL."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from app.core import ranking
from app.core.models import Checkpoint, Facts, Mode, Policy


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a checkpoint stays: a stable code and, where the rule counts, the place it holds and the limit."""

    code: Literal["newest", "last", "best", "every", "pinned", "unlimited"]
    place: int | None = None
    limit: int | None = None

    def __str__(self) -> str:
        if self.code == "every":
            return f"every {self.limit} epochs"
        if self.place is None:
            return self.code
        return f"{self.code} {self.place}" + (f" of {self.limit}" if self.limit is not None else "")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a live checkpoint stands in its directory: the newest or not, and its number, from 1, in each order.

    ``last`` counts regular ones by position, ``best`` those that can be ranked; None where it does not count, or where
    it is beyond all that is kept.
    """

    is_newest: bool
    last: int | None
    best: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One checkpoint and the reasons why it stays. No reason: it may go."""

    checkpoint: Checkpoint
    reasons: tuple[Reason, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


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
