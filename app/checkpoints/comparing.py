"""Compare two checkpoints by what is known of them; what that leaves open is read from the disk, up to a bound."""

from contextlib import ExitStack, suppress

from app import comparing
from app.catalog import Session
from app.checkpoints.finding import Finding
from app.checkpoints.parts import Parts, known_checkpoint
from app.comparing import Comparison, Side, Stretch
from app.errors import Altered, Refusal
from app.storage.base import Opened

READ_MAX_BYTES = 64 * 1024 * 1024
"""How much of either checkpoint is read at the most."""
PIECE_BYTES = 1024 * 1024


class Comparing:
    """Comparisons, also with checkpoints that were removed: of these, only what was known is compared."""

    def __init__(self, parts: Parts, finding: Finding) -> None:
        self._parts = parts
        self._finding = finding

    def compare(self, before: str, after: str) -> Comparison:
        """How a checkpoint differs from another one, by their ids.

        Raises
        ------
        CheckpointNotFound
        Altered
            The catalog does not know any more what lies where in one of them.
        """
        with self._parts.catalog.reading() as session:
            sides = _side(session, before), _side(session, after)
        with _Reading(self._finding, *sides) as reading:
            return comparing.compare(*sides, reading.are_same)


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
    """Reads what digests leave open, as long as it is little."""

    def __init__(self, finding: Finding, before: Side, after: Side) -> None:
        self._finding = finding
        self._sides = before.checkpoint, after.checkpoint
        self._left_bytes = READ_MAX_BYTES
        self._opened: dict[tuple[str, str], Opened | None] = {}
        self._open = ExitStack()

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def are_same(self, before: Stretch, after: Stretch) -> bool | None:
        """Whether these bytes are the same; None where they are too many, or cannot be read."""
        if after.size_bytes > self._left_bytes:
            return None
        files = [self._file(side.id, stretch.path) for side, stretch in zip(self._sides, (before, after), strict=True)]
        if files[0] is None or files[1] is None:
            return None
        self._left_bytes -= after.size_bytes
        for start, length in _pieces(after.size_bytes):
            try:
                one, other = files[0].read(before.offset + start, length), files[1].read(after.offset + start, length)
            except OSError:
                return None
            if len(one) != length or len(other) != length:  # cut off since it was opened
                return None
            if one != other:
                return False
        return True

    def _file(self, checkpoint_id: str, path: str) -> Opened | None:
        key = (checkpoint_id, path)
        if key not in self._opened:
            self._opened[key] = None
            with suppress(OSError, Refusal):
                opened = self._opened[key] = self._finding.open(checkpoint_id, path).opened
                self._open.callback(opened.close)
        return self._opened[key]


def _pieces(size_bytes: int) -> list[tuple[int, int]]:
    return [(start, min(PIECE_BYTES, size_bytes - start)) for start in range(0, size_bytes, PIECE_BYTES)]
