"""Responses about pruning: verdicts, reasons and removed checkpoints."""

from typing import Self

from pydantic import BaseModel, Field

from app.api.schemas.checkpoints import CheckpointOut, PolicyOut
from app.core.retention import Verdict
from app.service.lifecycle.remove import Cleared
from app.service.lifecycle.retention_verdicts import VerdictPage


class ReasonOut(BaseModel):
    """The reason for keeping a checkpoint: a stable code, its rank under the rule, the rule's limit, and a text."""

    code: str
    place: int | None
    limit: int | None
    text: str


class VerdictOut(BaseModel):
    """A checkpoint and the reasons for keeping it. Without a reason it is removed."""

    checkpoint: CheckpointOut
    stays: bool
    reasons: list[ReasonOut]

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        return cls(
            checkpoint=CheckpointOut.of(verdict.checkpoint),
            stays=verdict.stays,
            reasons=[
                ReasonOut(code=reason.code, place=reason.rank, limit=reason.limit, text=str(reason))
                for reason in verdict.reasons
            ],
        )


class DirectoryPruneOut(BaseModel):
    """Verdicts on one directory, newest first.

    The counts and `freed_bytes` cover the whole directory. If the verdicts continue from the previous page they are 0,
    so that sums over pages are correct.
    """

    directory: str
    policy: PolicyOut
    verdicts: list[VerdictOut]
    stays: int
    goes: int
    freed_bytes: int

    @classmethod
    def of(cls, page: VerdictPage) -> Self:
        tally = page.tally
        return cls(
            directory=page.directory.name,
            policy=PolicyOut.of(page.directory.policy),
            verdicts=[VerdictOut.of(verdict) for verdict in page.verdicts],
            stays=tally.stays,
            goes=tally.goes,
            freed_bytes=tally.freed_bytes,
        )


class PruneOut(BaseModel):
    """The checkpoints that a run removed, or that a dry run would remove.

    A dry run has pages. A real run is complete when it answers: its counts cover everything, and `omitted` is the
    number of verdicts that are not listed.
    """

    dry_run: bool
    directories: list[DirectoryPruneOut]
    stays: int
    goes: int
    freed_bytes: int
    omitted: int
    next_page_token: str | None


class ClearedOut(BaseModel):
    """The checkpoints removed from a directory, and those kept as pinned: counts, and up to 1,000 names of each."""

    removed: list[str]
    removed_count: int
    pinned: list[str]
    pinned_count: int
    freed_bytes: int
    directory_removed: bool = Field(False, description="True if the directory itself was removed, as it was empty.")

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
