"""What of a save's epoch, metric and metadata can be kept."""

import math

import numpy as np
import pytest
import torch

from holdfast import _values


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
    ],
)
def test_metadata_becomes_json(given, kept):
    found = _values.metadata({"key": given})["key"]
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
        pytest.param({1: 2}, "the key 1", id="a key that is no text"),
        pytest.param(1 + 2j, "complex", id="a complex number"),
    ],
)
def test_what_json_cannot_hold_is_a_type_error_that_names_it(given, named):
    with pytest.raises(TypeError) as caught:
        _values.metadata({"key": given})
    assert named in str(caught.value)
    assert "'key" in str(caught.value)


@pytest.mark.parametrize("given", [3, np.int32(3), torch.tensor(3), np.array([3])], ids=str)
def test_an_epoch_is_an_integer(given):
    assert _values.epoch(given) == 3
    assert type(_values.epoch(given)) is int


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param(1.5, TypeError, id="a float"),
        pytest.param("3", TypeError, id="text"),
        pytest.param(True, TypeError, id="a bool"),
        pytest.param(torch.zeros(2), TypeError, id="a tensor of two"),
        pytest.param(-1, ValueError, id="negative"),
    ],
)
def test_what_is_no_epoch_is_refused(given, error):
    with pytest.raises(error, match="epoch"):
        _values.epoch(given)


@pytest.mark.parametrize(
    "given", ["0.5", [0.5], torch.zeros(2), True, object()], ids=lambda given: type(given).__name__
)
def test_what_is_no_metric_is_a_type_error(given):
    with pytest.raises(TypeError, match="metric must be a number"):
        _values.metric(given)


@pytest.mark.parametrize("given", [1, 1.0, np.float32(1), torch.tensor(1.0)], ids=repr)
def test_a_metric_is_a_float(given):
    assert _values.metric(given) == 1.0
    assert type(_values.metric(given)) is float


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
    assert _values.monitored(monitor, metadata) == metric
