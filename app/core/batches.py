"""Batches: groups of small files of a checkpoint that one request transfers, and their names in a URL. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from app.core.errors import InvalidRequest, TooLarge

SMALL_BYTES = 256 * 1024
"""The largest file of a batch."""
BATCH_BYTES = 4 * 1024 * 1024
"""The largest batch; the server holds it in memory."""
BATCH_FILES = 1000
MOST_PLACES = 1_000_000
"""The number of places of files that a batch can name."""
NAME_CHARACTERS = 2000
"""The longest name of a batch, which is part of a URL."""


def plan(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Group files into batches. Each file is its index and its size in bytes, in rising order of indices.

    Leaves out empty and large files, and a file that would be alone.
    """
    batch: list[int] = []
    total = runs = 0
    for place, size_bytes in sizes:
        if not 0 < size_bytes <= SMALL_BYTES:
            continue
        runs += not batch or place != batch[-1] + 1
        if len(batch) == BATCH_FILES or total + size_bytes > BATCH_BYTES or runs > NAME_CHARACTERS // 12:
            if len(batch) > 1:
                yield batch
            batch, total, runs = [], 0, 1
        batch.append(place)
        total += size_bytes
    if len(batch) > 1:
        yield batch


def name(places: Sequence[int]) -> str:
    """Return the name of a batch: rising indices, consecutive ones as a range, such as ``0-99,101``."""
    parts = []
    first = last = places[0]
    for place in [*places[1:], -1]:
        if place == last + 1:
            last = place
            continue
        parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = place
    return ",".join(parts)


def indices_in(text: str) -> list[int]:
    """Parse the name of a batch into the indices of its files.

    Raises
    ------
    InvalidRequest
        The name is malformed, or its indices do not rise.
    TooLarge
        The batch has too many files.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not _is_place(first) or (dash and not _is_place(last)):
            raise InvalidRequest(f"{text[:100]!r} is not a list of files such as 0-99,101.")
        start, stop = int(first), int(last if dash else first) + 1
        if start >= stop or (found and start <= found[-1]):
            raise InvalidRequest(f"The files {part!r} do not come after the previous ones.")
        if len(found) + stop - start > BATCH_FILES:
            raise TooLarge(f"A batch has {BATCH_FILES} files at most.")
        found += range(start, stop)
    return found


def refuse_large(sizes: Iterable[int]) -> None:
    """Raise `TooLarge` if files of these sizes exceed a batch."""
    if (total := sum(sizes)) > BATCH_BYTES:
        raise TooLarge(f"{total} bytes exceed the {BATCH_BYTES} of a batch.")


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 6
