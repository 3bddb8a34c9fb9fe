"""Page tokens: a token is read back unchanged or refused."""

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidRequest
from app.http.page_tokens import read_token, write_token

PARTS = (
    st.text().filter(lambda text: "\0" not in text)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)
LISTINGS = st.lists(st.text() | st.none(), max_size=4)


def forged(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_no_token_asks_for_the_first_page():
    assert read_token(None, "runs/a", "best", length=4) is None


@given(KEYS, LISTINGS)
def test_a_token_gives_back_the_key_that_it_was_made_of(key, listing):
    found = read_token(write_token(key, *listing), *listing, length=len(key))
    assert found == key
    assert [type(part) for part in found] == [type(part) for part in key]


@given(KEYS, LISTINGS)
def test_a_token_can_stand_in_an_address_as_it_is(key, listing):
    assert re.fullmatch(r"[A-Za-z0-9_-]+", write_token(key, *listing))


@given(KEYS, LISTINGS, LISTINGS)
def test_a_token_is_good_for_its_own_listing_only(key, listing, other):
    token = write_token(key, *listing)
    if other == listing:
        assert read_token(token, *other, length=len(key)) == key
    else:
        with pytest.raises(InvalidRequest):
            read_token(token, *other, length=len(key))


@given(st.text(max_size=40))
def test_what_was_never_a_token_is_refused(text):
    with pytest.raises(InvalidRequest):
        read_token(text, "runs/a", length=1)


@given(KEYS, st.data())
def test_a_token_that_was_cut_short_is_refused(key, data):
    token = write_token(key, "runs/a")
    kept = data.draw(st.integers(0, len(token) - 2))
    with pytest.raises(InvalidRequest):
        read_token(token[:kept], "runs/a", length=len(key))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param("é", id="not ASCII"),
        pytest.param("abcde", id="no base64"),
        pytest.param(forged("{"), id="no JSON"),
        pytest.param(forged("[" * 100_000), id="nested without end"),
        pytest.param(forged(7), id="a number"),
        pytest.param(forged({"runs/a": 1, "key": 2}), id="an object"),
        pytest.param(forged([["runs/a"]]), id="no key"),
        pytest.param(forged([["runs/a"], [1], [2]]), id="too much"),
        pytest.param(forged([["runs/a"], 7]), id="a key that is a number"),
        pytest.param(forged([["runs/a"], None]), id="a key that is nothing"),
        pytest.param(forged([["runs/a"], []]), id="an empty key"),
        pytest.param(forged([["runs/a"], [1, 2]]), id="a key of too many values"),
        pytest.param(forged([["runs/a"], [None]]), id="nothing in the key"),
        pytest.param(forged([["runs/a"], [[1]]]), id="a list in the key"),
        pytest.param(forged([["runs/a"], [{}]]), id="an object in the key"),
        pytest.param(forged([["runs/a"], [2**63]]), id="a number that SQL cannot hold"),
        pytest.param(forged([["runs/a"], [-(2**63) - 1]]), id="a negative number that SQL cannot hold"),
        pytest.param(forged(f'[["runs/a"], [1{"0" * 400}]]'), id="a number beyond all floats"),
        pytest.param(forged('[["runs/a"], ["\\ud800"]]'), id="half a character, which SQL cannot hold"),
        pytest.param(forged('[["runs/a"], [NaN]]'), id="NaN, which nothing comes after"),
        pytest.param(forged("[" + "1" * 5000 + "]"), id="a number of thousands of digits"),
    ],
)
def test_a_forged_token_is_refused(token):
    with pytest.raises(InvalidRequest):
        read_token(token, "runs/a", length=1)


@pytest.mark.parametrize("key", [-(2**63), 2**63 - 1, 5e-324, -1.7976931348623157e308, "\U0001f600"], ids=repr)
def test_what_sql_can_hold_is_taken(key):
    assert read_token(forged([["runs/a"], [key]]), "runs/a", length=1) == (key,)
