"""Answers about what stays and what goes."""

from typing import Self

from pydantic import BaseModel

from app.api.schemas.answers import CheckpointOut, PolicyOut
from app.checkpoints.removing import Cleared, Pruning
from app.domain import Verdict


class ReasonOut(BaseModel):
    """Why a checkpoint stays: a stable code, its place under that rule, the rule's limit, and all of it in words."""

    code: str
    place: int | None
    limit: int | None
    text: str


class VerdictOut(BaseModel):
    """One checkpoint and why it stays; without a reason it goes."""

    checkpoint: CheckpointOut
    stays: bool
    reasons: list[ReasonOut]

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        return cls(
            checkpoint=CheckpointOut.of(verdict.checkpoint),
            stays=verdict.stays,
            reasons=[
                ReasonOut(code=reason.code, place=reason.place, limit=reason.limit, text=str(reason))
                for reason in verdict.reasons
            ],
        )


class DirectoryPruneOut(BaseModel):
    """The verdicts on one directory, newest first."""

    directory: str
    policy: PolicyOut
    verdicts: list[VerdictOut]
    freed_bytes: int

    @classmethod
    def of(cls, pruning: Pruning) -> Self:
        return cls(
            directory=pruning.directory.name,
            policy=PolicyOut.of(pruning.directory.policy),
            verdicts=[VerdictOut.of(verdict) for verdict in pruning.verdicts],
            freed_bytes=sum(checkpoint.size_bytes for checkpoint in pruning.going),
        )


class PruneOut(BaseModel):
    """What was removed, or in a dry run would be."""

    dry_run: bool
    directories: list[DirectoryPruneOut]
    freed_bytes: int


class ClearedOut(BaseModel):
    """What was removed from a directory, and the names of what stayed because it is pinned."""

    removed: list[str]
    pinned: list[str]
    freed_bytes: int

    @classmethod
    def of(cls, cleared: Cleared) -> Self:
        return cls(
            removed=[checkpoint.name for checkpoint in cleared.removed],
            pinned=[checkpoint.name for checkpoint in cleared.pinned],
            freed_bytes=sum(checkpoint.size_bytes for checkpoint in cleared.removed),
        )
