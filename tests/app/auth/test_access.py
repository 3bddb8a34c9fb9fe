"""Tokens, access and signed links without a server: format, permissions, signatures."""

import dataclasses
import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth import link_format, token_format
from app.auth.link_format import Link
from app.core.access import SCOPES, Access, Token, is_within
from app.core.errors import DirectoryNotFound, Forbidden, LinkInvalid
from app.runtime import actor

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEYS = {"a": bytes(32), "b": bytes(31) + b"\1"}
LINK = Link("0123", "model.pt", "ab" * 32, "0JLoXhBpj3", 1_800_000_000)


@given(st.binary(min_size=7, max_size=7), st.binary(min_size=32, max_size=32))
def test_a_token_is_letters_and_digits_of_one_length_and_knows_its_id(id_bytes, secret):
    text = token_format.compose(id_bytes, secret)
    assert re.fullmatch(r"hfst_[0-9A-Za-z]{59}", text)
    assert token_format.id_of(text) == text[5:15]


def test_different_secrets_are_different_tokens():
    chance = random.Random(1)
    made = {token_format.compose(bytes(7), chance.randbytes(32)) for _ in range(1000)}
    assert len(made) == 1000


def test_a_mistyped_token_is_known_by_its_checksum():
    text = token_format.compose(b"1234567", bytes(range(32)))
    for place in range(len(text)):
        other = "x" if text[place] != "x" else "y"
        assert token_format.id_of(text[:place] + other + text[place + 1 :]) is None


@given(st.text())
def test_other_texts_are_no_tokens(text):
    assert token_format.id_of(text) is None
    assert len(token_format.hash_of(text)) == 64


def test_what_a_made_up_token_is_called_is_always_the_same_and_no_part_of_its_hash():
    called = token_format.public_id_of("correct-horse-battery")
    assert called == "configured-97860b18"
    assert called.removeprefix("configured-") not in token_format.hash_of("correct-horse-battery")


@pytest.mark.parametrize(
    ("directory", "prefix", "within"),
    [
        pytest.param("team/a", "team/a", True, id="itself"),
        pytest.param("team/a/x", "team/a", True, id="below"),
        pytest.param("team/ab", "team/a", False, id="a longer name"),
        pytest.param("team", "team/a", False, id="above"),
        pytest.param("team/A", "team/a", False, id="another case"),
        pytest.param("x/team/a", "team/a", False, id="elsewhere"),
        pytest.param("anything", "", True, id="everything"),
    ],
)
def test_prefixes_match_whole_components(directory, prefix, within):
    assert is_within(directory, prefix) is within
    access = Access("t", frozenset({"read"}), prefix)
    assert access.reaches(directory) is within
    if not within:
        with pytest.raises(DirectoryNotFound):
            access.reach(directory)


@pytest.mark.parametrize(
    ("asked", "given_"),
    [
        ("", "team/a"),
        ("team", "team/a"),
        ("team/a", "team/a"),
        ("team/a/x", "team/a/x"),
        ("team/ab", None),
        ("o", None),
    ],
)
def test_a_prefix_that_is_asked_for_is_narrowed_to_what_the_token_reaches(asked, given_):
    access = Access("t", frozenset({"read"}), "team/a")
    if given_ is None:
        with pytest.raises(DirectoryNotFound):
            access.narrowed(asked)
    else:
        assert access.narrowed(asked) == given_


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_itself_and_admin_allows_all(scope):
    for held in SCOPES:
        access = Access("t", frozenset({held}))
        assert access.allows(scope) is (held in {scope, "admin"})
        if not access.allows(scope):
            with pytest.raises(Forbidden, match=held):
                access.require(scope)


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        pytest.param({}, True, id="valid"),
        pytest.param({"expires_at": NOW + timedelta(seconds=1)}, True, id="a second left"),
        pytest.param({"expires_at": NOW}, False, id="expired"),
        pytest.param({"revoked_at": NOW - timedelta(days=1)}, False, id="revoked"),
        pytest.param({"revoked_at": NOW + timedelta(days=1)}, False, id="revoked by a clock that is ahead"),
    ],
)
def test_a_token_counts_until_it_expires_or_is_revoked(changed, counts):
    token = Token("t", "hash", frozenset({"read"}), "team", "", NOW - timedelta(days=2))
    found = dataclasses.replace(token, **changed).access(NOW)
    assert (found is not None) is counts


@pytest.mark.parametrize("key_id", KEYS)
def test_a_signed_link_says_what_it_was_made_for(key_id):
    assert link_format.read(link_format.sign(LINK, key_id, KEYS[key_id]), KEYS) == LINK


def test_a_link_of_which_one_character_is_another_is_none():
    text = link_format.sign(LINK, "a", KEYS["a"])
    for place in range(len(text)):
        other = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        if place == len(text) - 1 and link_format._decoded(other.rpartition(".")[2]) == link_format._decoded(
            text.rpartition(".")[2]
        ):
            continue  # the last character has unused bits
        with pytest.raises(LinkInvalid):
            link_format.read(other, KEYS)


@pytest.mark.parametrize("keys", [{}, {"a": KEYS["b"]}, {"b": KEYS["a"]}], ids=["dropped", "other", "renamed"])
def test_a_link_of_a_key_that_is_not_in_use_is_none(keys):
    with pytest.raises(LinkInvalid):
        link_format.read(link_format.sign(LINK, "a", KEYS["a"]), keys)


@given(st.text() | st.text(alphabet="hfsl_abAB01.-=", max_size=80))
def test_other_texts_are_no_links(text):
    with pytest.raises(LinkInvalid):
        link_format.read(text, KEYS)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("job-17.step_3", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        (None, False),
        ("a\nINFO: forged", False),
        ("a b", False),
        ("é", False),
    ],
)
def test_only_harmless_request_ids_are_kept(text, kept):
    assert actor.safe_request_id(text) == (text if kept else None)
