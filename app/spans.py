"""Which bytes of a file have arrived, and which ranges to ask for. Pure: no disk."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from app.domain import Chunk


class Span(NamedTuple):
    """The bytes from ``start`` up to, not including, ``stop``."""

    start: int
    stop: int


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same bytes as few spans, sorted, none touching another."""
    result: list[Span] = []
    for span in sorted(span for span in spans if span.start < span.stop):
        if result and span.start <= result[-1].stop:
            result[-1] = Span(result[-1].start, max(result[-1].stop, span.stop))
        else:
            result.append(span)
    return tuple(result)


def covers(spans: Iterable[Span], wanted: Span) -> bool:
    """Whether all the wanted bytes lie within the spans."""
    return any(span.start <= wanted.start and wanted.stop <= span.stop for span in joined(spans))


def missing(have: Iterable[Span], size_bytes: int, chunks: Sequence[Chunk] | None, limit: int) -> list[Span]:
    """What has not arrived, in ranges of at most ``limit`` bytes that begin and end where chunks do.

    A file without a chunk list may be cut anywhere. A chunk longer than the limit makes a range of its own.
    """
    edges = chunk_edges(chunks) if chunks is not None else None
    ranges: list[Span] = []
    for gap in _gaps(joined(have), size_bytes):
        start = gap.start
        while start < gap.stop:
            stop = min(gap.stop, _cut(start, limit, edges))
            ranges.append(Span(start, stop))
            start = stop
    return ranges


def chunk_edges(chunks: Iterable[Chunk]) -> list[int]:
    """The offsets at which chunks begin, and the file's end: n + 1 numbers for n chunks."""
    return list(accumulate((chunk.length for chunk in chunks), initial=0))


def chunks_within(chunks: Sequence[Chunk], span: Span) -> Sequence[Chunk] | None:
    """The chunks that make up exactly this span, or None where it does not begin and end where chunks do."""
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
