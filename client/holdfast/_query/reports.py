"""What a prune decides, and what a stream of events brings, as a script reads it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from .infos import CheckpointInfo, PolicyInfo, Shown

_Json = Mapping[str, Any]
_KNOWN = {"id", "at", "type", "directory", "checkpoint_id"}


@dataclass(frozen=True, slots=True)
class Event:
    """A change on the server.

    Attributes
    ----------
    id : int
        Its id. Ids only grow; `Client.watch` continues after one.
    at : datetime
        The time of the change, in UTC.
    type : str
        The kind of change, such as ``"checkpoint.saved"``.
    directory : str
        Its directory, in the user's form; empty for a change of the whole server.
    checkpoint_id : str or None
        The id of the checkpoint that changed.
    data : mapping
        Further facts by the type of the event, such as ``name``.
    """

    id: int
    at: datetime
    type: str
    directory: str
    checkpoint_id: str | None
    data: Mapping[str, Any] = field(hash=False)

    @classmethod
    def from_json(cls, data: _Json, shown: Shown) -> Self:
        return cls(
            id=data["id"],
            at=datetime.fromisoformat(data["at"]),
            type=data["type"],
            directory=shown(data["directory"]),
            checkpoint_id=data.get("checkpoint_id"),
            data={name: value for name, value in data.items() if name not in _KNOWN},
        )


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason to keep a checkpoint.

    Attributes
    ----------
    code : str
        A stable word for the rule, such as ``"last"`` or ``"pinned"``.
    place, limit : int or None
        The checkpoint's place under the rule, and the rule's limit.
    text : str
        The same in words, such as ``"last 1 of 3"``.
    """

    code: str
    place: int | None
    limit: int | None
    text: str

    @classmethod
    def from_json(cls, data: _Json) -> Self:
        return cls(data["code"], data.get("place"), data.get("limit"), data["text"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """A checkpoint, and the reasons to keep it; it goes if there is none.

    Attributes
    ----------
    checkpoint : CheckpointInfo
    reasons : tuple of Reason
    """

    checkpoint: CheckpointInfo
    reasons: tuple[Reason, ...]

    @property
    def stays(self) -> bool:
        """True if there is a reason to keep it."""
        return bool(self.reasons)

    @classmethod
    def from_json(cls, data: _Json, shown: Shown) -> Self:
        return cls(CheckpointInfo.from_json(data["checkpoint"], shown), tuple(map(Reason.from_json, data["reasons"])))


@dataclass(frozen=True, slots=True)
class DirectoryPrune:
    """The verdicts on one directory.

    Attributes
    ----------
    directory : str
        Its name, in the user's form.
    policy : PolicyInfo
        The policy that decided.
    verdicts : tuple of Verdict
        The verdicts, newest checkpoint first.
    stays, goes : int
        The number of checkpoints that stay, and that go.
    freed_bytes : int
        The size, in bytes, of those that go.
    """

    directory: str
    policy: PolicyInfo
    verdicts: tuple[Verdict, ...]
    stays: int
    goes: int
    freed_bytes: int

    @classmethod
    def from_json(cls, data: _Json, shown: Shown) -> Self:
        verdicts = tuple(Verdict.from_json(verdict, shown) for verdict in data["verdicts"])
        policy = PolicyInfo.from_json(data["policy"])
        return cls(shown(data["directory"]), policy, verdicts, data["stays"], data["goes"], data["freed_bytes"])


@dataclass(frozen=True, slots=True)
class PruneResult:
    """The effect of a prune; of a dry run, the effect that it would have.

    Attributes
    ----------
    dry_run : bool
        Whether nothing was removed.
    directories : tuple of DirectoryPrune
        The verdicts, by directory.
    stays, goes : int
        The number of checkpoints that stay, and that go, in all directories.
    freed_bytes : int
        The size, in bytes, of those that go.
    omitted : int
        The number of verdicts that the answer does not list: a run that removes lists 1000. A dry run lists all.
    """

    dry_run: bool
    directories: tuple[DirectoryPrune, ...]
    stays: int
    goes: int
    freed_bytes: int
    omitted: int

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of all directories, one after another."""
        return tuple(verdict for each in self.directories for verdict in each.verdicts)

    @classmethod
    def from_json(cls, data: _Json, shown: Shown) -> Self:
        return cls(
            dry_run=data["dry_run"],
            directories=tuple(DirectoryPrune.from_json(each, shown) for each in data["directories"]),
            stays=data["stays"],
            goes=data["goes"],
            freed_bytes=data["freed_bytes"],
            omitted=data.get("omitted", 0),
        )
