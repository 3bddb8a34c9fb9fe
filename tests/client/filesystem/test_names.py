"""Escaped names: every name has one on the server, which leads back to it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast import InvalidRequest
from holdfast._arguments.name_grammar import check_directory
from holdfast._filesystem.names import decoded, encoded, parts_of, stripped

COMPONENTS = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=16)
LIKE_ESCAPES = st.text(st.sampled_from("~~7E2A4.a é\u0301"), min_size=1, max_size=12)


@given(name=COMPONENTS | LIKE_ESCAPES)
@example(name="~7E2E")
@example(name="a~7E41")
@example(name="e\u0301")
@example(name="a*\u0301")
@example(name="\0")
def test_a_name_has_one_on_the_server_that_leads_back_to_it(name: str):
    if name in {".", ".."}:
        return
    stored = encoded(name)
    assert check_directory(stored) == stored
    assert decoded(stored) == name


@given(name=COMPONENTS | LIKE_ESCAPES)
def test_a_name_on_the_server_has_one_here_that_leads_back_to_it(name: str):
    try:
        check_directory(name)
    except InvalidRequest:
        return
    assert encoded(decoded(name)) == name


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        pytest.param("epoch=0-step=10.ckpt", "epoch=0-step=10.ckpt", id="as it is"),
        pytest.param("größe (2)", "größe (2)", id="letters of any script"),
        pytest.param(".hidden", "~2Ehidden", id="a dot at the beginning"),
        pytest.param("end.", "end~2E", id="a dot at the end"),
        pytest.param(" a ", "~20a~20", id="spaces at the ends"),
        pytest.param("a*b?", "a~2Ab~3F", id="signs"),
        pytest.param("a~b", "a~b", id="a tilde"),
        pytest.param("a~2Ab", "a~7E2Ab", id="what looks escaped"),
        pytest.param("a~41b", "a~41b", id="what looks escaped but would not be"),
        pytest.param("😀", "~F0~9F~98~80", id="a sign beyond ASCII"),
        pytest.param("e\u0301", "e~CC~81", id="not in NFC"),
    ],
)
def test_only_what_the_server_does_not_take_is_escaped(name: str, stored: str):
    assert (encoded(name), decoded(stored)) == (stored, name)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("a/../b", id="up"),
        pytest.param("s3:/bucket/a", id="another URL"),
        pytest.param("~/runs", id="a home directory"),
        pytest.param("$RUN/a", id="a variable"),
        pytest.param("C:/runs", id="a drive"),
    ],
)
def test_what_cannot_be_meant_is_refused(path: str):
    with pytest.raises(ValueError, match="cannot be a path"):
        parts_of(path)


def test_a_name_that_cannot_be_stored_is_refused():
    with pytest.raises(ValueError, match="longer than 200 bytes"):
        encoded("*" * 70)
    with pytest.raises(ValueError, match="no Unicode text"):
        encoded("a\udc80")


def test_a_url_that_lost_a_slash_is_refused():
    with pytest.raises(ValueError, match="pathlib"):
        stripped("holdfast:/runs/a")
    assert stripped("holdfast://runs//a/") == stripped("/runs/a") == "runs/a"
