"""Retention: decides which checkpoints of a directory a prune keeps, and why. Pure: no clock, disk or SQL."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from app.core import ranking
from app.core.models import Checkpoint, Facts, Mode, Policy


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason to keep a checkpoint: a stable code and, if the rule counts, its rank and the limit."""

    code: Literal["newest", "last", "best", "every", "every_steps", "pinned", "unlimited", "manual"]
    rank: int | None = None
    limit: int | None = None

    def __str__(self) -> str:
        if self.code in {"every", "every_steps"}:
            return f"every {self.limit} {'epochs' if self.code == 'every' else 'steps'}"
        if self.rank is None:
            return self.code
        return f"{self.code} {self.rank}" + (f" of {self.limit}" if self.limit is not None else "")


@dataclass(frozen=True, slots=True)
class Rank:
    """The ranks of a live checkpoint in its directory, from 1.

    ``last`` counts regular checkpoints by position, ``best`` those that can be ranked. None if the checkpoint is not
    among them, or is beyond all that the policy keeps.
    """

    is_newest: bool
    last: int | None
    best: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One checkpoint and the reasons to keep it. Without a reason it may be removed."""

    checkpoint: Checkpoint
    reasons: tuple[Reason, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


NOTHING: tuple[int, ...] = (-1,)
"""A boundary that no checkpoint reaches, as the policy keeps none by this rank."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """The last checkpoints that stay by a rank when a directory is judged; None for a rank by which all stay.

    ``settings`` are those of the policy, ``last`` is the position of a regular checkpoint, ``best`` a key of the
    ranking, which ascends from the best one on.
    """

    settings: tuple[str | int | None, ...]
    newest: str | None
    last: tuple[int, ...] | None
    best: tuple[float, ...] | None

    def reach_last(self, position: tuple[int, ...]) -> bool:
        """Tell if a regular checkpoint at this position is among the last ones that stay."""
        return self.last is None or (self.last != NOTHING and _is_at_most(self.last, position))

    def reach_best(self, key: tuple[float, ...]) -> bool:
        """Tell if a checkpoint with this key is among the best ones that stay."""
        return self.best is None or _is_at_most(key, self.best)


def judge(checkpoints: Iterable[Checkpoint], policy: Policy) -> tuple[Verdict, ...]:
    """Return a verdict on each checkpoint, newest first.

    The kept ones are a union: the last ``max_checkpoints`` regular ones by position, the best
    ``max_best_checkpoints`` of all kinds, pinned ones, and regular ones of every ``keep_every_epochs``-th epoch and
    every ``keep_every_steps``-th step. The newest is always kept. A policy without either limit keeps everything.
    Manual ones are always kept, and have no rank.
    """
    newest_first = sorted(checkpoints, key=ranking.position, reverse=True)
    found = ranks(newest_first, policy.ranks_by)
    return tuple(
        Verdict(checkpoint, reasons(checkpoint.facts, found[checkpoint.id], policy)) for checkpoint in newest_first
    )


def reasons(facts: Facts, rank: Rank, policy: Policy) -> tuple[Reason, ...]:
    """Return the reasons to keep a checkpoint with this rank; empty if it may be removed."""
    last, best = policy.max_checkpoints, policy.max_best_checkpoints
    found = []
    if facts.is_manual:
        found.append(Reason("manual"))
    if rank.is_newest:
        found.append(Reason("newest"))
    if policy.keeps_everything:
        found.append(Reason("unlimited"))
    if rank.last is not None and (last is None or rank.last <= last):
        found.append(Reason("last", rank.last, last))
    if rank.best is not None and (best is None or rank.best <= best):
        found.append(Reason("best", rank.best, best))
    if _falls_on(facts, facts.epoch, policy.keep_every_epochs):
        found.append(Reason("every", limit=policy.keep_every_epochs))
    if _falls_on(facts, facts.step, policy.keep_every_steps):
        found.append(Reason("every_steps", limit=policy.keep_every_steps))
    if facts.pinned:
        found.append(Reason("pinned"))
    return tuple(found)


def ranks(newest_first: list[Checkpoint], mode: Mode) -> Mapping[str, Rank]:
    """Return the rank of each live checkpoint of a directory, by id; manual ones do not count."""
    counted = [checkpoint for checkpoint in newest_first if not checkpoint.facts.is_manual]
    regular = [checkpoint for checkpoint in counted if checkpoint.facts.kind == "regular"]
    last = {checkpoint.id: number for number, checkpoint in enumerate(regular, start=1)}
    best = {checkpoint.id: number for number, checkpoint in enumerate(ranking.ranked(counted, mode), start=1)}
    newest = counted[0].id if counted else None
    return {
        checkpoint.id: Rank(checkpoint.id == newest, last.get(checkpoint.id), best.get(checkpoint.id))
        for checkpoint in newest_first
    }


def _is_at_most(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Compare keys; true for those of rows that hold other values than numbers, so that these are left alone."""
    try:
        return first <= second
    except TypeError:
        return True


def _falls_on(facts: Facts, counter: int | None, every: int | None) -> bool:
    """Tell if a policy keeps a checkpoint for its epoch or its step. A manual one needs no such reason."""
    is_counted = facts.kind == "regular" and not facts.is_manual
    return every is not None and is_counted and counter is not None and counter % every == 0
