"""Responses about directories and checkpoints."""

from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from app.api.schemas.values import NumberOut
from app.core.models import Checkpoint, File, Kind, Mode, Policy, RemovedBecause, Retention
from app.service.lifecycle.remove import MOST_NAMED
from app.service.query.lookup import Summary
from app.service.state.pending_commits import Committed


class FileOut(BaseModel):
    """A file of a checkpoint. `stored_at` is its path below the server's root."""

    path: str
    size_bytes: int
    digest: str
    stored_at: str
    url: str

    @classmethod
    def of(cls, checkpoint: Checkpoint, file: File) -> Self:
        return cls(
            path=file.path,
            size_bytes=file.size_bytes,
            digest=file.digest,
            stored_at=checkpoint.stored_at(file),
            url=file_url(checkpoint, file),
        )


class CheckpointOut(BaseModel):
    """A checkpoint and its facts."""

    id: str
    directory: str
    name: str
    kind: Kind
    sequence: int
    saved_after: int
    save_id: str
    epoch: int | None
    step: int | None
    metric: NumberOut
    is_best: bool
    pinned: bool
    tags: list[str]
    retention: Retention
    metadata: dict[str, Any]
    size_bytes: int
    digest: str
    files: list[FileOut]
    created_at: datetime
    removed_at: datetime | None
    removed_because: RemovedBecause | None
    restorable: bool = Field(description="True if it was removed and can be restored.")
    verified_at: datetime | None = Field(description="Time of the last read-back of all its bytes.")
    damage: str | None = Field(description="Description of the corruption found at the last read-back.")

    @classmethod
    def of(cls, checkpoint: Checkpoint, **more: Any) -> Self:
        facts = checkpoint.facts
        return cls(
            id=checkpoint.id,
            directory=checkpoint.directory,
            name=checkpoint.name,
            kind=facts.kind,
            sequence=checkpoint.sequence,
            saved_after=checkpoint.saved_after,
            save_id=checkpoint.save_id,
            epoch=facts.epoch,
            step=facts.step,
            metric=facts.metric,
            is_best=facts.is_best,
            pinned=facts.pinned,
            tags=list(facts.tags),
            retention=facts.retention,
            metadata=dict(facts.metadata),
            size_bytes=checkpoint.size_bytes,
            digest=checkpoint.digest,
            files=[FileOut.of(checkpoint, file) for file in checkpoint.files],
            created_at=checkpoint.created_at,
            removed_at=checkpoint.removed_at,
            removed_because=checkpoint.removed_because,
            restorable=checkpoint.restorable,
            verified_at=checkpoint.verified_at,
            damage=checkpoint.damage,
            **more,
        )


class BestOut(CheckpointOut):
    """The best checkpoint, and its ranking. `own_mode` is false if the mode is not that of the directory's policy."""

    ranked_by: str
    mode: Mode
    own_mode: bool


class PolicyOut(BaseModel):
    """The policy in force. `set_by_operator` lists the limits that an operator has set."""

    mode: Mode | None
    max_checkpoints: int | None
    max_best_checkpoints: int | None
    keep_every_epochs: int | None
    keep_every_steps: int | None
    set_by_operator: list[str]

    @classmethod
    def of(cls, policy: Policy) -> Self:
        return cls(
            mode=policy.mode,
            max_checkpoints=policy.max_checkpoints,
            max_best_checkpoints=policy.max_best_checkpoints,
            keep_every_epochs=policy.keep_every_epochs,
            keep_every_steps=policy.keep_every_steps,
            set_by_operator=sorted(policy.operator),
        )


class ReplacedOut(BaseModel):
    """A checkpoint of another writer that this save replaced."""

    id: str
    name: str
    writer: str | None
    sequence: int
    created_at: datetime


class CommittedOut(CheckpointOut):
    """A committed, durable checkpoint, and the other effects of its commit."""

    policy: PolicyOut
    removed: list[str] = Field(description="Names of up to 1,000 checkpoints that this commit replaced or pruned.")
    removed_count: int = Field(description="Number of checkpoints that this commit replaced or pruned.")
    other_writer: str | None = Field(description="Another writer that saved to this directory recently.")
    repeated: bool = Field(description="True if the same save was already committed.")
    replaced: ReplacedOut | None = Field(
        description="The checkpoint of another writer under this name, saved recently or since this save was reserved."
    )

    @classmethod
    def from_commit(cls, committed: Committed) -> Self:
        return cls.of(
            committed.checkpoint,
            policy=PolicyOut.of(committed.policy),
            removed=[checkpoint.name for checkpoint in committed.removed[:MOST_NAMED]],
            removed_count=len(committed.removed),
            other_writer=committed.other_writer,
            repeated=committed.repeated,
            replaced=_replaced(committed),
        )


def _replaced(committed: Committed) -> ReplacedOut | None:
    if committed.replaced is None:
        return None
    old, writer = committed.replaced.checkpoint, committed.replaced.writer
    return ReplacedOut(id=old.id, name=old.name, writer=writer, sequence=old.sequence, created_at=old.created_at)


class CheckpointPage(BaseModel):
    """A page of checkpoints. `next_page_token` is null on the last page."""

    checkpoints: list[CheckpointOut]
    next_page_token: str | None


class DirectoryOut(BaseModel):
    """A directory: its policy, totals, latest and best checkpoint."""

    directory: str
    policy: PolicyOut
    policy_etag: str = Field(description="ETag of the policy in force, for `If-Match` of a `PUT`.")
    sequence: int
    count: int
    size_bytes: int
    latest: CheckpointOut | None
    best: CheckpointOut | None
    created_at: datetime

    @classmethod
    def of(cls, summary: Summary) -> Self:
        directory = summary.directory
        return cls(
            directory=directory.name,
            policy=PolicyOut.of(directory.policy),
            policy_etag=directory.policy.etag,
            sequence=directory.sequence,
            count=summary.totals.count,
            size_bytes=summary.totals.size_bytes,
            latest=CheckpointOut.of(summary.latest) if summary.latest else None,
            best=CheckpointOut.of(summary.best) if summary.best else None,
            created_at=directory.created_at,
        )


class DirectoryPage(BaseModel):
    """A page of directories. `next_page_token` is null on the last page."""

    directories: list[DirectoryOut]
    next_page_token: str | None


def file_url(checkpoint: Checkpoint, file: File) -> str:
    """Return the URL of a file, relative to the server."""
    return f"/v1/checkpoints/{checkpoint.id}/files/{quote(file.path)}"
