"""Differences between two checkpoints, by the digests of their chunks. Pure: no clock, disk or SQL.

A stretch of bytes is the same if chunks with the same digests cover it at the same offsets, and different if a chunk
within it differs. If chunks cannot decide, as they reach beyond the stretch or are cut differently, the caller decides.
Clients declare the offsets of tensors, so the number of chunks that are compared is bounded.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from app.core.models import Checkpoint, Chunk, File, FileMap, Tensor

Change = Literal["same", "changed", "reshaped", "added", "removed", "uncertain"]
CHANGES: tuple[Change, ...] = ("changed", "reshaped", "added", "removed", "uncertain", "same")
"""The kinds of change, the most interesting first."""

MAX_CHUNKS_COMPARED = 8_000_000
"""The bound of compared chunks. The largest checkpoints stay below it, unless their declared tensors overlap."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of either checkpoint, or of both."""

    path: str
    change: Change
    before: File | None
    after: File | None


@dataclass(frozen=True, slots=True)
class TensorChange:
    """A tensor of either checkpoint, or of both."""

    file: str
    name: str
    change: Change
    before: Tensor | None
    after: Tensor | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences between two checkpoints. ``tensors`` is None if neither has a tensor index.

    ``shared_bytes`` counts the bytes of ``after`` in chunks that ``before`` contains as well.
    """

    before: Checkpoint
    after: Checkpoint
    files: Sequence[FileChange]
    tensors: Sequence[TensorChange] | None
    shared_bytes: int

    @property
    def counts(self) -> Mapping[Change, int]:
        """The number of tensors by change."""
        return Counter(tensor.change for tensor in self.tensors or ())


class FileSlice(NamedTuple):
    """Bytes of a file."""

    path: str
    offset: int
    size_bytes: int


CompareBytes = Callable[[FileSlice, FileSlice], bool | None]
"""Compares two stretches of the same length, of the first and of the second checkpoint; None if it cannot."""


class MappedCheckpoint(NamedTuple):
    """A checkpoint with the maps of its files."""

    checkpoint: Checkpoint
    maps: Mapping[str, FileMap]


def compare(
    before: MappedCheckpoint,
    after: MappedCheckpoint,
    compare_bytes: CompareBytes,
    *,
    max_chunks: int = MAX_CHUNKS_COMPARED,
) -> Comparison:
    """Compare two checkpoints.

    If both consist of one file, these are paired whatever their names, which contain the epoch; otherwise files are
    paired by path. Tensors are paired by name. Beyond ``max_chunks`` chunks, ``compare_bytes`` decides.
    """
    pairs = [_Pair.of(before, after, one, other) for one, other in _paired(before.checkpoint, after.checkpoint)]
    has_tensors = any(found.tensors is not None for side in (before, after) for found in side.maps.values())
    comparer = _Comparer(compare_bytes, max_chunks)
    tensors = [change for pair in pairs for change in pair.tensors(comparer)] if has_tensors else None
    files = [
        pair.as_file(comparer) for pair in pairs
    ]  # last, as these may use up the budget of bytes that `compare_bytes` reads
    return Comparison(before.checkpoint, after.checkpoint, files, tensors, _shared_bytes(before, after))


def _paired(before: Checkpoint, after: Checkpoint) -> Iterator[tuple[File | None, File | None]]:
    if len(before.files) == len(after.files) == 1:
        yield before.files[0], after.files[0]
        return
    ones, others = ({file.path: file for file in found.files} for found in (before, after))
    for path in sorted({*ones, *others}):
        yield ones.get(path), others.get(path)


def _shared_bytes(before: MappedCheckpoint, after: MappedCheckpoint) -> int:
    held = {chunk.digest for found in before.maps.values() for chunk in found.chunks}
    return sum(chunk.length for found in after.maps.values() for chunk in found.chunks if chunk.digest in held)


class _Half(NamedTuple):
    """A file of one checkpoint, with the offsets of its chunks."""

    file: File
    chunks: Sequence[Chunk]
    starts: Sequence[int]
    tensors: Sequence[Tensor] | None

    def touched(self, piece: FileSlice) -> range:
        """Return the indices of the chunks that overlap a piece."""
        first = max(0, bisect_right(self.starts, piece.offset) - 1)
        return range(first, bisect_left(self.starts, piece.offset + piece.size_bytes))

    def at(self, places: range, piece: FileSlice) -> list[tuple[int, int, str]]:
        """Return the chunks at these indices: offset relative to the piece, length, digest."""
        return [
            (self.starts[place] - piece.offset, self.chunks[place].length, self.chunks[place].digest)
            for place in places
        ]

    def slice_of(self, tensor: Tensor) -> FileSlice | None:
        """Return the stretch of a tensor; None if it is unknown or reaches beyond the file."""
        if tensor.offset is None or tensor.size_bytes is None:
            return None
        if tensor.offset + tensor.size_bytes > self.file.size_bytes:
            return None
        return FileSlice(self.file.path, tensor.offset, tensor.size_bytes)


def _half(side: MappedCheckpoint, file: File | None) -> _Half | None:
    if file is None:
        return None
    found = side.maps.get(file.path, FileMap(()))
    starts = list(accumulate((chunk.length for chunk in found.chunks), initial=0))[:-1]
    return _Half(file, found.chunks, starts, found.tensors)


class _Pair(NamedTuple):
    """A file of the first checkpoint and its counterpart in the second."""

    before: _Half | None
    after: _Half | None

    @classmethod
    def of(cls, before: MappedCheckpoint, after: MappedCheckpoint, one: File | None, other: File | None) -> "_Pair":
        return cls(_half(before, one), _half(after, other))

    @property
    def path(self) -> str:
        half = self.after or self.before
        return half.file.path if half is not None else ""

    def as_file(self, comparer: "_Comparer") -> FileChange:
        one, other = (half.file if half is not None else None for half in self)
        return FileChange(self.path, self._of_file(one, other, comparer), one, other)

    def tensors(self, comparer: "_Comparer") -> Iterator[TensorChange]:
        """List changes of tensors: those of the second file in order, then the removed ones.

        If either file lacks a tensor index, tensors in one file only are uncertain, not added or removed.
        """
        ones, others = ({tensor.name: tensor for tensor in (half and half.tensors) or ()} for half in self)
        is_declared = all(half is None or half.tensors is not None for half in self)
        new: Change = "added" if is_declared else "uncertain"
        for name, tensor in others.items():
            one = ones.get(name)
            change = self._of_tensor(one, tensor, comparer) if one is not None else new
            yield TensorChange(self.path, name, change, one, tensor)
        for name, tensor in ones.items():
            if name not in others:
                yield TensorChange(self.path, name, "removed" if is_declared else "uncertain", tensor, None)

    def _of_file(self, one: File | None, other: File | None, comparer: "_Comparer") -> Change:
        if one is None or other is None:
            return "added" if one is None else "removed"
        if one.digest == other.digest:
            return "same"
        if one.size_bytes != other.size_bytes:
            return "changed"
        assert self.before is not None
        assert self.after is not None
        old, new = (FileSlice(file.path, 0, file.size_bytes) for file in (one, other))
        return comparer.of(self.before, old, self.after, new)

    def _of_tensor(self, one: Tensor, other: Tensor, comparer: "_Comparer") -> Change:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return "reshaped"
        assert self.before is not None
        assert self.after is not None
        old, new = self.before.slice_of(one), self.after.slice_of(other)
        if old is None or new is None or old.size_bytes != new.size_bytes:
            return "uncertain"
        return comparer.of(self.before, old, self.after, new)


class _Comparer:
    """Compares stretches within a budget of chunks."""

    def __init__(self, compare_bytes: CompareBytes, max_chunks: int) -> None:
        self._compare_bytes = compare_bytes
        self._chunks_left = max_chunks

    def of(self, before: _Half, old: FileSlice, after: _Half, new: FileSlice) -> Change:
        """Compare two stretches of the same length, by chunks if these can decide, else by bytes."""
        if not new.size_bytes:
            return "same"
        by_chunks = self._by_chunks(before, old, after, new)
        is_same = by_chunks if by_chunks is not None else self._compare_bytes(old, new)
        return "uncertain" if is_same is None else "same" if is_same else "changed"

    def _by_chunks(self, before: _Half, old: FileSlice, after: _Half, new: FileSlice) -> bool | None:
        old_at, new_at = before.touched(old), after.touched(new)
        if len(old_at) + len(new_at) > self._chunks_left:
            return None
        self._chunks_left -= len(old_at) + len(new_at)
        ones, others = before.at(old_at, old), after.at(new_at, new)
        if ones == others and ones:
            return True
        within = {(start, length): digest for start, length, digest in ones if _is_within(start, length, old)}
        differs = any(within.get((start, length), digest) != digest for start, length, digest in others)
        return False if differs else None


def _is_within(start: int, length: int, piece: FileSlice) -> bool:
    return start >= 0 and start + length <= piece.size_bytes
