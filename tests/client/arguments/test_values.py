"""The epochs, metrics and metadata that a save accepts."""

import enum
import json
import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from app.core import limits as server
from app.core.errors import InvalidRequest
from holdfast._arguments import values


class Schedule(str, enum.Enum):  # noqa: UP042
    COSINE = "cosine"


class Modern(enum.StrEnum):
    ONE = "one"


class Level(enum.IntEnum):
    HIGH = 2


class Share(float, enum.Enum):
    HALF = 0.5


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Settings:
    lr: float


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param(1, 1, id="an int"),
        pytest.param(True, True, id="a bool stays one"),
        pytest.param(0.5, 0.5, id="a float"),
        pytest.param("text", "text", id="text"),
        pytest.param(None, None, id="nothing"),
        pytest.param([1, (2, 3)], [1, [2, 3]], id="lists and tuples"),
        pytest.param({"a": {"b": [0.5]}}, {"a": {"b": [0.5]}}, id="mappings"),
        pytest.param(torch.tensor(0.5), 0.5, id="a tensor of one element"),
        pytest.param(torch.tensor([[3]]), 3, id="a tensor of one element in two dimensions"),
        pytest.param(torch.tensor(0.5, requires_grad=True), 0.5, id="a tensor with a gradient"),
        pytest.param(np.float32(0.5), 0.5, id="a NumPy scalar"),
        pytest.param(np.float64(0.5), 0.5, id="NumPy's float64, which is a float"),
        pytest.param(np.int64(7), 7, id="a NumPy integer"),
        pytest.param(np.array([7]), 7, id="a NumPy array of one element"),
        pytest.param(np.bool_(True), True, id="a NumPy bool"),
        pytest.param(math.nan, "NaN", id="NaN"),
        pytest.param(-math.inf, "-Infinity", id="minus infinity"),
        pytest.param([torch.tensor(math.inf)], ["Infinity"], id="infinity in a tensor in a list"),
        pytest.param(2**64 - 1, 2**64 - 1, id="a seed"),
        pytest.param(-(10**4299), -(10**4299), id="a large integer"),
        pytest.param(torch.tensor(2**63 + 1, dtype=torch.uint64), 2**63 + 1, id="a tensor of 64 bits without a sign"),
        pytest.param(np.uint64(2**64 - 1), 2**64 - 1, id="the same of NumPy"),
        pytest.param(torch.tensor(0.5, dtype=torch.bfloat16), 0.5, id="a tensor of bfloat16"),
        pytest.param(torch.tensor(True), True, id="a tensor of bool"),
        pytest.param(np.str_("a"), "a", id="NumPy's text"),
        pytest.param(Schedule.COSINE, "cosine", id="an enumeration of texts"),
        pytest.param(Level.HIGH, 2, id="an enumeration of integers"),
        pytest.param(Modern.ONE, "one", id="a StrEnum"),
        pytest.param(Share.HALF, 0.5, id="an enumeration of floats"),
        pytest.param({Schedule.COSINE: [Level.HIGH]}, {"cosine": [2]}, id="an enumeration as a key"),
        pytest.param({1: "a", None: "b", 0.5: "c"}, {"1": "a", "null": "b", "0.5": "c"}, id="keys that are no text"),
        pytest.param({True: 1, Level.HIGH: 2, math.inf: 3}, {"true": 1, "2": 2, "Infinity": 3}, id="more such keys"),
        pytest.param(Point(1, 2), [1, 2], id="a named tuple"),
    ],
)
def test_metadata_becomes_json(given, kept):
    found = values.metadata({"key": given})["key"]
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param(torch.zeros(2), "Tensor of shape (2,)", id="a tensor of two elements"),
        pytest.param(np.zeros(3), "ndarray of shape (3,)", id="an array of three"),
        pytest.param(b"bytes", "bytes", id="bytes"),
        pytest.param({1, 2}, "set", id="a set"),
        pytest.param(object(), "object", id="an object"),
        pytest.param({"deep": [object()]}, "'key.deep[0]'", id="an object deep inside"),
        pytest.param({(1, 2): 2}, "the key (1, 2)", id="a key that is no text"),
        pytest.param(1 + 2j, "complex", id="a complex number"),
        pytest.param(torch.tensor(1j), "complex", id="a complex tensor"),
        pytest.param(torch.tensor(1.0, device="meta"), "whose value cannot be read", id="a tensor without a value"),
        pytest.param(np.datetime64("2026-11-28T00:00:00.000000001"), "datetime64", id="a time of NumPy"),
        pytest.param(np.timedelta64(1, "ns"), "timedelta64", id="a length of time of NumPy"),
        pytest.param(Decimal("0.1"), "Decimal", id="a decimal"),
        pytest.param(Fraction(1, 3), "Fraction", id="a fraction"),
        pytest.param(datetime(2026, 11, 28), "datetime", id="a time"),
        pytest.param(Path("a"), "PosixPath", id="a path"),
        pytest.param(Colour.RED, "Colour", id="an enumeration of objects"),
        pytest.param(Settings(1), "Settings", id="a dataclass"),
        pytest.param(bytearray(b"a"), "bytearray", id="a bytearray"),
        pytest.param((each for each in ()), "generator", id="a generator"),
    ],
)
def test_what_json_cannot_hold_is_a_type_error_that_names_it(given, named):
    with pytest.raises(TypeError) as caught:
        values.metadata({"key": given})
    assert named in str(caught.value)
    assert "'key" in str(caught.value)


def nested(levels):
    return {"key": json.loads("[" * levels + "]" * levels)}


ITSELF = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"key": 10**4300}, id="an integer of too many digits"),
        pytest.param({"key": [-(10**5000)]}, id="another one, within"),
        pytest.param({"key": "a\ud800"}, id="half of a surrogate pair"),
        pytest.param({"key": {"\udfff": 1}}, id="half of one as a key"),
        pytest.param({"key": {1: "a", "1": "b"}}, id="two keys that are one"),
        pytest.param({"key": ITSELF}, id="a list within itself"),
        pytest.param(nested(500), id="deep"),
        pytest.param({"key": "x" * 2**20}, id="too large"),
        pytest.param({"key": [10**4000] * 1000}, id="too large by its integers"),
    ],
)
def test_what_no_server_keeps_is_a_value_error(given):
    with pytest.raises(ValueError, match="metadata"):
        values.metadata(given)


@pytest.mark.parametrize("levels", [1, 19, 20, 21])
def test_client_and_server_agree_on_the_depth(levels):
    def is_taken(take, error):
        try:
            return bool(take(nested(levels)))
        except error:
            return False

    assert is_taken(values.metadata, ValueError) == is_taken(server.bounded_metadata, InvalidRequest)


@pytest.mark.parametrize("given", [10**400, -(10**400)])
def test_a_metric_that_no_float_holds_is_a_value_error(given):
    with pytest.raises(ValueError, match="metric must be a number of the size of a float"):
        values.metric(given)
    with pytest.raises(ValueError, match="the monitored value 'loss'"):
        values.monitored("loss", {"loss": given})


@pytest.mark.parametrize(
    ("given", "kept"),
    [(True, True), (0, False), (None, False), (np.bool_(True), True), (torch.tensor(False), False)],
    ids=repr,
)
def test_a_flag_is_yes_or_no(given, kept):
    assert values.flag("is_best", given) is kept


@pytest.mark.parametrize("given", ["false", "", 2, 0.5, torch.ones(2), [], {}], ids=repr)
def test_what_is_no_flag_is_a_type_error(given):
    with pytest.raises(TypeError, match="is_best must be True or False"):
        values.flag("is_best", given)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, []), ("a", ["a"]), (["a", "b", "a"], ["a", "b"]), ((Schedule.COSINE,), ["cosine"]), ({"x=1"}, ["x=1"])],
    ids=repr,
)
def test_tags_are_texts(given, kept):
    assert values.tags(given) == kept


NO_TAGS = [3, [1], {"a": 1}, [None], b"a", "a/b", "", ["#1"], map(str, range(101))]


@pytest.mark.parametrize("given", NO_TAGS, ids=range(len(NO_TAGS)))
def test_what_are_no_tags_is_refused(given):
    with pytest.raises((TypeError, ValueError)):
        values.tags(given)


@pytest.mark.parametrize("given", [3, np.int32(3), torch.tensor(3), np.array([3])], ids=str)
def test_an_epoch_is_an_integer(given):
    assert values.counter("epoch", given) == 3
    assert type(values.counter("epoch", given)) is int


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param(1.5, TypeError, id="a float"),
        pytest.param("3", TypeError, id="text"),
        pytest.param(True, TypeError, id="a bool"),
        pytest.param(torch.zeros(2), TypeError, id="a tensor of two"),
        pytest.param(-1, ValueError, id="negative"),
        pytest.param(2**53, ValueError, id="beyond what all readers of JSON keep"),
        pytest.param(torch.tensor(1, device="meta"), TypeError, id="a tensor without a value"),
    ],
)
def test_what_is_no_epoch_is_refused(given, error):
    with pytest.raises(error, match="epoch"):
        values.counter("epoch", given)


@pytest.mark.parametrize(
    "given",
    ["0.5", [0.5], torch.zeros(2), True, object(), Decimal("0.5"), Fraction(1, 2), 1j, torch.tensor(1j)],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_metric_is_a_type_error(given):
    with pytest.raises(TypeError, match="metric must be a number"):
        values.metric(given)


@pytest.mark.parametrize("given", [1, 1.0, np.float32(1), torch.tensor(1.0)], ids=repr)
def test_a_metric_is_a_float(given):
    assert values.metric(given) == 1.0
    assert type(values.metric(given)) is float


@pytest.mark.parametrize(
    ("monitor", "metadata", "metric"),
    [
        pytest.param("loss", {"loss": 0.5}, 0.5, id="there"),
        pytest.param("loss", {"loss": torch.tensor(0.5)}, 0.5, id="as a tensor"),
        pytest.param("loss", {"val_loss": 0.5}, None, id="not there"),
        pytest.param("loss", {"loss": "low"}, None, id="not a number"),
        pytest.param("loss", {"loss": True}, None, id="a bool"),
        pytest.param(None, {"loss": 0.5}, None, id="nothing monitored"),
    ],
)
def test_a_monitored_value_stands_in_for_the_metric(monitor, metadata, metric):
    assert values.monitored(monitor, metadata) == metric


@pytest.mark.parametrize("value", [np.longdouble("0.5"), np.array([0.5], dtype=np.longdouble), np.longdouble("inf")])
def test_a_longdouble_is_a_number(value):
    expected = float(np.asarray(value).reshape(()))
    assert values.metric(value) == values.monitored("loss", {"loss": value}) == expected
    assert values.metadata({"a": [value]}) == {"a": [values.number_to_wire(expected)]}
