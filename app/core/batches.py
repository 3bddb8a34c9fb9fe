"""Batches: which small files of a checkpoint travel together in one request, and how an address names them. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from app.core.errors import InvalidRequest, TooLarge

SMALL_BYTES = 256 * 1024
"""The largest file of a batch."""
BATCH_BYTES = 4 * 1024 * 1024
"""The most bytes of a batch, which is held in memory."""
BATCH_FILES = 1000
NAME_CHARACTERS = 2000
"""The longest name of a batch: it is part of an address."""


def plan(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """The batches of files, each given as its place and its size in bytes, in the order of their places.

    Empty and large files are left out, and so is a file that would be alone.
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
    """The name of a batch: rising places, those that follow each other as a range, such as ``0-99,101``."""
    parts = []
    first = last = places[0]
    for place in [*places[1:], -1]:
        if place == last + 1:
            last = place
            continue
        parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = place
    return ",".join(parts)


def places(text: str) -> list[int]:
    """The places in the name of a batch.

    Raises
    ------
    InvalidRequest
        It is no such name.
    TooLarge
        The batch has too many files.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not _is_place(first) or (dash and not _is_place(last)):
            raise InvalidRequest(f"{text[:100]!r} is no list of files such as 0-99,101.")
        start, stop = int(first), int(last if dash else first) + 1
        if start >= stop or (found and start <= found[-1]):
            raise InvalidRequest(f"The files {part!r} do not follow those before.")
        if len(found) + stop - start > BATCH_FILES:
            raise TooLarge(f"A batch has {BATCH_FILES} files at most.")
        found += range(start, stop)
    return found


def refuse_large(sizes: Iterable[int]) -> None:
    """`TooLarge` unless files of these sizes may travel together."""
    if (total := sum(sizes)) > BATCH_BYTES:
        raise TooLarge(f"{total} bytes are more than the {BATCH_BYTES} of a batch.")


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 6
