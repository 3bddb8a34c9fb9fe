"""Responses with the differences between two checkpoints."""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel

from app.api.schemas.checkpoints import CheckpointOut
from app.core.diff import Change, Comparison, FileChange, TensorChange
from app.core.models import File, Tensor


class ComparedFileOut(BaseModel):
    """A file in one of the two checkpoints."""

    path: str
    size_bytes: int
    digest: str

    @classmethod
    def of(cls, file: File | None) -> Self | None:
        return cls(path=file.path, size_bytes=file.size_bytes, digest=file.digest) if file is not None else None


class FileChangeOut(BaseModel):
    """A file of either or both checkpoints, and its change."""

    path: str
    change: Change
    before: ComparedFileOut | None
    after: ComparedFileOut | None

    @classmethod
    def of(cls, found: FileChange) -> Self:
        before, after = ComparedFileOut.of(found.before), ComparedFileOut.of(found.after)
        return cls(path=found.path, change=found.change, before=before, after=after)


class ComparedTensorOut(BaseModel):
    """A tensor in one of the two checkpoints."""

    dtype: str
    shape: list[int]
    size_bytes: int | None

    @classmethod
    def of(cls, tensor: Tensor | None) -> Self | None:
        if tensor is None:
            return None
        return cls(dtype=tensor.dtype, shape=list(tensor.shape), size_bytes=tensor.size_bytes)


class TensorChangeOut(BaseModel):
    """A tensor of either or both checkpoints, and its change."""

    file: str
    name: str
    change: Change
    before: ComparedTensorOut | None
    after: ComparedTensorOut | None

    @classmethod
    def of(cls, found: TensorChange) -> Self:
        before, after = ComparedTensorOut.of(found.before), ComparedTensorOut.of(found.after)
        return cls(file=found.file, name=found.name, change=found.change, before=before, after=after)


class ComparisonOut(BaseModel):
    """The differences from one checkpoint, `before`, to another, `after`.

    `tensors` is a page of tensors with the requested kinds of changes; it is null if neither checkpoint has known
    tensors. `counts` has the number of tensors for each kind of change. `files` are on the first page only.
    `shared_bytes` counts the bytes of `after` in chunks that `before` also has.
    """

    before: CheckpointOut
    after: CheckpointOut
    files: list[FileChangeOut]
    tensors: list[TensorChangeOut] | None
    counts: dict[str, int]
    shared_bytes: int
    next_page_token: str | None

    @classmethod
    def of(
        cls, found: Comparison, tensors: Sequence[TensorChange], *, is_first: bool, next_page_token: str | None
    ) -> Self:
        return cls(
            before=CheckpointOut.of(found.before),
            after=CheckpointOut.of(found.after),
            files=[FileChangeOut.of(file) for file in found.files] if is_first else [],
            tensors=[TensorChangeOut.of(tensor) for tensor in tensors] if found.tensors is not None else None,
            counts={str(change): count for change, count in found.counts.items()},
            shared_bytes=found.shared_bytes,
            next_page_token=next_page_token,
        )
