"""The API's JSON as frozen values. Unknown keys are ignored, so that newer servers may send more. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from .._runtime.file_attributes import FileAttributes
from .._runtime.interruption import reraise
from ..errors import from_problem

if TYPE_CHECKING:
    from .small_answer import Attached

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_URL = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as the server describes it."""

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
    metadata: Mapping[str, Any]
    size_bytes: int
    digest: str
    created_at: datetime
    saved_after: int = 0
    save_id: str = ""
    is_folder: bool = False
    """Whether it is other than one file of its own name."""
    attached: "Attached | None" = field(default=None, compare=False, repr=False)
    """Its contents, if the server has sent them with its facts."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], attached: "Attached | None" = None) -> Self:
        return cls(
            id=data["id"],
            directory=data["directory"],
            name=data["name"],
            kind=data["kind"],
            sequence=data["sequence"],
            epoch=data["epoch"],
            step=_step(data),
            metric=float(data["metric"]) if data["metric"] is not None else None,
            is_best=data["is_best"],
            pinned=data["pinned"],
            tags=tuple(data["tags"]),
            metadata=data["metadata"],
            size_bytes=data["size_bytes"],
            digest=data["digest"],
            created_at=datetime.fromisoformat(data["created_at"]),
            saved_after=data.get("saved_after", data["sequence"] - 1),
            save_id=data.get("save_id", ""),
            is_folder=[file["path"] for file in data.get("files", ())] not in ([], [data["name"]]),
            attached=attached,
        )

    def as_dict(self, checkpoint_dir: Path) -> dict[str, Any]:
        """Return an entry of a manager's lists: the metadata, overridden by the facts."""
        return {
            **self.metadata,
            "path": checkpoint_dir / self.name,
            "epoch": self.epoch,
            "step": self.metadata.get("step") if self.step is None else self.step,
            "metric": self.metric,
            "is_best": self.is_best,
            "pinned": self.pinned,
            "tags": list(self.tags),
            "size_bytes": self.size_bytes,
            "timestamp": self.created_at.isoformat(),
            "id": self.id,
            "metadata": dict(self.metadata),
        }


def _step(data: Mapping[str, Any]) -> int | None:
    """Return the step of a checkpoint; of one that was saved before steps were facts, that in its metadata."""
    found = data.get("step")
    found = data["metadata"].get("step") if found is None else found
    return found if isinstance(found, int) and not isinstance(found, bool) else None


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file to send or to fetch, with the request that the server gave for them."""

    file: str
    method: str
    url: str
    headers: Mapping[str, str]
    offset: int
    length: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["file"], data["method"], data["url"], data["headers"], data["offset"], data["length"])

    def check(self) -> None:
        """Refuse what cannot go over HTTP and no Holdfast server sends. The message does not show it: it may be
        signed.
        """
        named = [(str(name), str(value)) for name, value in self.headers.items()]
        if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in named):
            raise from_problem(200, {}, said="the server sent a range with an invalid header")
        if not _NAME.fullmatch(self.method) or not _is_url(self.url):
            raise from_problem(200, {}, said="the server sent a range with an invalid method or URL")


def _is_url(text: str) -> bool:
    """Tell if a text is the path of a URL, or a URL of HTTP."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        reraise(error)
        return False
    is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    return bool(_URL.fullmatch(text)) and (is_whole or (text.startswith("/") and not parts.netloc))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive bytes of a file and their BLAKE3, in hex."""

    offset: int
    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class FileChunks:
    """A file of a checkpoint: its chunks, and the ranges that fetch them."""

    path: str
    size_bytes: int
    digest: str
    chunks: tuple[Chunk, ...]
    ranges: tuple[Range, ...]
    attributes: FileAttributes = field(default_factory=FileAttributes)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            path=data["path"],
            size_bytes=data["size_bytes"],
            digest=data["digest"],
            chunks=tuple(Chunk(found["offset"], found["length"], found["digest"]) for found in data["chunks"]),
            ranges=tuple(Range.from_json(found) for found in data["ranges"]),
            attributes=FileAttributes.from_json(data),
        )

    def joined(self, more: Self) -> Self:
        """Return the file with further chunks and ranges."""
        return replace(self, chunks=self.chunks + more.chunks, ranges=self.ranges + more.ranges)


SMALL_CHECKPOINT_BYTES = 2 * 1024 * 1024
"""The size, in bytes, up to which a checkpoint goes with its facts in one request, either way."""
SMALL_CHECKPOINT_S = SMALL_CHECKPOINT_BYTES / (64 * 1024)
"""The additional time, in seconds, that its bytes may take: that of a slow connection."""
LARGEST_BATCH_BYTES = 64 * 1024 * 1024
"""The largest batch, in bytes, that the client accepts, as it holds a batch in memory."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Small files to send or to fetch in one request, one after another, with the request that the server gave for
    them.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    length: int
    parts: tuple[tuple[str, int], ...]
    """The path and the length, in bytes, of each file."""

    @classmethod
    def all_from_json(cls, data: Mapping[str, Any]) -> "tuple[Self, ...]":
        """Return the batches of a response; none from servers that are older than batches."""
        return tuple(
            cls(
                found["method"],
                found["url"],
                found["headers"],
                found["length"],
                tuple((part["file"], part["length"]) for part in found["parts"]),
            )
            for found in data.get("batches") or ()
        )

    def is_of(self, sizes: Mapping[str, int]) -> bool:
        """Check a batch against the sizes, in bytes, of files by path. Files of any other batch are transferred one by
        one.
        """
        agree = all(sizes.get(path) == length for path, length in self.parts)
        return agree and self.length == sum(length for _, length in self.parts) <= LARGEST_BATCH_BYTES

    @property
    def as_range(self) -> Range:
        """The whole batch as one range."""
        return Range("", self.method, self.url, self.headers, 0, self.length)


@dataclass(frozen=True, slots=True)
class Upload:
    """A reservation: the ranges to send, or ``committed`` if the same save has arrived before.

    ``saved_after`` is the save's place in the order of saves, if the server has assigned it.
    """

    id: str
    committed: bool
    missing: tuple[Range, ...]
    saved_after: int | None = None
    batches: tuple[Batch, ...] = ()
    """Small files of ``missing`` that can be sent together instead."""
    missing_count: int = 0
    """The number of all missing ranges: one response lists only as many as fit."""
    missing_bytes: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        missing = tuple(Range.from_json(wanted) for wanted in data["missing"])
        return cls(
            data["id"],
            data["state"] == "committed",
            missing,
            data.get("saved_after"),
            Batch.all_from_json(data),
            data.get("missing_count", len(missing)),
            data.get("missing_bytes", sum(wanted.length for wanted in missing)),
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """The response to a commit."""

    checkpoint: Checkpoint
    policy: Mapping[str, Any]
    removed: tuple[str, ...]
    other_writer: str | None
    removed_at: str | None = None
    repeated: bool = False
    answer: Mapping[str, Any] = field(default_factory=dict)
    """The whole response, as JSON."""
    replaced: Mapping[str, Any] | None = None
    """The checkpoint of another writer that was replaced, if it was saved a moment ago or during this save."""
    was_there: bool = False
    """True if an earlier call had committed the same save."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        checkpoint, removed = Checkpoint.from_json(data), tuple(data["removed"])
        return cls(
            checkpoint,
            data["policy"],
            removed,
            data["other_writer"],
            data.get("removed_at"),
            data.get("repeated", False),
            data,
            data.get("replaced"),
        )

    @property
    def loss(self) -> str | None:
        """The warning for a save that replaced another writer's checkpoint; None if it did not.

        A writer without a name, such as curl, gets no warning; the reply still names its checkpoint.
        """
        old = self.replaced
        if old is None or not (who := old.get("writer")):
            return None
        return (
            f"{self.checkpoint.directory}/{self.checkpoint.name} replaced what {who} had saved there at "
            f"{old.get('created_at')} (checkpoint {old.get('id')})"
        )
