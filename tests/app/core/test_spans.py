"""The ranges that an upload requests: all missing bytes, none twice, aligned with chunks."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core import spans
from app.core.models import Chunk
from app.core.spans import ChunkRun, Span

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda ends: Span(*sorted(ends))), max_size=6)
FEW = st.lists(
    st.sampled_from([Chunk(1, "a"), Chunk(1, "b"), Chunk(2, "a"), Chunk(3, "c"), Chunk(9, "d")]), max_size=12
)
CHUNKS = st.lists(st.integers(1, 9).map(lambda length: Chunk(length, "0" * 64)), max_size=10)


def octets(found):
    """The offsets of the bytes in these spans."""
    return {offset for span in found for offset in range(span.start, span.stop)}


@st.composite
def arrivals(draw):
    """A chunk list and the chunks of it that have arrived."""
    chunks = draw(CHUNKS)
    edges = spans.chunk_edges(chunks)
    arrived = draw(st.lists(st.sampled_from(range(len(chunks))))) if chunks else []
    return chunks, [Span(edges[place], edges[place + 1]) for place in arrived]


@given(SPANS)
def test_joining_keeps_the_bytes_in_as_few_spans_as_can_be(found):
    joined = spans.merged(found)
    assert octets(joined) == octets(found)
    assert all(span.start < span.stop for span in joined)
    assert all(one.stop < other.start for one, other in pairwise(joined))


@given(SPANS, st.integers(0, 29), st.integers(1, 9))
@example([Span(2, 5)], 2, 3)
@example([Span(2, 4), Span(4, 6)], 3, 2)
def test_a_span_is_covered_when_all_its_bytes_are_there(found, start, length):
    wanted = Span(start, start + length)
    assert spans.covers(found, wanted) == (octets([wanted]) <= octets(found))


@pytest.mark.parametrize(
    ("have", "size_bytes", "lengths", "limit", "missing"),
    [
        pytest.param([], 10, None, 4, [(0, 4), (4, 8), (8, 10)], id="cut anywhere"),
        pytest.param([], 10, None, 10, [(0, 10)], id="all at once"),
        pytest.param([(2, 4)], 10, None, 100, [(0, 2), (4, 10)], id="around what is there"),
        pytest.param([(0, 10)], 10, None, 4, [], id="nothing"),
        pytest.param([], 0, None, 4, [], id="an empty file"),
        pytest.param([], 0, [], 4, [], id="an empty file with a chunk list"),
        pytest.param([], 10, [3, 3, 4], 4, [(0, 3), (3, 6), (6, 10)], id="one chunk each"),
        pytest.param([], 10, [3, 3, 4], 6, [(0, 6), (6, 10)], id="two chunks where they fit"),
        pytest.param([], 10, [8, 2], 4, [(0, 8), (8, 10)], id="a chunk longer than the limit"),
        pytest.param([(3, 6)], 10, [3, 3, 4], 100, [(0, 3), (6, 10)], id="chunks around what is there"),
        pytest.param([(0, 3), (3, 6)], 10, [3, 3, 4], 100, [(6, 10)], id="the rest"),
    ],
)
def test_what_is_missing(have, size_bytes, lengths, limit, missing):
    chunks = [Chunk(length, "0" * 64) for length in lengths] if lengths is not None else None
    assert spans.missing([Span(*ends) for ends in have], size_bytes, chunks, limit) == missing


@given(arrivals(), st.integers(1, 40))
def test_what_is_missing_and_what_is_there_make_up_the_file(arrival, limit):
    chunks, have = arrival
    size_bytes = sum(chunk.length for chunk in chunks)
    missing = spans.missing(have, size_bytes, chunks, limit)
    assert octets(missing) == set(range(size_bytes)) - octets(have)
    assert sum(span.stop - span.start for span in missing) == len(octets(missing))
    assert missing == sorted(missing)


@given(arrivals(), st.integers(1, 40))
def test_ranges_are_whole_chunks_within_the_limit_unless_one_chunk_is_longer(arrival, limit):
    chunks, have = arrival
    for span in spans.missing(have, sum(chunk.length for chunk in chunks), chunks, limit):
        parts = spans.chunks_within(chunks, span)
        assert parts
        assert sum(chunk.length for chunk in parts) == span.stop - span.start
        assert span.stop - span.start <= limit or len(parts) == 1


@given(arrivals(), st.integers(1, 40))
def test_no_range_is_cut_where_the_next_chunk_would_have_fitted(arrival, limit):
    chunks, have = arrival
    missing = spans.missing(have, sum(chunk.length for chunk in chunks), chunks, limit)
    for one, other in pairwise(missing):
        following = spans.chunks_within(chunks, other)[0].length
        assert one.stop < other.start or one.stop + following - one.start > limit


@given(SPANS, st.integers(30, 40), st.integers(1, 40))
def test_without_a_chunk_list_every_range_is_as_long_as_it_may_be(have, size_bytes, limit):
    missing = spans.missing(have, size_bytes, None, limit)
    assert octets(missing) == set(range(size_bytes)) - octets(have)
    assert sum(span.stop - span.start for span in missing) == len(octets(missing))
    assert all(span.stop - span.start <= limit for span in missing)
    for one, other in pairwise(missing):
        assert one.stop < other.start or one.stop - one.start == limit


def test_chunk_edges_are_where_chunks_begin_and_the_end_of_the_file():
    assert spans.chunk_edges([Chunk(3, ""), Chunk(4, "")]) == [0, 3, 7]
    assert spans.chunk_edges([]) == [0]


@given(CHUNKS, st.integers(0, 40), st.integers(1, 40))
def test_only_spans_that_begin_and_end_with_chunks_consist_of_chunks(chunks, start, length):
    edges = spans.chunk_edges(chunks)
    found = spans.chunks_within(chunks, Span(start, start + length))
    if start in edges and start + length in edges:
        assert found == chunks[edges.index(start) : edges.index(start + length)]
    else:
        assert found is None


@given(SPANS.map(spans.merged), st.integers(0, 29), st.integers(1, 9))
@example([Span(2, 5)], 5, 3)
@example([Span(2, 5)], 0, 2)
@example([Span(2, 5)], 4, 1)
def test_spans_meet_a_span_when_they_share_a_byte(found, start, length):
    wanted = Span(start, start + length)
    assert spans.intersect(found, wanted) == bool(octets([wanted]) & octets(found))


def test_no_spans_meet_nothing():
    assert not spans.intersect([], Span(0, 10))
    assert not spans.intersect([Span(0, 3), Span(6, 9)], Span(3, 6))
    assert spans.intersect([Span(0, 10)], Span(3, 6))


@given(CHUNKS)
def test_chunks_are_placed_one_after_the_other(chunks):
    placed = list(spans.placed(chunks))
    assert [chunk for _, chunk in placed] == chunks
    assert [offset for offset, _ in placed] == spans.chunk_edges(chunks)[:-1]


A, B, C, D, LONG = Chunk(2, "a"), Chunk(3, "b"), Chunk(2, "c"), Chunk(4, "d"), Chunk(50, "long")


def run(source, start, *chunks):
    return ChunkRun(source, Span(start, start + sum(chunk.length for chunk in chunks)), chunks)


@pytest.mark.parametrize(
    ("wanted", "held", "found"),
    [
        pytest.param([], [A], [], id="nothing wanted"),
        pytest.param([A], [], [], id="nothing held"),
        pytest.param([A], [C], [], id="the same length, other bytes"),
        pytest.param([A, B, C], [A, B, C], [run(0, 0, A, B, C)], id="all, in one run"),
        pytest.param([A, B], [C, A, B], [run(2, 0, A, B)], id="moved"),
        pytest.param([A, B], [B, A], [run(3, 0, A), run(0, 2, B)], id="the other way round"),
        pytest.param([A, C, B], [A, B], [run(0, 0, A), run(2, 4, B)], id="something new between"),
        pytest.param([A, B], [A, C, B], [run(0, 0, A), run(4, 2, B)], id="something dropped between"),
        pytest.param([A, A, A], [A], [run(0, 0, A), run(0, 2, A), run(0, 4, A)], id="one for many"),
        pytest.param([B, A], [A, B, A], [run(2, 0, B, A)], id="held twice, the last"),
        pytest.param([LONG, A], [LONG, A], [run(0, 0, LONG), run(50, 50, A)], id="longer than the limit"),
        pytest.param([B, B, B], [B, B, B], [run(6, 0, B), run(6, 3, B), run(6, 6, B)], id="nothing but the same"),
        pytest.param([A, B, C, A], [A, B, C, A], [run(7, 0, A), run(2, 2, B, C, A)], id="the first held twice"),
        pytest.param([A, B, C, D], [A, B, C, D], [run(0, 0, A, B, C), run(7, 7, D)], id="up to the limit"),
    ],
)
def test_runs_of_what_is_held(wanted, held, found):
    assert spans.runs(spans.placed(wanted), held, 8) == found


@given(FEW, FEW, st.sets(st.integers(0, 11)), st.integers(1, 20))
def test_runs_are_just_the_wanted_chunks_that_are_held(chunks, held, places, limit):
    wanted = [placed for place, placed in enumerate(spans.placed(chunks)) if place in places]
    found = spans.runs(wanted, held, limit)
    taken = [(one.span.start + offset, chunk) for one in found for offset, chunk in spans.placed(one.chunks)]
    assert taken == [(offset, chunk) for offset, chunk in wanted if chunk in held]
    assert all(sum(chunk.length for chunk in one.chunks) == one.span.stop - one.span.start for one in found)
    assert all(one.span.stop - one.span.start <= limit or len(one.chunks) == 1 for one in found)


@given(FEW, FEW, st.integers(1, 20))
def test_runs_lie_in_the_held_file_as_they_say(chunks, held, limit):
    there = list(spans.placed(held))
    for one in spans.runs(spans.placed(chunks), held, limit):
        assert all((one.source + offset, chunk) in there for offset, chunk in spans.placed(one.chunks))


@given(FEW, FEW, st.integers(1, 20))
def test_no_run_ends_where_the_next_one_would_have_fitted(chunks, held, limit):
    for one, other in pairwise(spans.runs(spans.placed(chunks), held, limit)):
        length = one.span.stop - one.span.start
        apart = one.span.stop != other.span.start or one.source + length != other.source
        assert apart or length + other.chunks[0].length > limit
