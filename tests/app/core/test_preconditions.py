"""Preconditions: the states of a name that they accept."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.core.digests import entity_tags, unmet_header
from app.core.models import NO_PRECONDITION, Precondition, Upload
from tests.data.samples import checkpoint, upload

CURRENT = checkpoint()
TAG, OTHER = f'"{CURRENT.digest}"', '"other"'


@pytest.mark.parametrize(
    ("precondition", "if_present", "if_absent"),
    [
        pytest.param(NO_PRECONDITION, None, None, id="none"),
        pytest.param(Precondition(if_match=("*",)), None, "If-Match", id="some checkpoint"),
        pytest.param(Precondition(if_match=(OTHER, TAG)), None, "If-Match", id="one of several"),
        pytest.param(Precondition(if_match=(OTHER,)), "If-Match", "If-Match", id="another one"),
        pytest.param(Precondition(if_match=('"*"',)), "If-Match", "If-Match", id="a tag that is an asterisk"),
        pytest.param(Precondition(if_match=()), "If-Match", "If-Match", id="weak tags alone"),
        pytest.param(Precondition(if_none_match=("*",)), "If-None-Match", None, id="no checkpoint"),
        pytest.param(Precondition(if_none_match=(OTHER, TAG)), "If-None-Match", None, id="not one of several"),
        pytest.param(Precondition(if_none_match=(OTHER,)), None, None, id="not another one"),
        pytest.param(Precondition((TAG,), ("*",)), "If-None-Match", "If-Match", id="a contradiction"),
    ],
)
def test_a_precondition_names_the_header_that_does_not_hold(precondition, if_present, if_absent):
    assert unmet_header(precondition, CURRENT) == if_present
    assert unmet_header(precondition, None) == if_absent


@given(st.lists(st.sampled_from(["*", TAG, OTHER]), min_size=1).map(tuple), st.sampled_from([CURRENT, None]))
def test_of_the_two_headers_with_the_same_tags_exactly_one_holds(tags, current):
    matches = unmet_header(Precondition(if_match=tags), current) is None
    assert matches is not (unmet_header(Precondition(if_none_match=tags), current) is None)


def test_a_folder_has_no_tag_of_a_file():
    file = replace(CURRENT.files[0], digest="1" * 64)
    assert entity_tags(replace(CURRENT, files=(file,))) == {TAG, f'"{file.digest}"'}
    folder = replace(CURRENT, files=(replace(file, path="weights/a.bin"),))
    assert entity_tags(folder) == {TAG}


def test_an_upload_that_an_earlier_version_recorded_has_no_precondition():
    adapter = TypeAdapter(Upload)
    recorded = adapter.dump_python(upload({"model.pt": b"bytes"}), mode="json")
    del recorded["precondition"]
    assert adapter.validate_python(recorded).precondition == NO_PRECONDITION
