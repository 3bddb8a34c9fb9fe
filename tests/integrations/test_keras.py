"""Checkpoints of Keras: what is saved, and that a killed training goes on as if it had never ended."""

import os
import re
import signal
import subprocess
import sys

import numpy
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

from holdfast import CheckpointManager, Client, HoldfastWarning
from holdfast.integrations.keras import HoldfastCallback, load_best, load_latest
from tests.integrations.jobs.keras_job import INPUTS, made
from tests.support import frameworks


def fitted(*callbacks: keras.callbacks.Callback, epochs: int = 2, **options) -> keras.Model:
    model = made()
    how = {"epochs": epochs, "batch_size": 16, "verbose": 0, "shuffle": False, "validation_split": 0.25, **options}
    model.fit(INPUTS, INPUTS.sum(1, keepdims=True), callbacks=list(callbacks), **how)
    return model


def weights(model: keras.Model) -> list[numpy.ndarray]:
    return [keras.ops.convert_to_numpy(each) for each in [*model.weights, *model.optimizer.variables]]


def are_equal(one: keras.Model, other: keras.Model) -> bool:
    return all(numpy.array_equal(*pair) for pair in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_killed_training_resumes_to_the_same_end(directory, tmp_path, backend):
    whole, out = tmp_path / "whole.npz", tmp_path / "end.npz"
    how = {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    frameworks.run("keras_job", f"{directory}/whole", whole, **how)
    frameworks.run("keras_job", directory, out, "--kill-at", 4, status=-signal.SIGKILL, **how)
    said = frameworks.run("keras_job", directory, out, **how)
    assert re.search(rf"resumed at [1-3] {backend}", said), "at most two saves were still in the background"
    with numpy.load(whole) as expected, numpy.load(out) as found:
        assert len(expected.files) == len(found.files) > 10
        for name in expected.files:
            numpy.testing.assert_array_equal(found[name], expected[name])
    assert [each.epoch for each in Client().checkpoints(directory)][-2:] == [3, 4]


def test_each_epoch_is_a_checkpoint_with_its_logs_and_the_server_prunes(directory, spool):
    model = fitted(HoldfastCallback(directory, keep_last=2, keep_best=0), epochs=4)
    found = list(Client().checkpoints(directory))
    assert [each.name for each in found] == ["checkpoint_epoch_0003.keras", "checkpoint_epoch_0004.keras"]
    assert [(each.epoch, each.step) for each in found] == [(3, 9), (4, 12)]
    assert {"loss", "mae", "val_loss", "val_mae"} == found[-1].metadata.keys()
    assert found[-1].metric == found[-1].metadata["val_loss"]
    loaded, done = load_latest(directory)
    assert done == 4
    assert are_equal(loaded, model)
    assert list(spool.rglob(".new-*")) == []


def test_the_best_is_chosen_by_the_metric_of_the_name(directory):
    callback = HoldfastCallback(directory, monitor="val_binary_accuracy", keep_last=1, keep_best=1)
    assert callback.manager.mode == "max"
    assert [HoldfastCallback("a", name).manager.mode for name in ("val_mae", "auc", None)] == ["min", "max", "min"]
    assert HoldfastCallback("a", "val_acc", "min").manager.mode == "min"
    callback.on_train_begin()
    callback.set_model(made())
    for epoch, value in enumerate([0.5, 0.9, 0.7]):
        callback.on_epoch_end(epoch, {"val_binary_accuracy": numpy.float32(value)})
    callback.on_train_end()
    assert [each.epoch for each in Client().checkpoints(directory)] == [2, 3]
    assert load_best(directory)[1] == 2
    assert load_latest(directory)[1] == 3


def test_weights_alone_go_into_a_model_that_is_there(directory):
    model = fitted(HoldfastCallback(directory, save_weights_only=True, every_n_epochs=2), epochs=3)
    assert [each.name for each in Client().checkpoints(directory)] == ["checkpoint_epoch_0002.weights.h5"]
    assert load_latest(directory) == (None, 0), "they are no model"
    other = made()
    assert load_latest(directory, into=other) == (other, 2)
    assert not all(numpy.array_equal(*pair) for pair in zip(other.get_weights(), made().get_weights(), strict=True))
    assert not all(numpy.array_equal(*pair) for pair in zip(other.get_weights(), model.get_weights(), strict=True))


def test_nothing_to_load(directory):
    assert load_latest(directory) == load_best(directory) == (None, 0)


def test_other_files_are_no_models(directory, tmp_path):
    fitted(HoldfastCallback(directory), epochs=1)
    manager = CheckpointManager(directory)
    manager.save({"epoch": 2}, epoch=2)
    (tmp_path / "note.txt").write_text("a note")
    manager.save_file(tmp_path / "note.txt", epoch=3)
    assert load_latest(directory)[1] == 1


def test_what_waits_in_the_spool_is_resumed_from(directory, own_server):
    callback = HoldfastCallback(directory, server=own_server.url, patience_s=0.1)
    fitted(callback, epochs=1)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="checkpoints are kept in"):
        model = fitted(callback, epochs=3)
    loaded, done = load_latest(directory, settings={"server": own_server.url, "patience_s": 0.1})
    assert done == 3
    assert are_equal(loaded, model)
    own_server.start()
    callback.manager.close(60)
    assert own_server.names(directory)[-1] == "checkpoint_epoch_0003.keras"


def test_without_a_spool_every_save_is_durable_at_the_end_of_its_epoch(directory):
    callback = HoldfastCallback(directory, on_unreachable="raise")
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(len(list(Client().checkpoints(directory))))
    )
    fitted(callback, note, epochs=2)
    assert seen == [1, 2]


def test_a_value_that_is_not_logged_is_warned_of(directory):
    with pytest.warns(HoldfastWarning, match="'val_loss' is not in the logs"):
        fitted(HoldfastCallback(directory), epochs=2, validation_split=0.0)
    assert [each.metric for each in Client().checkpoints(directory)] == [None, None]


def test_another_rank_writes_nothing(directory, spool):
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        fitted(HoldfastCallback(directory, rank=1), epochs=1)
    assert [each for each in spool.rglob("*") if each.suffix == ".keras"] == []
    assert directory not in {each.name for each in Client().directories()}


def test_the_backend_is_that_of_the_user():
    script = "import sys, holdfast.integrations.keras, keras; print(keras.backend.backend(), 'torch' in sys.modules)"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["jax", "False"]


@pytest.mark.parametrize("weights_only", [False, True])
def test_the_tensors_of_a_model_are_indexed(directory, server, weights_only):
    fitted(HoldfastCallback(directory, save_weights_only=weights_only), epochs=2)
    first, last = Client().checkpoints(directory)
    (file,) = server.http.get(f"/v1/checkpoints/{last.id}/tensors").json()["files"]
    tensors = {each["name"]: each for each in file["tensors"]}
    kernel = tensors["layers/dense/vars/0"]
    assert (kernel["dtype"], kernel["shape"], kernel["size_bytes"]) == ("float32", [4, 8], 128)
    data = (server.root / directory / last.name).read_bytes()
    values = numpy.frombuffer(data[kernel["offset"] : kernel["offset"] + 128], "float32").reshape(4, 8)
    model, _ = load_latest(directory, into=made())
    numpy.testing.assert_array_equal(values, weights(model)[0])
    found = server.http.get(f"/v1/checkpoints/{first.id}/comparison", params={"against": last.id}).json()
    assert "layers/dense/vars/0" in {each["name"] for each in found["tensors"]}
