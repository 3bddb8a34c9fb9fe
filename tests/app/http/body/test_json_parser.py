"""JSON parsed in pieces: values and errors equal those of `json.loads`, even at the edges of pieces."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.http.body import json_parser

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=6)
)
WRONG = [*'[]{},:"\\ 1-eN\n', "", ",]", ",}", "\x00", "é"]
SPACES = st.sampled_from([None, 1, 3])


def outcome(parse, data):
    """Return the value, or the error with its position, as the API reports it."""
    try:
        return "value", parse(data)
    except json.JSONDecodeError as error:
        return "error", error.msg, error.pos
    except (ValueError, RecursionError) as error:
        return "error", type(error)


def same(ours, theirs):
    """Compare values such that NaN equals itself, and 1, 1.0 and True differ."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (isinstance(ours, float) and math.isnan(ours) and math.isnan(theirs))


@pytest.fixture(params=[1, 7, 40], autouse=True, scope="module")
def _short_pieces(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parser, "PIECE_CHARACTERS", request.param)
        yield


def assert_same(data):
    ours, theirs = outcome(json_parser.loads, data), outcome(json.loads, data)
    assert same(ours, theirs), (data, ours, theirs)


@given(VALUES, SPACES, st.booleans())
@settings(max_examples=120, deadline=None)
def test_values_are_those_of_the_standard_parser(value, indent, ascii_only):
    assert_same(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


@given(VALUES, SPACES, st.integers(0, 200), st.sampled_from(WRONG))
@settings(max_examples=300, deadline=None)
@example([1, 2, 3], None, 2, ",]")
def test_errors_and_their_places_are_those_of_the_standard_parser(value, indent, place, what):
    text = json.dumps(value, indent=indent)
    place %= len(text) + 1
    assert_same((text[:place] + what + text[place + 1 :]).encode())
    assert_same((text[:place] + what + text[place:]).encode())
    assert_same(text[:place].encode())


ROW = '{"length": 4096, "digest": "abc"}'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" + ", ".join([ROW] * 50) + "]", id="many objects"),
        pytest.param("[" + ", ".join([ROW] * 50) + ",]", id="a comma at the end"),
        pytest.param("[" + ", ".join([ROW] * 50) + " ,\n ]", id="a comma and spaces at the end"),
        pytest.param("[" + ", ".join([ROW] * 50), id="no end"),
        pytest.param("[" + ROW + ",,".join([ROW] * 50) + "]", id="two commas"),
        pytest.param("[" + ",".join(["[[1,2],[3]]", '"},{"', '"a,b"'] * 30) + "]", id="commas within"),
        pytest.param('{"a": 1, "b": {"a": 2, "a": 3}, "a": [4]}', id="the same key again"),
        pytest.param("[NaN, Infinity, -Infinity, -0, 1e400, 1E-400]", id="numbers that are none"),
        pytest.param("[" + "9" * 4000 + "]", id="a long number"),
        pytest.param("[" + "9" * 5000 + "]", id="a number that is too long"),
        pytest.param("[" * 90 + "1" + "]" * 90, id="nested"),
        pytest.param("[" * 300 + "1,2" + "]" * 300, id="nested deep"),
        pytest.param("[" * 100_000, id="nested too deep"),
        pytest.param('{"a":' * 100_000, id="objects nested too deep"),
        pytest.param('["\\ud800", "\\ud83d\\ude00", "\t"]', id="a control character"),
        pytest.param("", id="nothing"),
        pytest.param(" ", id="a space"),
        pytest.param("[1] 2", id="more"),
        pytest.param("\ufeff[1]", id="a mark of byte order"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
def test_what_is_odd_is_taken_as_by_the_standard_parser(text, encoding):
    assert_same(text.encode(encoding, "surrogatepass"))


@pytest.mark.parametrize("data", [b'["\xff"]', b'["\xed\xa0\x80"]', b"\x00", b"[\x00]"])
def test_bytes_that_are_no_text_are_taken_as_by_the_standard_parser(data):
    assert_same(data)
