"""JSON of the API as frozen values. What is not known is ignored, so that newer servers can say more. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from .._runtime.file_attributes import Likeness
from ..errors import from_problem

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
    metric: float | None
    is_best: bool
    pinned: bool
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    size_bytes: int
    digest: str
    created_at: datetime
    saved_after: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            directory=data["directory"],
            name=data["name"],
            kind=data["kind"],
            sequence=data["sequence"],
            epoch=data["epoch"],
            metric=float(data["metric"]) if data["metric"] is not None else None,
            is_best=data["is_best"],
            pinned=data["pinned"],
            tags=tuple(data["tags"]),
            metadata=data["metadata"],
            size_bytes=data["size_bytes"],
            digest=data["digest"],
            created_at=datetime.fromisoformat(data["created_at"]),
            saved_after=data.get("saved_after", data["sequence"] - 1),
        )

    def as_dict(self, checkpoint_dir: Path) -> dict[str, Any]:
        """What a manager's lists show: the metadata, and above it the facts."""
        return {
            **self.metadata,
            "path": checkpoint_dir / self.name,
            "epoch": self.epoch,
            "metric": self.metric,
            "is_best": self.is_best,
            "pinned": self.pinned,
            "tags": list(self.tags),
            "size_bytes": self.size_bytes,
            "timestamp": self.created_at.isoformat(),
            "id": self.id,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file to send or to fetch, exactly as the server says."""

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
        """Raise for what cannot go over HTTP, which no Holdfast server says; without showing it: it may be signed."""
        named = [(str(name), str(value)) for name, value in self.headers.items()]
        if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in named):
            raise from_problem(200, {}, said="a range was given with a header that is none")
        if not _NAME.fullmatch(self.method) or not _is_url(self.url):
            raise from_problem(200, {}, said="a range was given with a method or a URL that is none")


def _is_url(text: str) -> bool:
    """Tell if a text is the path of a URL, or a URL of HTTP."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
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
    """A file of a checkpoint: what it consists of, and how to fetch it."""

    path: str
    size_bytes: int
    digest: str
    chunks: tuple[Chunk, ...]
    ranges: tuple[Range, ...]
    likeness: Likeness = field(default_factory=Likeness)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            path=data["path"],
            size_bytes=data["size_bytes"],
            digest=data["digest"],
            chunks=tuple(Chunk(found["offset"], found["length"], found["digest"]) for found in data["chunks"]),
            ranges=tuple(Range.from_json(found) for found in data["ranges"]),
            likeness=Likeness.from_json(data),
        )

    def joined(self, more: Self) -> Self:
        """The file with further chunks and ranges."""
        return replace(self, chunks=self.chunks + more.chunks, ranges=self.ranges + more.ranges)


LARGEST_BATCH_BYTES = 64 * 1024 * 1024
"""A batch is held in memory, so the client accepts no larger one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Small files to send or to fetch in one request, their bytes one after another, exactly as the server says."""

    method: str
    url: str
    headers: Mapping[str, str]
    length: int
    parts: tuple[tuple[str, int], ...]
    """The path and the length, in bytes, of each file."""

    @classmethod
    def all_from_json(cls, data: Mapping[str, Any]) -> "tuple[Self, ...]":
        """The batches of an answer; none where the server is older than these."""
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
        """Check a batch against the sizes, in bytes, of files by path. Files of any other batch are sent one by one."""
        agree = all(sizes.get(path) == length for path, length in self.parts)
        return agree and self.length == sum(length for _, length in self.parts) <= LARGEST_BATCH_BYTES

    @property
    def as_range(self) -> Range:
        """The whole of it, for a request."""
        return Range("", self.method, self.url, self.headers, 0, self.length)


@dataclass(frozen=True, slots=True)
class Upload:
    """A reservation: the ranges to send, or ``committed`` where the same save had arrived before.

    ``saved_after`` is the place in the order that the save keeps from now on, where the server says it.
    """

    id: str
    committed: bool
    missing: tuple[Range, ...]
    saved_after: int | None = None
    batches: tuple[Batch, ...] = ()
    """Small files of ``missing`` that can be sent together instead."""
    missing_count: int = 0
    """The number of ranges that are missing in all: a server lists no more than an answer may have."""
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
    """What the server said to a commit."""

    checkpoint: Checkpoint
    policy: Mapping[str, Any]
    removed: tuple[str, ...]
    other_writer: str | None
    removed_at: str | None = None
    repeated: bool = False
    answer: Mapping[str, Any] = field(default_factory=dict)
    """All of it, as it came."""
    replaced: Mapping[str, Any] | None = None
    """What another writer had saved under the same name a moment ago, or while this save was made."""
    was_there: bool = False
    """Whether an earlier call had committed the same save."""

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
        """What is to be said where the save replaced another writer's checkpoint; None where it did not.

        Of a writer that gives no name, as one with curl, nothing is known, and nothing is said; the reply names its
        checkpoint all the same.
        """
        old = self.replaced
        if old is None or not (who := old.get("writer")):
            return None
        return (
            f"{self.checkpoint.directory}/{self.checkpoint.name} replaced what {who} had saved there at "
            f"{old.get('created_at')} (checkpoint {old.get('id')})"
        )
