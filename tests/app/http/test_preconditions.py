"""Preconditions of requests that write: the headers that are read, and those that are refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidRequest
from app.core.models import NO_PRECONDITION, Precondition
from app.http import preconditions

TAGS = st.text([chr(code) for code in range(0x21, 0x100) if code not in {0x22, 0x7F} and not 0x80 <= code < 0xA0])


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        pytest.param("*", ("*",), id="any"),
        pytest.param(" *\t", ("*",), id="any, with spaces"),
        pytest.param('"a"', ('"a"',), id="one"),
        pytest.param('"a","b"', ('"a"', '"b"'), id="two"),
        pytest.param(' ,"a" ,, "b", ', ('"a"', '"b"'), id="empty elements"),
        pytest.param('"a,b"', ('"a,b"',), id="a comma within"),
        pytest.param('"*"', ('"*"',), id="a tag that is an asterisk"),
        pytest.param('""', ('""',), id="an empty tag"),
    ],
)
def test_both_headers_are_read_alike(header, tags):
    assert preconditions.read(header, None) == Precondition(if_match=tags)
    assert preconditions.read(None, header) == Precondition(if_none_match=tags)
    assert preconditions.read(header, header) == Precondition(tags, tags)


def test_a_weak_tag_matches_in_if_none_match_alone():
    assert preconditions.read('W/"a", "b"', 'W/"a", "b"') == Precondition(('"b"',), ('"a"', '"b"'))
    assert preconditions.read('W/"a"', None) == Precondition(if_match=())


def test_no_header_is_no_precondition():
    assert preconditions.read(None, None) == NO_PRECONDITION


@pytest.mark.parametrize(
    "header", ["", ",", "a", '"a', 'a"', '"a" "b"', '"a""b"', '*, "a"', '"a", *', 'w/"a"', '"a b"']
)
def test_what_is_no_list_of_tags_is_refused(header):
    for pair in ((header, None), (None, header)):
        with pytest.raises(InvalidRequest, match="precondition"):
            preconditions.read(*pair)


@given(st.lists(TAGS.map('"{}"'.format), min_size=1))
def test_every_tag_of_a_list_is_read(tags):
    assert preconditions.read(", ".join(tags), None) == Precondition(if_match=tuple(tags))


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with suppress(InvalidRequest):
        assert preconditions.read(text, None).if_match is not None
