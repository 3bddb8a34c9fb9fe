"""The words of Holdfast as frozen values. Pure: no clock, disk, SQL or HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Literal

from blake3 import blake3

Mode = Literal["min", "max"]
Kind = Literal["regular", "best"]
RemovedBecause = Literal["pruned", "replaced", "deleted", "lost"]

LIMITS = ("max_checkpoints", "max_best_checkpoints", "keep_every_epochs")

ADOPTED = "adopted-"
"""How the ids begin of saves that nobody made: another tool wrote the checkpoint."""

CHUNK_MAX_BYTES = 8 * 1024 * 1024
"""The longest chunk, and the length at which the server cuts what came without a chunk list."""


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """What a save or an operator asks a directory to keep; limits that are not named are left alone."""

    mode: Mode | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a directory keeps, and which of its limits an operator set.

    ``None`` for ``max_checkpoints`` or ``max_best_checkpoints`` keeps all; for ``keep_every_epochs`` it asks nothing.
    """

    mode: Mode | None = None
    max_checkpoints: int | None = None
    max_best_checkpoints: int | None = None
    keep_every_epochs: int | None = None
    operator: frozenset[str] = frozenset()

    @property
    def keeps_everything(self) -> bool:
        return self.max_checkpoints is None and self.max_best_checkpoints is None

    @property
    def ranks_by(self) -> Mode:
        """The mode that decides what is best: the directory's own, or ``min`` while it has none."""
        return self.mode or "min"

    @property
    def etag(self) -> str:
        """An opaque tag of what this policy says; equal policies have equal tags."""
        said = (self.mode, self.max_checkpoints, self.max_best_checkpoints, self.keep_every_epochs)
        return f'"{blake3(repr((said, sorted(self.operator))).encode()).hexdigest(length=16)}"'

    def after_save(self, asked: PolicyRequest, *, is_first: bool = False) -> "Policy":
        """The policy in force once a save has asked for one: an operator's limits are stronger.

        With ``is_first``, the save's mode counts: nothing was ranked by another one.
        """
        limits: dict[str, Any] = {name: value for name, value in asked.limits.items() if name not in self.operator}
        mode = (asked.mode or self.mode) if is_first else (self.mode or asked.mode)
        return replace(self, mode=mode, **limits)

    def after_order(self, ordered: PolicyRequest) -> "Policy":
        """The policy once an operator has spoken: what they name is theirs, what they leave out goes back to saves."""
        return replace(self, mode=ordered.mode or self.mode, operator=frozenset(ordered.limits), **dict(ordered.limits))


@dataclass(frozen=True, slots=True)
class Directory:
    """What a job calls its ``checkpoint_dir``: a policy and a commit counter that never goes back."""

    name: str
    created_at: datetime
    sequence: int = 0
    policy: Policy = Policy()
    last_writer: str | None = None
    last_write_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Which root this is, and a word that changes whenever it is opened: both stand in the root and in its catalog."""

    root: str
    opening: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive bytes of a file, named by their BLAKE3: the unit of verification.

    An empty digest, in an upload, is for the bytes to say.
    """

    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor of a file lies, as was declared or found; ``offset`` and ``size_bytes`` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FileMap:
    """What lies where in one file: its chunks, and its tensors as far as they are known."""

    chunks: tuple[Chunk, ...]
    tensors: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One file of a checkpoint; ``path`` is relative to the checkpoint, ``digest`` covers its chunk list."""

    path: str
    size_bytes: int
    digest: str
    mtime_ns: int
    mode: int | None = None
    """The permissions that it had where it was saved from, if that was said."""
    modified_ns: int | None = None
    """When it was last changed there, in ns since the epoch; ``mtime_ns`` is about the server's own file."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder within a checkpoint as it was where it was saved from; an empty path is for the checkpoint's own."""

    path: str
    mode: int | None = None
    modified_ns: int | None = None


def is_folder(name: str, files: "Sequence[File | UploadFile]") -> bool:
    """A checkpoint is one plain file when its only file bears the checkpoint's own name; else a folder of files."""
    return len(files) != 1 or files[0].path != name


@dataclass(frozen=True, slots=True)
class Facts:
    """What a save says about a checkpoint; all of it can change while the bytes stay."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    kind: Kind = "regular"
    epoch: int | None = None
    metric: float | None = None
    is_best: bool = False
    pinned: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One or more files, immutable once committed, with facts about them."""

    id: str
    directory: str
    name: str
    save_id: str
    sequence: int
    saved_after: int
    facts: Facts
    files: tuple[File, ...]
    digest: str
    created_at: datetime
    removed_at: datetime | None = None
    removed_because: RemovedBecause | None = None
    trashed: bool = False
    """Whether the bytes of a removed one have left its directory."""
    freed: bool = False
    """Whether the bytes of a removed one are gone."""
    verified_at: datetime | None = None
    """When all its bytes were last read back."""
    damage: str | None = None
    """What was wrong with them then, in words."""
    folders: tuple[Folder, ...] = ()
    """Its folders, the empty ones too, if they were told."""

    @property
    def restorable(self) -> bool:
        """Whether it was removed and its bytes are still there."""
        return self.removed_at is not None and not self.freed

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def is_folder(self) -> bool:
        return is_folder(self.name, self.files)

    def stored_at(self, file: File) -> str:
        """Where the file lies below the root."""
        return "/".join([self.directory, self.name, *([file.path] if self.is_folder else [])])


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that the server knows of one checkpoint, as it stands beside the files.

    ``policy`` and ``writer`` are what the save asked for and who saved: recovery needs them to finish a commit.
    """

    checkpoint: Checkpoint
    maps: Mapping[str, FileMap]
    replaces: str | None = None
    policy: PolicyRequest = PolicyRequest()
    writer: str | None = None


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file that is promised: its size if known, where it is cut, and the digests if they are known before sending."""

    path: str
    size_bytes: int | None
    chunks: tuple[Chunk, ...] | None = None
    tensors: tuple[Tensor, ...] | None = None
    mode: int | None = None
    modified_ns: int | None = None

    @property
    def is_hashed(self) -> bool:
        """Whether the digests of all its chunks are known."""
        return self.chunks is not None and all(chunk.digest for chunk in self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """What somebody wants kept. An empty ``name`` or ``save_id`` is for the server to choose.

    ``base`` is the id of a checkpoint, of any directory, whose bytes need not be sent again. ``token_id`` says who
    saves; ``may_borrow`` whether they may read what others have saved there, so that the server may copy from it.
    """

    directory: str
    name: str = ""
    save_id: str = ""
    facts: Facts = Facts()
    files: tuple[UploadFile, ...]
    saved_after: int | None = None
    policy: PolicyRequest = PolicyRequest()
    writer: str | None = None
    only_if_improved: bool = False
    base: str | None = None
    token_id: str = ""
    may_borrow: bool = True
    folders: tuple[Folder, ...] = ()

    @property
    def is_folder(self) -> bool:
        return is_folder(self.name, self.files)

    def file(self, path: str) -> UploadFile | None:
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Save):
    """A reservation that becomes the checkpoint of the same id at commit, or nothing."""

    id: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed; ids come from one counter, in the change's own transaction."""

    id: int
    at: datetime
    type: str
    directory: str
    checkpoint_id: str | None
    data: Mapping[str, Any]
