"""Compare two checkpoints by what is known of them; what that leaves open is read from the disk, up to a bound."""

from app.catalog import Session
from app.core import diff
from app.core.diff import Comparison, Side, Stretch
from app.core.errors import Altered, Refusal
from app.service.query.find import Finding
from app.service.state.context import Context
from app.service.state.lookup import known_checkpoint
from app.storage.port import Opened

READ_MAX_BYTES = 64 * 1024 * 1024
"""How much of either checkpoint is read at the most."""
PIECE_BYTES = 1024 * 1024


class Comparing:
    """Comparisons, also with checkpoints that were removed: of these, only what was known is compared."""

    def __init__(self, context: Context, finding: Finding) -> None:
        self._context = context
        self._finding = finding

    def compare(self, before: str, after: str) -> Comparison:
        """How a checkpoint differs from another one, by their ids.

        Raises
        ------
        CheckpointNotFound
        Altered
            The catalog does not know any more what lies where in one of them.
        """
        with self._context.catalog.reading() as session:
            sides = _side(session, before), _side(session, after)
        with _Reading(self._finding, *sides) as reading:
            return diff.compare(*sides, reading.are_same)


def _side(session: Session, checkpoint_id: str) -> Side:
    checkpoint = known_checkpoint(session, checkpoint_id)
    try:
        return Side(checkpoint, session.checkpoints.maps(checkpoint_id))
    except ValueError as error:
        raise Altered(
            f"The catalog does not know any more what lies where in {checkpoint.directory}/{checkpoint.name}; "
            "`holdfast-server fsck` reads it from the manifest."
        ) from error


class _Reading:
    """Reads what digests leave open, as long as it is little. Of either checkpoint, one file is open at a time."""

    def __init__(self, finding: Finding, before: Side, after: Side) -> None:
        self._halves = _OneOpen(finding, before.checkpoint.id), _OneOpen(finding, after.checkpoint.id)
        self._left_bytes = READ_MAX_BYTES

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *_: object) -> None:
        for half in self._halves:
            half.close()

    def are_same(self, before: Stretch, after: Stretch) -> bool | None:
        """Whether these bytes are the same; None where they are too many, or cannot be read."""
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
    """The files of a checkpoint, of which at most one is open; those that could not be opened are not tried again."""

    def __init__(self, finding: Finding, checkpoint_id: str) -> None:
        self._finding = finding
        self._id = checkpoint_id
        self._path: str | None = None
        self._opened: Opened | None = None
        self._unreadable: set[str] = set()

    def file(self, path: str) -> Opened | None:
        """The file, open until another one is wanted; None where it cannot be read."""
        if path in self._unreadable or path == self._path:
            return self._opened if path == self._path else None
        self.close()
        try:
            self._opened = self._finding.open(self._id, path).opened
        except (OSError, Refusal):
            self._unreadable.add(path)
            return None
        self._path = path
        return self._opened

    def close(self) -> None:
        """Let go of what is open."""
        if self._opened is not None:
            self._opened.close()
        self._path = self._opened = None


def _pieces(size_bytes: int) -> list[tuple[int, int]]:
    return [(start, min(PIECE_BYTES, size_bytes - start)) for start in range(0, size_bytes, PIECE_BYTES)]
