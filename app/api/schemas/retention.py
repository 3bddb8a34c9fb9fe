"""Answers about what stays and what goes."""

from typing import Self

from pydantic import BaseModel, Field

from app.api.schemas.answers import CheckpointOut, PolicyOut
from app.core.models import Verdict
from app.service.lifecycle.remove import Cleared
from app.service.lifecycle.verdicts import Judgement


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
    """Verdicts on one directory, newest first.

    The counts and `freed_bytes` are those of the whole directory; where its verdicts go on from the page before, they
    are 0, so that sums over pages are right.
    """

    directory: str
    policy: PolicyOut
    verdicts: list[VerdictOut]
    stays: int
    goes: int
    freed_bytes: int

    @classmethod
    def of(cls, judgement: Judgement) -> Self:
        tally = judgement.tally
        return cls(
            directory=judgement.directory.name,
            policy=PolicyOut.of(judgement.directory.policy),
            verdicts=[VerdictOut.of(verdict) for verdict in judgement.verdicts],
            stays=tally.stays,
            goes=tally.goes,
            freed_bytes=tally.freed_bytes,
        )


class PruneOut(BaseModel):
    """What was removed, or in a dry run would be.

    A dry run comes in pages. A real run is done when it answers: its counts say all of it, and `omitted` how many
    verdicts, of the directories named or of further ones, are not listed.
    """

    dry_run: bool
    directories: list[DirectoryPruneOut]
    stays: int
    goes: int
    freed_bytes: int
    omitted: int
    next_page_token: str | None


class ClearedOut(BaseModel):
    """What was removed from a directory, and what stayed as it is pinned: counts, and up to 1,000 names of each."""

    removed: list[str]
    removed_count: int
    pinned: list[str]
    pinned_count: int
    freed_bytes: int
    directory_removed: bool = Field(False, description="It held none, and is gone itself.")

    @classmethod
    def of(cls, cleared: Cleared) -> Self:
        return cls(
            removed=list(cleared.removed),
            removed_count=cleared.removed_count,
            pinned=list(cleared.pinned),
            pinned_count=cleared.pinned_count,
            freed_bytes=cleared.freed_bytes,
            directory_removed=cleared.is_directory_removed,
        )
