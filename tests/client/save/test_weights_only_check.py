"""The check for `weights_only`: a save warns, once, of a state that the default load refuses, and of no other."""

import io
import time
import warnings

import numpy as np
import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning
from holdfast._save import weights_only_check
from holdfast._torchfile.writer.layout import layout_of
from tests.data import zoo

OPTIMIZER = {f"layer.{n}": torch.ones(3) for n in range(20_000)}


def refused(state):
    return weights_only_check.refused(b"".join(layout_of(state).head()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", zoo.STATES)
def test_what_torch_refuses_is_foreseen_and_nothing_else(name):
    state = zoo.STATES[name]()
    try:
        torch.load(io.BytesIO(zoo.saved(state)), weights_only=True)
        is_loaded = True
    except Exception as error:
        is_loaded = "weights_only" not in str(error)
    assert (refused(state) == []) == (is_loaded or name == "a list of itself")


def test_the_types_are_named_as_torch_names_them():
    assert "numpy._core.multiarray.scalar" in refused({"a": np.float64(1.0)})
    assert refused({"a": zoo.Settings()}) == ["tests.data.zoo.Settings"]


def test_what_the_user_allows_is_not_refused():
    with torch.serialization.safe_globals([zoo.Settings]):
        assert refused({"a": zoo.Settings()}) == []
    assert refused({"a": zoo.Settings()}) != []


@pytest.mark.parametrize("size", [1, 1000_000], ids=["small", "large"])
def test_a_text_that_looks_like_a_class_is_a_text(size):
    assert refused({"log": "c" + "x" * size + " cos\nsystem\n", "w": torch.ones(3)}) == []


def test_a_class_in_a_large_state_is_found():
    assert refused({**OPTIMIZER, "a": ["cos\nsystems\n"]}) == []
    assert refused({**OPTIMIZER, "a": zoo.Settings()}) == ["tests.data.zoo.Settings"]


@pytest.mark.parametrize("background", [False, True])
def test_the_user_is_warned_once_for_a_directory(server, directory, background):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for epoch in range(3):
            with CheckpointManager(directory, server=server.url, background=background) as manager:
                manager.save({"w": torch.ones(3)}, epoch=epoch)
                manager.save({"a": np.ones(3)}, epoch=10 + epoch)
    told = [str(each.message) for each in seen if issubclass(each.category, HoldfastWarning)]
    assert len(told) == 1
    assert all(word in told[0] for word in (directory, "numpy", "add_safe_globals", "weights_only=False"))
    assert seen[0].filename == __file__


def test_a_warning_that_is_an_error_comes_after_the_save(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(HoldfastWarning):
            manager.save({"a": zoo.Settings()}, epoch=1)
    assert [found["epoch"] for found in manager.checkpoints] == [1]


def test_a_torch_that_keeps_it_elsewhere_costs_no_save(server, directory, monkeypatch):
    monkeypatch.delattr(torch._weights_only_unpickler, "_get_allowed_globals")
    CheckpointManager(directory, server=server.url).save({"a": zoo.Settings()}, epoch=1)


@pytest.mark.alone
def test_it_costs_little_beside_the_save():
    start = time.perf_counter()
    layout = layout_of(OPTIMIZER)
    written = time.perf_counter()
    assert weights_only_check.refused(b"".join(layout.head())) == []
    assert time.perf_counter() - written < (written - start) / 5
