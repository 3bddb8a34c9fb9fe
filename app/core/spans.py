"""Spans of bytes: those of a file that have arrived, and the ranges to request. Pure: no disk."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from app.core.models import Chunk


class Span(NamedTuple):
    """The bytes from ``start`` up to, not including, ``stop``."""

    start: int
    stop: int


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Merge spans into the fewest, sorted and disjoint."""
    result: list[Span] = []
    for span in sorted(span for span in spans if span.start < span.stop):
        if result and span.start <= result[-1].stop:
            result[-1] = Span(result[-1].start, max(result[-1].stop, span.stop))
        else:
            result.append(span)
    return tuple(result)


def total(spans: Iterable[Span]) -> int:
    """Return the number of bytes in spans that do not overlap."""
    return sum(span.stop - span.start for span in spans)


def covers(spans: Iterable[Span], wanted: Span) -> bool:
    """Tell if the spans contain all the wanted bytes."""
    return any(span.start <= wanted.start and wanted.stop <= span.stop for span in merged(spans))


def intersect(spans: Iterable[Span], wanted: Span) -> bool:
    """Tell if the spans contain any of the wanted bytes."""
    return any(span.start < wanted.stop and wanted.start < span.stop for span in spans)


def placed(chunks: Iterable[Chunk]) -> Iterator[tuple[int, Chunk]]:
    """Pair each chunk with its offset."""
    offset = 0
    for chunk in chunks:
        yield offset, chunk
        offset += chunk.length


class ChunkRun(NamedTuple):
    """Consecutive chunks that another file contains as well, at offset ``source`` there."""

    source: int
    span: Span
    chunks: tuple[Chunk, ...]


def runs(wanted: Iterable[tuple[int, Chunk]], held: Iterable[Chunk], limit: int) -> list[ChunkRun]:
    """Find the wanted chunks that a file contains, in runs of at most ``limit`` bytes or of one chunk."""
    places = {chunk: offset for offset, chunk in placed(held)}
    found: list[ChunkRun] = []
    for offset, chunk in wanted:
        source = places.get(chunk)
        if source is None:
            continue
        span = Span(offset, offset + chunk.length)
        last = found[-1] if found else None
        follows = last is not None and (last.span.stop, last.source + last.span.stop - last.span.start) == (
            offset,
            source,
        )
        if last is not None and follows and span.stop - last.span.start <= limit:
            found[-1] = ChunkRun(last.source, Span(last.span.start, span.stop), (*last.chunks, chunk))
        else:
            found.append(ChunkRun(source, span, (chunk,)))
    return found


def missing(have: Iterable[Span], size_bytes: int, chunks: Sequence[Chunk] | None, limit: int) -> list[Span]:
    """Return the missing bytes as ranges of at most ``limit`` bytes, aligned with chunks.

    A file without a chunk list may be cut anywhere. A chunk longer than the limit is a range of its own.
    """
    have = tuple(have)
    if size_bytes <= limit and len(have) <= 1:  # the common case of a checkpoint with thousands of small files
        if not have:
            return [Span(0, size_bytes)] if size_bytes else []
        if have[0] == (0, size_bytes):
            return []
    edges = chunk_edges(chunks) if chunks is not None else None
    ranges: list[Span] = []
    for gap in _gaps(merged(have), size_bytes):
        start = gap.start
        while start < gap.stop:
            stop = min(gap.stop, _cut(start, limit, edges))
            ranges.append(Span(start, stop))
            start = stop
    return ranges


def chunk_edges(chunks: Iterable[Chunk]) -> list[int]:
    """Return the offsets of chunks and the end of the file: n + 1 numbers for n chunks."""
    return list(accumulate((chunk.length for chunk in chunks), initial=0))


def chunks_within(chunks: Sequence[Chunk], span: Span) -> Sequence[Chunk] | None:
    """Return the chunks that make up exactly this span; None if it is not aligned with chunks."""
    edges = chunk_edges(chunks)
    first, last = bisect_right(edges, span.start) - 1, bisect_right(edges, span.stop) - 1
    if span.stop > edges[-1] or edges[first] != span.start or edges[last] != span.stop:
        return None
    return chunks[first:last]


def _gaps(have: tuple[Span, ...], size_bytes: int) -> list[Span]:
    starts = [0, *(span.stop for span in have)]
    stops = [*(span.start for span in have), size_bytes]
    return [Span(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]


def _cut(start: int, limit: int, edges: list[int] | None) -> int:
    if edges is None:
        return start + limit
    here = bisect_right(edges, start)
    return edges[max(bisect_right(edges, start + limit) - 1, min(here, len(edges) - 1))]
