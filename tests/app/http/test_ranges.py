"""Ranges and preconditions: the bytes in a response, and responses without any."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import RangeNotSatisfiable
from app.http import ranges

ETAG = f'"{"a" * 64}"'
OTHER = f'"{"b" * 64}"'


@pytest.mark.parametrize(
    ("text", "span"),
    [
        pytest.param("bytes=0-0", (0, 1), id="the first byte"),
        pytest.param("bytes=0-", (0, 10), id="from the beginning on"),
        pytest.param("bytes=3-5", (3, 6), id="some"),
        pytest.param("bytes=9-9", (9, 10), id="the last byte"),
        pytest.param("bytes=5-", (5, 10), id="the rest"),
        pytest.param("bytes=5-99", (5, 10), id="more than there is"),
        pytest.param("bytes=-3", (7, 10), id="the last three"),
        pytest.param("bytes=-99", (0, 10), id="the last of more than there are"),
        pytest.param("Bytes = 3 - 5 ", (3, 6), id="as others write it"),
    ],
)
def test_one_range_is_sent(text, span):
    assert ranges.requested_range({"range": text}, ETAG, 10) == span


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("bytes=0-1,3-4", id="several"),
        pytest.param("items=0-1", id="another unit"),
        pytest.param("bytes=5-3", id="backwards"),
        pytest.param("bytes=10-3", id="backwards from beyond the end"),
        pytest.param("bytes=-", id="no number"),
        pytest.param("bytes=", id="nothing"),
        pytest.param("bytes=a-b", id="no numbers"),
        pytest.param("bytes=+1-2", id="a sign"),
        pytest.param("bytes=0x1-2", id="hexadecimal"),
        pytest.param("bytes=\u0663-5", id="digits of another script"),
        pytest.param("x bytes=1-2", id="something before"),
        pytest.param("bytes=1-2 x", id="something after"),
        pytest.param(f"bytes=0-{'9' * 5000}", id="a number without end"),
    ],
)
def test_a_range_that_makes_no_sense_gives_the_whole_file(text):
    assert ranges.requested_range({"range": text}, ETAG, 10) is None


def test_without_a_range_the_whole_file_is_sent():
    assert ranges.requested_range({}, ETAG, 10) is None
    assert ranges.requested_range({"if-range": ETAG}, ETAG, 10) is None


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        pytest.param("bytes=10-", 10, id="from the end on"),
        pytest.param("bytes=10-20", 10, id="beyond the end"),
        pytest.param("bytes=-0", 10, id="the last none"),
        pytest.param("bytes=0-", 0, id="of an empty file"),
    ],
)
def test_a_range_beyond_the_file_is_refused_with_the_size(text, size_bytes):
    with pytest.raises(RangeNotSatisfiable) as refused:
        ranges.requested_range({"range": text}, ETAG, size_bytes)
    assert refused.value.headers == {"Content-Range": f"bytes */{size_bytes}"}
    assert refused.value.status == 416


@given(st.integers(1, 99), st.integers(0, 120), st.integers(0, 120))
def test_a_range_gives_what_python_would_slice(size_bytes, first, length):
    data = bytes(range(size_bytes))
    try:
        start, stop = ranges.requested_range({"range": f"bytes={first}-{first + length}"}, ETAG, size_bytes)
    except RangeNotSatisfiable:
        assert first >= size_bytes
    else:
        assert data[start:stop] == data[first : first + length + 1] != b""


@pytest.mark.parametrize(
    ("if_range", "span"),
    [
        pytest.param(ETAG, (3, 6), id="the same content"),
        pytest.param(f" {ETAG} ", (3, 6), id="the same content, spaced"),
        pytest.param(OTHER, None, id="other content"),
        pytest.param(f"W/{ETAG}", None, id="a weak tag proves nothing"),
        pytest.param("Mon, 23 Nov 2026 14:05:01 GMT", None, id="a date proves nothing"),
    ],
)
def test_a_part_is_only_sent_of_the_content_that_the_asker_has(if_range, span):
    assert ranges.requested_range({"range": "bytes=3-5", "if-range": if_range}, ETAG, 10) == span


def test_a_range_of_other_content_is_not_refused():
    assert ranges.requested_range({"range": "bytes=99-", "if-range": OTHER}, ETAG, 10) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, None, id="nothing asked"),
        pytest.param({"if-none-match": ETAG}, 304, id="known"),
        pytest.param({"if-none-match": f"W/{ETAG}"}, 304, id="known, weakly"),
        pytest.param({"if-none-match": f"{OTHER}, {ETAG}"}, 304, id="one of those known"),
        pytest.param({"if-none-match": "*"}, 304, id="anything known"),
        pytest.param({"if-none-match": OTHER}, None, id="something else known"),
        pytest.param({"if-none-match": ETAG[1:-1]}, None, id="known, but not a tag"),
        pytest.param({"if-match": ETAG}, None, id="as wanted"),
        pytest.param({"if-match": f"{OTHER},{ETAG}"}, None, id="one of those wanted"),
        pytest.param({"if-match": "*"}, None, id="anything wanted"),
        pytest.param({"if-match": OTHER}, 412, id="something else wanted"),
        pytest.param({"if-match": f"W/{ETAG}"}, 412, id="wanted, but weakly"),
        pytest.param({"if-match": OTHER, "if-none-match": ETAG}, 412, id="what is wanted comes first"),
        pytest.param({"if-match": ETAG, "if-none-match": ETAG}, 304, id="as wanted, and known"),
    ],
)
def test_a_condition_can_end_a_request_early(headers, status):
    assert ranges.precondition(headers, ETAG) == status


def test_times_are_in_gmt():
    at = datetime(2026, 11, 23, 16, 5, 1, 999_999, timezone(timedelta(hours=2)))
    assert ranges.http_date(at) == ranges.http_date(at.astimezone(UTC)) == "Mon, 23 Nov 2026 14:05:01 GMT"
