"""The facts on which writers must agree."""

import math
from dataclasses import replace

import pytest

from app.core.models import Facts, PolicyRequest, Save, SharedTerms
from app.service.shared.agreement import differences

SAVE = Save(
    directory="d", name="n", save_id="s", files=(), facts=Facts(metric=1.0, tags=("a", "b")), shared=SharedTerms()
)


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        pytest.param({"name": "m"}, ["name"], id="name"),
        pytest.param({"facts": Facts(metric=2.0, tags=("a", "b"))}, ["metric"], id="metric"),
        pytest.param({"facts": Facts(metric=1.0, tags=("b", "a"))}, [], id="the order of tags"),
        pytest.param(
            {"facts": Facts(metric=math.nan, tags=("a",), pinned=True)}, ["metric", "pinned", "tags"], id="all"
        ),
        pytest.param({"policy": PolicyRequest("max")}, ["policy"], id="mode"),
        pytest.param({"policy": PolicyRequest(None, {"max_checkpoints": 3})}, ["policy"], id="a limit"),
        pytest.param({"shared": SharedTerms(writers=("w",))}, ["writers"], id="writers"),
        pytest.param({"writer": "host:1", "token_id": "t", "saved_after": 3}, [], id="what each has of its own"),
    ],
)
def test_differences_are_named(other, fields):
    assert sorted(differences(SAVE, replace(SAVE, **other))) == fields


def test_nan_agrees_with_nan():
    save = replace(SAVE, facts=Facts(metric=math.nan))
    assert differences(save, replace(save)) == []
