"""Request bodies; unknown fields, NaN and unbounded values are refused."""

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from app.api.schemas.parameters import CheckpointName, DirectoryName, FilePath, Prefix, Tag
from app.api.schemas.values import MAX_INT, CheckpointId, Count, Digest, Metadata, Number, SaveId, WriterId
from app.core.access import Access
from app.core.limits import MOST
from app.core.models import (
    CHUNK_MAX_BYTES,
    Chunk,
    Facts,
    Folder,
    Kind,
    Mode,
    PolicyRequest,
    Precondition,
    Retention,
    Save,
    SharedTerms,
    Tensor,
    UploadFile,
)
from app.http.body.sliced_lists import free_in_slices, sliced
from app.service.commit.copied_files import CopyRequest
from app.service.lifecycle.edit import Change
from app.service.lifecycle.retention_verdicts import VerdictFilter

Permissions = Annotated[int, Field(ge=0, le=0o777)]
Nanoseconds = Annotated[int, Field(ge=0, lt=2**63)]
_PlainCount = Annotated[int, Field(strict=True, ge=0, le=MAX_INT)]


class RequestBody(BaseModel):
    """A request body without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class PolicyIn(RequestBody):
    """Retention policy of a directory. A limit that is left out is unchanged; `null` removes the limit."""

    mode: Mode | None = Field(None, description="`min` if a smaller metric is better, `max` if a larger one is.")
    max_checkpoints: Count | None = None
    max_best_checkpoints: Count | None = None
    keep_every_epochs: Annotated[Count, Field(ge=1)] | None = None
    keep_every_steps: Annotated[Count, Field(ge=1)] | None = None

    def asked(self) -> PolicyRequest:
        return PolicyRequest(self.mode, self.model_dump(include=self.model_fields_set - {"mode"}))


class ChangeableFacts(RequestBody):
    """Facts of a checkpoint that a save sets and a change may correct."""

    epoch: Count | None = None
    step: Count | None = Field(None, description="Optimizer steps done so far, over all epochs.")
    metric: Number | None = None
    is_best: bool = False
    pinned: bool = False
    tags: list[Tag] = Field(default=[], max_length=MOST.tags)
    retention: Retention = Field(
        "policy", description="`manual` if the policy neither removes the checkpoint nor counts it."
    )
    metadata: Metadata = {}


class FactsIn(ChangeableFacts):
    """Facts of a checkpoint that a save sets."""

    kind: Kind = "regular"

    def facts(self) -> Facts:
        return Facts(
            kind=self.kind,
            epoch=self.epoch,
            step=self.step,
            metric=float(self.metric) if self.metric is not None else None,
            is_best=self.is_best,
            pinned=self.pinned,
            tags=tuple(dict.fromkeys(self.tags)),
            retention=self.retention,
            metadata=self.metadata,
        )


@dataclass(frozen=True, slots=True, config=RequestBody.model_config)  # up to a million of them: models take far longer
class ChunkIn:
    """Consecutive bytes of a file and their BLAKE3 digest. Without a digest it only marks a chunk boundary."""

    length: Annotated[int, Field(ge=1, le=CHUNK_MAX_BYTES)]
    digest: Digest | None = None


@dataclass(frozen=True, slots=True, config=RequestBody.model_config)
class TensorIn:
    """A tensor of a file; `offset` and `size_bytes` are in bytes within the file."""

    name: Annotated[str, Field(max_length=1000)]
    dtype: Annotated[str, Field(max_length=40)]
    shape: Annotated[list[Count], Field(max_length=64)]
    offset: Count | None = None
    size_bytes: Count | None = None

    def tensor(self) -> Tensor:
        return Tensor(self.name, self.dtype, tuple(self.shape), self.offset, self.size_bytes)


Chunks = Annotated[list[ChunkIn], Field(max_length=MOST.chunks), sliced(MOST.chunks)]


@dataclass(frozen=True, slots=True, config=RequestBody.model_config)
class _PlainTensor:
    """A tensor whose numbers are JSON integers, as clients write them; others are validated as a `TensorIn`."""

    name: Annotated[str, Field(max_length=1000)]
    dtype: Annotated[str, Field(max_length=40)]
    shape: Annotated[tuple[_PlainCount, ...], Field(max_length=64)]
    offset: _PlainCount | None = None
    size_bytes: _PlainCount | None = None


_PLAIN_TENSORS = TypeAdapter(Annotated[list[_PlainTensor], Field(max_length=MOST.tensors)])


def _tensors(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validate up to 100,000 plain tensors fast; leave lax and invalid input to the ordinary validation."""
    try:
        plain = _PLAIN_TENSORS.validate_python(value)
    except ValidationError:
        return [each.tensor() for each in validate(value)]
    return [Tensor(each.name, each.dtype, each.shape, each.offset, each.size_bytes) for each in plain]


Tensors = Annotated[list[TensorIn], Field(max_length=MOST.tensors), WrapValidator(_tensors), sliced(MOST.tensors)]


class FileIn(RequestBody):
    """A file to upload. Without a `path` it has the checkpoint's name."""

    path: FilePath | None = None
    size_bytes: Count
    chunks: Chunks | None = None
    tensors: Tensors | None = None
    mode: Permissions | None = Field(None, description="File permissions at the source.")
    mtime_ns: Nanoseconds | None = Field(None, description="Modification time at the source, in ns since 1970.")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.chunks is not None and sum(chunk.length for chunk in self.chunks) != self.size_bytes:
            raise ValueError("must have chunks that add up to size_bytes")
        if len({chunk.digest is None for chunk in self.chunks or ()}) > 1:
            raise ValueError("must have digests for all chunks or for none")
        return self

    def file(self) -> UploadFile:
        """Return the file to upload; long lists are moved, not copied."""
        tensors: Any = tuple(self.tensors) if self.tensors is not None else None  # `_tensors` has converted them
        free_in_slices(self.tensors)
        return UploadFile(self.path or "", self.size_bytes, _chunks(self.chunks), tensors, self.mode, self.mtime_ns)


class FolderIn(RequestBody):
    """A folder of the checkpoint, possibly empty. Without a `path` it is the checkpoint's own folder."""

    path: FilePath | None = None
    mode: Permissions | None = None
    mtime_ns: Nanoseconds | None = None

    def folder(self) -> Folder:
        return Folder(self.path or "", self.mode, self.mtime_ns)


class UploadIn(FactsIn):
    """A reservation. Repeated with the same `save_id`, it returns the same upload or the committed checkpoint."""

    directory: DirectoryName
    name: CheckpointName | None = None
    save_id: SaveId | None = None
    saved_after: Count | None = Field(
        None, description="Last sequence number known to the writer; for late deliveries."
    )
    policy: PolicyIn = PolicyIn()
    writer: WriterId | None = Field(
        None, description="Id of the writer; concurrent writers of one directory are reported."
    )
    only_if_improved: bool = Field(False, description="Refuse the save unless its metric is better than the best.")
    base: CheckpointId | None = Field(None, description="Another checkpoint to deduplicate against.")
    files: list[FileIn] = Field(default=[], max_length=MOST.files, description="Required, unless it is shared.")
    folders: list[FolderIn] = Field(default=[], max_length=MOST.files)
    shared: bool = Field(False, description="Several writers send the same reservation, and declare files later.")
    attempt: Count | None = Field(None, description="Shared: the attempt of the job; a later one takes over.")
    writers: list[WriterId] | None = Field(
        None, min_length=1, max_length=MOST.files, description="Shared: the writers that the commit waits for."
    )
    commit_when_ready: bool = Field(False, description="Shared: commit as soon as all `writers` are ready.")

    @model_validator(mode="after")
    def _is_shared_or_not(self) -> Self:
        if self.shared:
            if self.save_id is None or self.name is None:
                raise ValueError("must have a save_id and a name if it is shared")
            if self.files or self.folders or self.base is not None:
                raise ValueError("must not have files, folders or a base if it is shared")
            if self.commit_when_ready and self.writers is None:
                raise ValueError("must have writers if it has commit_when_ready")
            return self
        if not self.files:
            raise ValueError("must have files, unless it is shared")
        if self.attempt is not None or self.writers is not None or self.commit_when_ready:
            raise ValueError("must be shared if it has an attempt, writers or commit_when_ready")
        return self

    @model_validator(mode="after")
    def _folder_paths_are_unique(self) -> Self:
        paths = [folder.path for folder in self.folders]
        if len(set(paths)) < len(paths) or set(paths) & {file.path or self.name for file in self.files}:
            raise ValueError("must not have two folders, or a folder and a file, with the same path")
        return self

    @model_validator(mode="after")
    def _file_paths_are_unique(self) -> Self:
        paths = [file.path or self.name or "" for file in self.files]
        folders = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 1)}
        if len(set(paths)) < len(paths) or folders & set(paths):
            raise ValueError("must not have two files with the same path, or a file that is a folder of another")
        if "" in paths and len(paths) > 1:
            raise ValueError("must have a path for each of several files")
        return self

    def save(self, may: Access, base: str | None, expected: Precondition) -> Save:
        return Save(
            directory=self.directory,
            name=self.name or "",
            save_id=self.save_id or "",
            facts=self.facts(),
            files=tuple(file.file() for file in self.files),
            saved_after=self.saved_after,
            policy=self.policy.asked(),
            writer=self.writer,
            only_if_improved=self.only_if_improved,
            base=base,
            token_id=may.token_id,
            may_dedup=may.allows("read") and not self.shared,
            folders=tuple(folder.folder() for folder in self.folders),
            precondition=expected,
            shared=self._terms() if self.shared else None,
        )

    def _terms(self) -> SharedTerms:
        writers = tuple(dict.fromkeys(self.writers)) if self.writers is not None else None
        return SharedTerms(self.attempt or 0, writers, self.commit_when_ready)


class CommittedFileIn(RequestBody):
    """The chunks of a file, hashed during the upload."""

    path: FilePath | None = None
    chunks: Chunks

    @model_validator(mode="after")
    def _has_digests(self) -> Self:
        if any(chunk.digest is None for chunk in self.chunks):
            raise ValueError("must have the digests of all chunks")
        return self

    def declared(self) -> tuple[Chunk, ...]:
        return _chunks(self.chunks) or ()


class CommitIn(RequestBody):
    """Chunk digests that were computed during the upload; of a shared upload, what the commit expects. Optional."""

    files: list[CommittedFileIn] = Field(default=[], max_length=MOST.files)
    attempt: Count | None = Field(None, description="Shared: the attempt of the job. Required.")
    writers: list[WriterId] = Field(
        default=[], max_length=MOST.files, description="Shared: the writers that must be ready, beside known ones."
    )
    paths: list[FilePath] = Field(
        default=[], max_length=MOST.files, description="Shared: files that there must be, beside others."
    )

    @model_validator(mode="after")
    def _is_shared_or_not(self) -> Self:
        if self.attempt is None and (self.writers or self.paths):
            raise ValueError("must have an attempt if it has writers or paths")
        if self.attempt is not None and self.files:
            raise ValueError("must not have files if it has an attempt; digests come when a writer is ready")
        return self

    def declared(self, name: str) -> dict[str, tuple[Chunk, ...]]:
        return {file.path or name: file.declared() for file in self.files}


class ChangeIn(ChangeableFacts):
    """Facts to change; fields left out are unchanged. `metadata` is merged, and a null value removes its key."""

    def change(self) -> Change:
        given = self.model_dump(include=self.model_fields_set & ChangeableFacts.model_fields.keys() - {"metadata"})
        if given.get("metric") is not None:
            given["metric"] = float(given["metric"])
        if "tags" in given:
            given["tags"] = tuple(dict.fromkeys(given["tags"]))
        return Change(given, self.metadata)


class CopyIn(ChangeIn):
    """A copy. Facts that are left out are those of the source, except the pin; `metadata` is merged."""

    directory: DirectoryName
    name: CheckpointName
    save_id: SaveId | None = None
    drop: list[FilePath] = Field(default=[], max_length=MOST.files, description="Files and folders to leave out.")
    rename: dict[FilePath, FilePath] = Field(
        default={}, max_length=MOST.files, description="New paths of files and folders, by those in the source."
    )

    def wanted(self) -> CopyRequest:
        drop = frozenset(self.drop)
        return CopyRequest(self.directory, self.name, self.save_id or "", drop, self.rename, self.change())


class PruneIn(RequestBody):
    """The directories to prune: one, or all at and below a prefix (`""` for all)."""

    directory: DirectoryName | None = None
    prefix: Prefix | None = None
    dry_run: bool = False
    policy: PolicyIn | None = Field(
        None, description="Policy to try instead of the directory's own; for dry runs only."
    )
    verdicts: VerdictFilter = Field("all", description="Verdicts to list; the counts always cover all.")
    page_size: int = Field(MOST.page_size, ge=1, le=MOST.page_size, description="The most verdicts on a page.")
    page_token: str | None = Field(
        None, max_length=4096, description="The `next_page_token` of the previous page of a dry run."
    )

    @model_validator(mode="after")
    def _combination_is_valid(self) -> Self:
        if (self.directory is None) == (self.prefix is None):
            raise ValueError("must have exactly one of directory and prefix")
        if self.policy is not None and (self.directory is None or not self.dry_run):
            raise ValueError("must have a directory and dry_run if it has a policy")
        if self.page_token is not None and not self.dry_run:
            raise ValueError("must have dry_run if it has a page_token")
        return self


def _chunks(chunks: list[ChunkIn] | None) -> tuple[Chunk, ...] | None:
    if chunks is None:
        return None
    found = tuple(Chunk(chunk.length, chunk.digest or "") for chunk in chunks)
    free_in_slices(chunks)
    return found
