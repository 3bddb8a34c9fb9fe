"""How a checkpoint differs from another one, by the digests of their chunks. Pure: no clock, disk or SQL.

A stretch of bytes is the same where chunks of the same digests cover it at the same places, and different where a chunk
that lies within it differs. Where neither can be said, as its chunks reach beyond it or are cut otherwise, it is asked.
Where tensors lie is for clients to declare, so how many chunks are looked at is bounded.
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
"""The kinds of change, what one wants to see first."""

MOST_LOOKS = 8_000_000
"""How many chunks are looked at: as many as the largest checkpoints have, unless their tensors are said to overlap."""


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
    """How two checkpoints differ. ``tensors`` is None where none are known of either of them.

    ``shared_bytes`` is how many bytes of ``after`` lie in chunks that ``before`` holds as well.
    """

    before: Checkpoint
    after: Checkpoint
    files: Sequence[FileChange]
    tensors: Sequence[TensorChange] | None
    shared_bytes: int

    @property
    def counts(self) -> Mapping[Change, int]:
        """How many tensors there are of each change."""
        return Counter(tensor.change for tensor in self.tensors or ())


class Stretch(NamedTuple):
    """Bytes of a file."""

    path: str
    offset: int
    size_bytes: int


Settle = Callable[[Stretch, Stretch], bool | None]
"""Says whether two stretches of the same length, of the first and of the second checkpoint, are the same bytes; None
where it cannot."""


class Side(NamedTuple):
    """A checkpoint, and what lies where in its files."""

    checkpoint: Checkpoint
    maps: Mapping[str, FileMap]


def compare(before: Side, after: Side, settle: Settle, *, most_looks: int = MOST_LOOKS) -> Comparison:
    """How a checkpoint differs from another one.

    Two checkpoints of one file each are compared whatever these are called, as their names tell the epoch; files of
    several are paired by path, tensors by name. Once ``most_looks`` chunks were looked at, all else is asked.
    """
    pairs = [_Pair.of(before, after, one, other) for one, other in _paired(before.checkpoint, after.checkpoint)]
    has_tensors = any(found.tensors is not None for side in (before, after) for found in side.maps.values())
    judge = _Judge(settle, most_looks)
    tensors = [change for pair in pairs for change in pair.tensors(judge)] if has_tensors else None
    files = [pair.as_file(judge) for pair in pairs]  # last, as to settle these may take all that there is to be read
    return Comparison(before.checkpoint, after.checkpoint, files, tensors, _shared_bytes(before, after))


def _paired(before: Checkpoint, after: Checkpoint) -> Iterator[tuple[File | None, File | None]]:
    if len(before.files) == len(after.files) == 1:
        yield before.files[0], after.files[0]
        return
    ones, others = ({file.path: file for file in found.files} for found in (before, after))
    for path in sorted({*ones, *others}):
        yield ones.get(path), others.get(path)


def _shared_bytes(before: Side, after: Side) -> int:
    held = {chunk.digest for found in before.maps.values() for chunk in found.chunks}
    return sum(chunk.length for found in after.maps.values() for chunk in found.chunks if chunk.digest in held)


class _Half(NamedTuple):
    """A file of one checkpoint, and where its chunks begin."""

    file: File
    chunks: Sequence[Chunk]
    starts: Sequence[int]
    tensors: Sequence[Tensor] | None

    def touched(self, stretch: Stretch) -> range:
        """The places of the chunks that a stretch touches."""
        first = max(0, bisect_right(self.starts, stretch.offset) - 1)
        return range(first, bisect_left(self.starts, stretch.offset + stretch.size_bytes))

    def at(self, places: range, stretch: Stretch) -> list[tuple[int, int, str]]:
        """The chunks at these places: where each begins within a stretch, its length, its digest."""
        return [
            (self.starts[place] - stretch.offset, self.chunks[place].length, self.chunks[place].digest)
            for place in places
        ]

    def stretch(self, tensor: Tensor) -> Stretch | None:
        """Where a tensor lies; None where that is not known, or beyond the file."""
        if tensor.offset is None or tensor.size_bytes is None:
            return None
        if tensor.offset + tensor.size_bytes > self.file.size_bytes:
            return None
        return Stretch(self.file.path, tensor.offset, tensor.size_bytes)


def _half(side: Side, file: File | None) -> _Half | None:
    if file is None:
        return None
    found = side.maps.get(file.path, FileMap(()))
    starts = list(accumulate((chunk.length for chunk in found.chunks), initial=0))[:-1]
    return _Half(file, found.chunks, starts, found.tensors)


class _Pair(NamedTuple):
    """A file of the first checkpoint and the one of the second that it became."""

    before: _Half | None
    after: _Half | None

    @classmethod
    def of(cls, before: Side, after: Side, one: File | None, other: File | None) -> "_Pair":
        return cls(_half(before, one), _half(after, other))

    @property
    def path(self) -> str:
        half = self.after or self.before
        return half.file.path if half is not None else ""

    def as_file(self, judge: "_Judge") -> FileChange:
        one, other = (half.file if half is not None else None for half in self)
        return FileChange(self.path, self._of_file(one, other, judge), one, other)

    def tensors(self, judge: "_Judge") -> Iterator[TensorChange]:
        """Those of the second file in their order, then those that are gone; nothing is said of what is new or gone
        where the tensors of either file are not known."""
        ones, others = ({tensor.name: tensor for tensor in (half and half.tensors) or ()} for half in self)
        is_declared = all(half is None or half.tensors is not None for half in self)
        new: Change = "added" if is_declared else "uncertain"
        for name, tensor in others.items():
            one = ones.get(name)
            change = self._of_tensor(one, tensor, judge) if one is not None else new
            yield TensorChange(self.path, name, change, one, tensor)
        for name, tensor in ones.items():
            if name not in others:
                yield TensorChange(self.path, name, "removed" if is_declared else "uncertain", tensor, None)

    def _of_file(self, one: File | None, other: File | None, judge: "_Judge") -> Change:
        if one is None or other is None:
            return "added" if one is None else "removed"
        if one.digest == other.digest:
            return "same"
        if one.size_bytes != other.size_bytes:
            return "changed"
        assert self.before is not None
        assert self.after is not None
        lay, lies = (Stretch(file.path, 0, file.size_bytes) for file in (one, other))
        return judge.of(self.before, lay, self.after, lies)

    def _of_tensor(self, one: Tensor, other: Tensor, judge: "_Judge") -> Change:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return "reshaped"
        assert self.before is not None
        assert self.after is not None
        lies, lay = self.after.stretch(other), self.before.stretch(one)
        if lies is None or lay is None or lies.size_bytes != lay.size_bytes:
            return "uncertain"
        return judge.of(self.before, lay, self.after, lies)


class _Judge:
    """Tells stretches apart, and remembers how much it may still look at."""

    def __init__(self, settle: Settle, most_looks: int) -> None:
        self._settle = settle
        self._left_looks = most_looks

    def of(self, before: _Half, lay: Stretch, after: _Half, lies: Stretch) -> Change:
        """Whether two stretches of the same length are the same; what the chunks leave open is asked."""
        if not lies.size_bytes:
            return "same"
        told = self._by_chunks(before, lay, after, lies)
        is_same = told if told is not None else self._settle(lay, lies)
        return "uncertain" if is_same is None else "same" if is_same else "changed"

    def _by_chunks(self, before: _Half, lay: Stretch, after: _Half, lies: Stretch) -> bool | None:
        lay_at, lies_at = before.touched(lay), after.touched(lies)
        if len(lay_at) + len(lies_at) > self._left_looks:
            return None
        self._left_looks -= len(lay_at) + len(lies_at)
        ones, others = before.at(lay_at, lay), after.at(lies_at, lies)
        if ones == others and ones:
            return True
        within = {(start, length): digest for start, length, digest in ones if _is_within(start, length, lay)}
        differs = any(within.get((start, length), digest) != digest for start, length, digest in others)
        return False if differs else None


def _is_within(start: int, length: int, stretch: Stretch) -> bool:
    return start >= 0 and start + length <= stretch.size_bytes
