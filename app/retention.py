"""Which checkpoints of a directory stay when it is pruned, and why. Pure: no clock, disk or SQL."""

from collections.abc import Iterable

from app import ranking
from app.domain import Checkpoint, Policy, Reason, Verdict


def judge(checkpoints: Iterable[Checkpoint], policy: Policy) -> tuple[Verdict, ...]:
    """A verdict on each checkpoint, newest first.

    What stays is a union: the last ``max_checkpoints`` regular ones by position, the best ``max_best_checkpoints`` of
    all kinds, pinned ones, and regular ones of every ``keep_every_epochs``-th epoch. The newest always stays. A policy
    without either limit keeps everything.
    """
    newest_first = sorted(checkpoints, key=ranking.position, reverse=True)
    reasons: dict[str, list[Reason]] = {checkpoint.id: [] for checkpoint in newest_first}
    if newest_first:
        reasons[newest_first[0].id].append(Reason("newest"))
    if policy.keeps_everything:
        for checkpoint in newest_first:
            reasons[checkpoint.id].append(Reason("unlimited"))
    _give(reasons, "last", [c for c in newest_first if c.facts.kind == "regular"], policy.max_checkpoints)
    _give(reasons, "best", ranking.ranked(newest_first, policy.ranks_by), policy.max_best_checkpoints)
    for checkpoint in newest_first:
        if _falls_on(checkpoint, policy.keep_every_epochs):
            reasons[checkpoint.id].append(Reason("every", limit=policy.keep_every_epochs))
        if checkpoint.facts.pinned:
            reasons[checkpoint.id].append(Reason("pinned"))
    return tuple(Verdict(checkpoint, tuple(reasons[checkpoint.id])) for checkpoint in newest_first)


def _give(reasons: dict[str, list[Reason]], code: str, ordered: list[Checkpoint], limit: int | None) -> None:
    for place, checkpoint in enumerate(ordered[:limit], start=1):
        reasons[checkpoint.id].append(Reason(code, place, limit))  # type: ignore[arg-type]


def _falls_on(checkpoint: Checkpoint, every: int | None) -> bool:
    epoch = checkpoint.facts.epoch
    return every is not None and checkpoint.facts.kind == "regular" and epoch is not None and epoch % every == 0
