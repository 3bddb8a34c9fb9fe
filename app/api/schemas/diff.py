"""Answers about how two checkpoints differ."""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel

from app.api.schemas.answers import CheckpointOut
from app.core.diff import Change, Comparison, FileChange, TensorChange
from app.core.models import File, Tensor


class ComparedFileOut(BaseModel):
    """A file as it is in one of the checkpoints."""

    path: str
    size_bytes: int
    digest: str

    @classmethod
    def of(cls, file: File | None) -> Self | None:
        return cls(path=file.path, size_bytes=file.size_bytes, digest=file.digest) if file is not None else None


class FileChangeOut(BaseModel):
    """A file of either checkpoint, or of both."""

    path: str
    change: Change
    before: ComparedFileOut | None
    after: ComparedFileOut | None

    @classmethod
    def of(cls, found: FileChange) -> Self:
        before, after = ComparedFileOut.of(found.before), ComparedFileOut.of(found.after)
        return cls(path=found.path, change=found.change, before=before, after=after)


class ComparedTensorOut(BaseModel):
    """A tensor as it is in one of the checkpoints."""

    dtype: str
    shape: list[int]
    size_bytes: int | None

    @classmethod
    def of(cls, tensor: Tensor | None) -> Self | None:
        if tensor is None:
            return None
        return cls(dtype=tensor.dtype, shape=list(tensor.shape), size_bytes=tensor.size_bytes)


class TensorChangeOut(BaseModel):
    """A tensor of either checkpoint, or of both."""

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
    """How a checkpoint, `after`, differs from another one, `before`.

    `tensors` holds those of the changes that were asked for, a page at a time, and is null where none are known of
    either; `counts` tells how many there are of each change. `files` are on the first page. `shared_bytes` of `after`
    lie in chunks that `before` holds too.
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
