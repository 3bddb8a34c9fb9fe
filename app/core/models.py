"""The domain model as frozen values. Pure: no clock, disk, SQL or HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Literal

from blake3 import blake3

Mode = Literal["min", "max"]
Kind = Literal["regular", "best"]
Retention = Literal["policy", "manual"]
"""Who decides how long a checkpoint stays: the directory's policy, or its owner alone."""
RemovedBecause = Literal["pruned", "replaced", "deleted", "lost"]
Version = str
"""An opaque name of the state of a stored file: it changes with the bytes. Only the store that gave it compares it."""

INTERVALS = ("keep_every_epochs", "keep_every_steps")
LIMITS = ("max_checkpoints", "max_best_checkpoints", *INTERVALS)

ADOPTED = "adopted-"
"""The prefix of ``save_id`` for checkpoints that were adopted from another tool."""

CHUNK_MAX_BYTES = 8 * 1024 * 1024
"""The longest chunk, and the length at which the server cuts files without a chunk list."""

SMALL_CHECKPOINT_BYTES = 2 * 1024 * 1024
"""The most bytes of a checkpoint that is saved, or loaded, in one request with its facts."""


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """The part of a policy that a save or an operator sets; limits that are not named stay as they are."""

    mode: Mode | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """The retention of a directory, and the limits in it that an operator set.

    ``None`` for ``max_checkpoints`` or ``max_best_checkpoints`` keeps all; for an interval it keeps none.
    """

    mode: Mode | None = None
    max_checkpoints: int | None = None
    max_best_checkpoints: int | None = None
    keep_every_epochs: int | None = None
    keep_every_steps: int | None = None
    operator: frozenset[str] = frozenset()

    @property
    def keeps_everything(self) -> bool:
        return self.max_checkpoints is None and self.max_best_checkpoints is None

    @property
    def ranks_by(self) -> Mode:
        """The mode of the ranking: the directory's own, or ``min`` while it has none."""
        return self.mode or "min"

    @property
    def settings(self) -> tuple[str | int | None, ...]:
        """All that retention goes by. Without an interval of steps, equal to those of versions that knew none."""
        steps = () if self.keep_every_steps is None else (self.keep_every_steps,)
        return (self.mode, self.max_checkpoints, self.max_best_checkpoints, self.keep_every_epochs, *steps)

    @property
    def etag(self) -> str:
        """An opaque tag of this policy; equal policies have equal tags."""
        return f'"{blake3(repr((self.settings, sorted(self.operator))).encode()).hexdigest(length=16)}"'

    def after_save(self, asked: PolicyRequest, *, is_first: bool = False) -> "Policy":
        """Return the policy after a save that asks for one; limits of the operator take precedence.

        With ``is_first``, the mode of the save counts, as no checkpoint was ranked by another mode.
        """
        limits: dict[str, Any] = {name: value for name, value in asked.limits.items() if name not in self.operator}
        mode = (asked.mode or self.mode) if is_first else (self.mode or asked.mode)
        return replace(self, mode=mode, **limits)

    def set_by_operator(self, wanted: PolicyRequest) -> "Policy":
        """Return the policy after an operator sets it. Limits that the operator leaves out are up to saves again."""
        return replace(self, mode=wanted.mode or self.mode, operator=frozenset(wanted.limits), **dict(wanted.limits))


@dataclass(frozen=True, slots=True)
class Directory:
    """The checkpoints of one ``checkpoint_dir`` of a job: a policy and a monotonic commit counter."""

    name: str
    created_at: datetime
    sequence: int = 0
    policy: Policy = Policy()
    last_writer: str | None = None
    last_write_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RootMark:
    """The id of a root, and a random text of its last opening. Root and catalog each store a copy."""

    root: str
    opening: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive bytes of a file with their BLAKE3: the unit of verification and deduplication.

    In an upload, an empty digest is computed when the bytes arrive.
    """

    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file, as declared or found; ``offset`` and ``size_bytes`` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FileMap:
    """The contents of one file: its chunks, and its tensors if known."""

    chunks: tuple[Chunk, ...]
    tensors: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One file of a checkpoint; ``path`` is relative to the checkpoint, ``digest`` covers its chunk list."""

    path: str
    size_bytes: int
    digest: str
    version: Version
    mode: int | None = None
    """Its permissions on the machine that saved it, if declared."""
    modified_ns: int | None = None
    """When it was last changed there, in ns since the epoch; ``version`` is about the server's own file."""


@dataclass(frozen=True, slots=True)
class RangeUrl:
    """A URL at which the client sends or fetches a range of a file, past the server; it may expire."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a checkpoint as it was on the machine that saved it; an empty path is the checkpoint itself."""

    path: str
    mode: int | None = None
    modified_ns: int | None = None


def is_folder(name: str, files: "Sequence[File | UploadFile]") -> bool:
    """Tell if a checkpoint is a folder: its only file would otherwise have the checkpoint's own name."""
    return len(files) != 1 or files[0].path != name


@dataclass(frozen=True, slots=True)
class Facts:
    """The mutable description of a checkpoint, whose bytes are immutable."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    kind: Kind = "regular"
    epoch: int | None = None
    step: int | None = None
    metric: float | None = None
    is_best: bool = False
    pinned: bool = False
    tags: tuple[str, ...] = ()
    retention: Retention = "policy"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_manual(self) -> bool:
        """True if only its owner removes it: no policy does, nor counts it."""
        return self.retention == "manual"

    def __post_init__(self) -> None:
        if self.metric == 0:  # not -0.0, which SQLite does not keep
            object.__setattr__(self, "metric", 0.0)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One or more files, immutable once committed, with their facts."""

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
    """True once the bytes of a removed checkpoint have left its directory."""
    freed: bool = False
    """True once the bytes of a removed checkpoint are gone."""
    verified_at: datetime | None = None
    """The time at which all its bytes were last read back."""
    damage: str | None = None
    """The fault that reading back found, as text."""
    folders: tuple[Folder, ...] = ()
    """Its folders, including empty ones, if declared."""

    @property
    def restorable(self) -> bool:
        """True if it was removed and its bytes are still in the trash."""
        return self.removed_at is not None and not self.freed

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def is_folder(self) -> bool:
        return is_folder(self.name, self.files)

    def stored_at(self, file: File) -> str:
        """Return the path of a file relative to the root."""
        return "/".join([self.directory, self.name, *([file.path] if self.is_folder else [])])


@dataclass(frozen=True, slots=True)
class Manifest:
    """The durable record of one checkpoint beside its files; the catalog can be rebuilt from it.

    ``policy`` and ``writer`` are those of the save: recovery needs them to finish a commit.
    """

    checkpoint: Checkpoint
    maps: Mapping[str, FileMap]
    replaces: str | None = None
    policy: PolicyRequest = PolicyRequest()
    writer: str | None = None


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A declared file of an upload: its size if known, its chunks, and their digests if the client knows them."""

    path: str
    size_bytes: int | None
    chunks: tuple[Chunk, ...] | None = None
    tensors: tuple[Tensor, ...] | None = None
    mode: int | None = None
    modified_ns: int | None = None

    @property
    def is_hashed(self) -> bool:
        """True if the digests of all its chunks are known."""
        return self.chunks is not None and all(chunk.digest for chunk in self.chunks)

    def agrees_with(self, other: "UploadFile") -> bool:
        """Tell if both describe the same bytes; one of them may lack chunks or digests that the other has."""
        if (self.path, self.size_bytes) != (other.path, other.size_bytes):
            return False
        if self.chunks is None or other.chunks is None or (self.is_hashed and other.is_hashed):
            return self.chunks == other.chunks
        return [chunk.length for chunk in self.chunks] == [chunk.length for chunk in other.chunks]


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that one of several writers has declared; ``place`` is its number within the upload, never used again."""

    writer: str
    place: int
    file: UploadFile


@dataclass(frozen=True, slots=True)
class SharedTerms:
    """The terms of a save that several writers fill.

    A later attempt of the job supersedes an earlier one. ``writers`` are those that the commit waits for, if they are
    known; with ``commit_when_ready`` it follows as soon as all of them are ready.
    """

    attempt: int = 0
    writers: tuple[str, ...] | None = None
    commit_when_ready: bool = False


@dataclass(frozen=True, slots=True)
class Precondition:
    """An expectation about the live checkpoint of a name, in entity tags or ``*`` for any; None expects nothing.

    With ``if_match`` it has one of these tags, which is never so for no tags; with ``if_none_match`` it has none. A
    refusal names the digest that is there only if the token ``may_read``.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    may_read: bool = field(default=False, compare=False)


NO_PRECONDITION = Precondition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """A request to save a checkpoint. The server chooses an empty ``name`` or ``save_id``.

    ``base`` is the id of a checkpoint, in any directory, whose chunks the client need not send again. ``token_id`` is
    the token of the client; with ``may_dedup`` it may read the directory, so that deduplication may copy from it.
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
    may_dedup: bool = True
    folders: tuple[Folder, ...] = ()
    precondition: Precondition = NO_PRECONDITION
    shared: SharedTerms | None = None

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

    @property
    def is_resumable(self) -> bool:
        """False if a size is not declared: only the request that began it can bring its bytes."""
        return all(file.size_bytes is not None for file in self.files)


@dataclass(frozen=True, slots=True)
class Event:
    """A change. Its id comes from one counter, in the transaction of the change itself."""

    id: int
    at: datetime
    type: str
    directory: str
    checkpoint_id: str | None
    data: Mapping[str, Any]
