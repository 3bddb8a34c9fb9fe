"""Facts of directories and checkpoints as a script reads them, with names in the user's form. Pure.

Unknown fields are ignored, and those that older servers do not send have defaults.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Self

from .._api.wire import Checkpoint

Shown = Callable[[str], str]
"""Returns the user's form of the server's name of a directory."""
_Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file of a checkpoint.

    Attributes
    ----------
    path : str
        Its path within the checkpoint.
    size_bytes : int
        Its size, in bytes.
    digest : str
        Its digest, in hex.
    """

    path: str
    size_bytes: int
    digest: str

    @classmethod
    def from_json(cls, data: _Json) -> Self:
        return cls(data["path"], data["size_bytes"], data["digest"])


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """The facts of a checkpoint, as the server had them when it was asked.

    Attributes
    ----------
    id : str
        Its id, which does not change.
    directory : str
        Its directory, in the user's form.
    name : str
        Its name in the directory.
    kind : str
        ``"regular"`` or ``"best"``.
    sequence : int
        The number of its commit in the directory.
    epoch, step : int or None
        Its epoch and its step.
    metric : float or None
        The value that ranks it.
    is_best : bool
        Whether it is flagged as one of the best.
    pinned : bool
        Whether it is pinned.
    tags : tuple of str
        Its tags.
    retention : str
        ``"policy"``, or ``"manual"`` if no policy removes it.
    metadata : mapping
        Its metadata, as JSON values.
    size_bytes : int
        The size, in bytes, of all its files.
    digest : str
        The digest of all its files, in hex.
    files : tuple of FileInfo
        Its files.
    created_at : datetime
        The time of its commit, in UTC.
    removed_at : datetime or None
        The time of its removal; None while it lives.
    removed_because : str or None
        ``"pruned"``, ``"replaced"``, ``"deleted"`` or ``"lost"``.
    restorable : bool
        Whether it was removed and can be restored.
    verified_at : datetime or None
        The time at which the server last read all its bytes back.
    damage : str or None
        The damage that the server found then, in words.
    server_directory : str
        The server's name of the directory: with the prefix.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "id",
        "directory",
        "name",
        "kind",
        "sequence",
        "epoch",
        "step",
        "metric",
        "is_best",
        "pinned",
        "tags",
        "retention",
        "size_bytes",
        "digest",
        "created_at",
        "removed_at",
        "removed_because",
        "restorable",
        "verified_at",
        "damage",
    )

    id: str
    directory: str
    name: str
    kind: str
    sequence: int
    epoch: int | None
    step: int | None
    metric: float | None
    is_best: bool
    pinned: bool
    tags: tuple[str, ...]
    retention: str
    metadata: Mapping[str, Any] = field(hash=False)
    size_bytes: int
    digest: str
    files: tuple[FileInfo, ...]
    created_at: datetime
    removed_at: datetime | None
    removed_because: str | None
    restorable: bool
    verified_at: datetime | None
    damage: str | None
    server_directory: str

    @property
    def path(self) -> str:
        """``DIRECTORY/NAME``, as `Client.checkpoint` takes it."""
        return f"{self.directory}/{self.name}"

    @classmethod
    def from_json(cls, data: _Json, shown: Shown) -> Self:
        found = Checkpoint.from_json(data)
        return cls(
            id=found.id,
            directory=shown(found.directory),
            name=found.name,
            kind=found.kind,
            sequence=found.sequence,
            epoch=found.epoch,
            step=found.step,
            metric=found.metric,
            is_best=found.is_best,
            pinned=found.pinned,
            tags=found.tags,
            retention=data.get("retention", "policy"),
            metadata=found.metadata,
            size_bytes=found.size_bytes,
            digest=found.digest,
            files=tuple(map(FileInfo.from_json, data.get("files", ()))),
            created_at=found.created_at,
            removed_at=_time(data.get("removed_at")),
            removed_because=data.get("removed_because"),
            restorable=data.get("restorable", False),
            verified_at=_time(data.get("verified_at")),
            damage=data.get("damage"),
            server_directory=found.directory,
        )

    def as_row(self) -> dict[str, Any]:
        """Return the facts as a row of a table: each metadata value is a column, and the files are left out."""
        row = {name: getattr(self, name) for name in self.COLUMNS}
        return {**row, **{f"metadata.{key}": value for key, value in self.metadata.items()}}


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """The policy of a directory; None for a limit keeps all that it covers.

    Attributes
    ----------
    mode : str or None
        ``"min"`` or ``"max"``; None if no save and no operator has named one.
    max_checkpoints, max_best_checkpoints : int or None
        The number of newest regular checkpoints, and of best checkpoints, that are kept.
    keep_every_epochs, keep_every_steps : int or None
        The intervals at which regular checkpoints are kept, too.
    set_by_operator : tuple of str
        The limits that an operator has set, which take precedence over those of saves.
    etag : str or None
        The tag of this policy, for ``if_match`` of `Client.set_policy`; None if the answer has none.
    """

    mode: str | None
    max_checkpoints: int | None
    max_best_checkpoints: int | None
    keep_every_epochs: int | None
    keep_every_steps: int | None
    set_by_operator: tuple[str, ...]
    etag: str | None

    @classmethod
    def from_json(cls, data: _Json, etag: str | None = None) -> Self:
        return cls(
            mode=data["mode"],
            max_checkpoints=data["max_checkpoints"],
            max_best_checkpoints=data["max_best_checkpoints"],
            keep_every_epochs=data.get("keep_every_epochs"),
            keep_every_steps=data.get("keep_every_steps"),
            set_by_operator=tuple(data.get("set_by_operator", ())),
            etag=etag,
        )


@dataclass(frozen=True, slots=True)
class DirectoryInfo:
    """The facts of a directory, as the server had them when it was asked.

    Attributes
    ----------
    name : str
        Its name, in the user's form.
    policy : PolicyInfo
        The policy in force.
    sequence : int
        The number of commits so far.
    count : int
        The number of checkpoints.
    size_bytes : int
        Their size, in bytes.
    latest, best : CheckpointInfo or None
        The latest and the best checkpoint.
    created_at : datetime
        The time of the first save, in UTC.
    server_name : str
        The server's name: with the prefix.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("name", "count", "size_bytes", "sequence", "created_at")

    name: str
    policy: PolicyInfo
    sequence: int
    count: int
    size_bytes: int
    latest: CheckpointInfo | None
    best: CheckpointInfo | None
    created_at: datetime
    server_name: str

    @classmethod
    def from_json(cls, data: _Json, shown: Shown) -> Self:
        latest, best = data["latest"], data["best"]
        return cls(
            name=shown(data["directory"]),
            policy=PolicyInfo.from_json(data["policy"], data.get("policy_etag")),
            sequence=data["sequence"],
            count=data["count"],
            size_bytes=data["size_bytes"],
            latest=CheckpointInfo.from_json(latest, shown) if latest else None,
            best=CheckpointInfo.from_json(best, shown) if best else None,
            created_at=datetime.fromisoformat(data["created_at"]),
            server_name=data["directory"],
        )

    def as_row(self) -> dict[str, Any]:
        """Return the facts as a row of a table, with those of the policy, and of the latest and the best checkpoint."""
        row = {name: getattr(self, name) for name in self.COLUMNS}
        row |= {f"policy.{name}": getattr(self.policy, name) for name in LIMITS}
        for which, found in (("latest", self.latest), ("best", self.best)):
            row |= {f"{which}.{fact}": getattr(found, fact, None) for fact in ("name", "metric", "created_at")}
        return row


LIMITS = ("mode", "max_checkpoints", "max_best_checkpoints", "keep_every_epochs", "keep_every_steps")
"""The fields of a policy that can be set."""


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
