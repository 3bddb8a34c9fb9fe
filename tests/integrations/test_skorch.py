"""Checkpoints of skorch: what is saved, and that a net goes on as if it had never ended."""

import pickle

import numpy
import pytest
import torch
from skorch import NeuralNetRegressor
from skorch.dataset import ValidSplit

from holdfast import CheckpointManager, Client, HoldfastWarning
from holdfast.integrations.skorch import HoldfastCheckpoint, load_into

INPUTS = numpy.random.default_rng(0).standard_normal((64, 4)).astype("float32")
TARGETS = INPUTS.sum(1, keepdims=True)


def net_of(*callbacks: HoldfastCheckpoint, epochs: int = 2) -> NeuralNetRegressor:
    torch.manual_seed(0)
    options = {
        "optimizer": torch.optim.Adam,
        "train_split": ValidSplit(4),
        "iterator_train__shuffle": False,
    }
    return NeuralNetRegressor(
        torch.nn.Linear,
        module__in_features=4,
        module__out_features=1,
        max_epochs=epochs,
        verbose=0,
        callbacks=[("holdfast", each) for each in callbacks],
        **options,
    )


def weights(net: NeuralNetRegressor) -> torch.Tensor:
    return net.module_.weight.detach()


def test_each_epoch_is_a_checkpoint_and_the_server_prunes(directory):
    net = net_of(HoldfastCheckpoint(directory, keep_last=2, keep_best=0), epochs=5).fit(INPUTS, TARGETS)
    found = list(Client().checkpoints(directory))
    assert [each.epoch for each in found] == [4, 5]
    assert found[-1].metric == found[-1].metadata["valid_loss"] == net.history[-1, "valid_loss"]
    assert {"train_loss", "dur"} <= found[-1].metadata.keys()
    state = CheckpointManager(directory).load_latest()
    assert torch.equal(state["module_"]["weight"], weights(net))
    assert [line["epoch"] for line in state["history"]] == [1, 2, 3, 4, 5]


def test_a_new_net_resumes_to_the_same_end(directory):
    whole = net_of(epochs=4).fit(INPUTS, TARGETS)
    net_of(HoldfastCheckpoint(directory, resume=True)).fit(INPUTS, TARGETS)
    resumed = net_of(HoldfastCheckpoint(directory, resume=True)).fit(INPUTS, TARGETS)
    assert torch.equal(weights(resumed), weights(whole))
    assert len(resumed.history) == 4
    assert Client().latest(directory).epoch == 4


def test_a_column_that_is_missing_is_named(directory):
    with pytest.warns(HoldfastWarning, match="no column 'val_loss'.*valid_loss"):
        net_of(HoldfastCheckpoint(directory, monitor="val_loss")).fit(INPUTS, TARGETS)


def test_another_net_is_not_loaded_in_part(directory):
    net_of(HoldfastCheckpoint(directory)).fit(INPUTS, TARGETS)
    state = CheckpointManager(directory).load_latest()
    with pytest.raises(KeyError, match="optimizer_"):
        load_into(net_of().initialize(), {name: value for name, value in state.items() if name != "optimizer_"})


def test_a_net_with_the_callback_can_be_pickled_and_cloned(directory):
    net = net_of(HoldfastCheckpoint(directory), epochs=1).fit(INPUTS, TARGETS)
    again = pickle.loads(pickle.dumps(net))
    again.partial_fit(INPUTS, TARGETS)
    assert Client().latest(directory).epoch == 2
