"""Comparisons of two checkpoints by their digests; bytes are read only if digests do not decide, up to a bound."""

from app.catalog import Session
from app.core import diff
from app.core.diff import Comparison, FileSlice, MappedCheckpoint
from app.core.errors import Refusal
from app.service.query.contents import Contents
from app.service.state.context import Context
from app.service.state.get_or_refuse import known_checkpoint, readable_maps
from app.storage.ports import Opened

READ_MAX_BYTES = 64 * 1024 * 1024
"""The number of bytes of either checkpoint that are read at most."""
PIECE_BYTES = 1024 * 1024


class Comparisons:
    """Compares live and removed checkpoints; of removed ones only the catalog's record."""

    def __init__(self, context: Context, contents: Contents) -> None:
        self._context = context
        self._contents = contents

    def compare(self, before: str, after: str) -> Comparison:
        """Compare two checkpoints, given by their ids.

        Raises
        ------
        CheckpointNotFound
        Altered
            The catalog's record of the files of one of them is damaged.
        """
        with self._context.catalog.reading() as session:
            sides = _side(session, before), _side(session, after)
        with _Reading(self._contents, *sides) as reading:
            return diff.compare(*sides, reading.are_same)


def _side(session: Session, checkpoint_id: str) -> MappedCheckpoint:
    checkpoint = known_checkpoint(session, checkpoint_id)
    with readable_maps(checkpoint):
        return MappedCheckpoint(checkpoint, session.checkpoints.maps(checkpoint_id))


class _Reading:
    """Reads a bounded number of bytes. Holds at most one file of either checkpoint open."""

    def __init__(self, contents: Contents, before: MappedCheckpoint, after: MappedCheckpoint) -> None:
        self._halves = _OneOpen(contents, before.checkpoint.id), _OneOpen(contents, after.checkpoint.id)
        self._left_bytes = READ_MAX_BYTES

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *_: object) -> None:
        for half in self._halves:
            half.close()

    def are_same(self, before: FileSlice, after: FileSlice) -> bool | None:
        """Tell if these bytes are the same; None if they are too many or cannot be read."""
        if after.size_bytes > self._left_bytes:
            return None
        one, other = (half.file(stretch.path) for half, stretch in zip(self._halves, (before, after), strict=True))
        if one is None or other is None:
            return None
        self._left_bytes -= after.size_bytes
        try:
            for start, length in _pieces(after.size_bytes):
                lay, lies = one.read(before.offset + start, length), other.read(after.offset + start, length)
                if len(lay) != length or len(lies) != length:
                    return None
                if lay != lies:
                    return False
        except OSError:
            return None
        return True


class _OneOpen:
    """The files of a checkpoint, of which at most one is open. Does not retry to open one that failed."""

    def __init__(self, contents: Contents, checkpoint_id: str) -> None:
        self._contents = contents
        self._id = checkpoint_id
        self._path: str | None = None
        self._opened: Opened | None = None
        self._unreadable: set[str] = set()

    def file(self, path: str) -> Opened | None:
        """Open a file until another one is wanted; None if it cannot be read."""
        if path in self._unreadable or path == self._path:
            return self._opened if path == self._path else None
        self.close()
        try:
            self._opened = self._contents.open(self._id, path).opened
        except (OSError, Refusal):
            self._unreadable.add(path)
            return None
        self._path = path
        return self._opened

    def close(self) -> None:
        """Close the open file."""
        if self._opened is not None:
            self._opened.close()
        self._path = self._opened = None


def _pieces(size_bytes: int) -> list[tuple[int, int]]:
    return [(start, min(PIECE_BYTES, size_bytes - start)) for start in range(0, size_bytes, PIECE_BYTES)]
