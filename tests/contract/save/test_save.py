"""Saving through the manager: names, facts, refusals and warnings."""

import math
import warnings
from pathlib import Path

import pytest
import torch

from holdfast import (
    CheckpointExists,
    CheckpointManager,
    HoldfastWarning,
    InvalidRequest,
    ModeConflict,
    ServerUnreachable,
    save_checkpoint_with_cleanup,
)
from tests.data.states import assert_same


def stored(server, directory, name):
    """Load the file on the server's disk by torch alone."""
    return torch.load(server.root / directory / name, weights_only=True)


def pin(server, directory, name):
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory, "name": name}).json()["checkpoints"]
    server.http.patch(f"/v1/checkpoints/{found['id']}", json={"pinned": True}).raise_for_status()


def test_a_save_returns_the_path_of_an_ordinary_torch_file(server, directory, make_manager):
    state = {"model": torch.nn.Linear(3, 2).state_dict(), "epoch": 100}
    path = make_manager().save(state, epoch=100)
    assert path == Path(directory) / "checkpoint_epoch_0100.pt"
    found = stored(server, directory, path.name)
    assert torch.equal(found["model"]["weight"], state["model"]["weight"])


def test_without_an_epoch_the_time_names_it(make_manager):
    name = make_manager().save({}).name
    assert name.startswith("checkpoint_2")
    assert name.endswith(".pt")
    assert len(name) == len("checkpoint_20261123T140501_3f9a1c2b5d7e.pt")


def test_the_example_of_the_interface_works_as_written(make_manager):
    manager = make_manager()
    for epoch, loss in enumerate([0.5, 0.2, 0.3]):
        manager.save({"epoch": epoch}, epoch=epoch, loss=loss)
    assert manager.load_best() == {"epoch": 1}
    assert manager.get_best_metric() == 0.2


@pytest.mark.parametrize(
    ("options", "saved", "metric"),
    [
        pytest.param({}, {"loss": 0.5}, 0.5, id="loss stands in where smaller is better"),
        pytest.param({"mode": "max"}, {"loss": 0.5}, None, id="not where larger is better"),
        pytest.param({"mode": "max", "monitor": "accuracy"}, {"accuracy": 0.9}, 0.9, id="what is monitored"),
        pytest.param({"monitor": None}, {"loss": 0.5}, None, id="nothing monitored"),
        pytest.param({}, {"loss": 0.5, "metric": 0.1}, 0.1, id="a metric is stronger"),
        pytest.param({}, {"loss": 0.5, "is_best": True}, None, id="a flag is stronger"),
    ],
)
def test_the_monitored_value_becomes_the_metric(make_manager, options, saved, metric):
    manager = make_manager(**options)
    manager.save({}, epoch=1, **saved)
    assert manager.checkpoints[0]["metric"] == metric


def test_metadata_and_facts_are_listed(make_manager):
    manager = make_manager()
    manager.save({}, epoch=4, metric=0.25, val_accuracy=torch.tensor(0.9), note="good", steps=[1, 2])
    (entry,) = manager.checkpoints
    assert entry["epoch"] == 4
    assert entry["metric"] == 0.25
    assert entry["val_accuracy"] == pytest.approx(0.9)
    assert (entry["note"], entry["steps"]) == ("good", [1, 2])


def test_a_state_that_cannot_be_described_is_refused_before_a_byte_is_sent(server, directory, make_manager):
    with pytest.raises(TypeError, match="'grads'"):
        make_manager().save({}, epoch=1, grads=torch.zeros(3))
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404


def test_saving_an_epoch_again_replaces_it(server, directory, make_manager):
    manager = make_manager()
    for value in (1, 2):
        manager.save({"value": value}, epoch=3, metric=float(value))
    assert stored(server, directory, "checkpoint_epoch_0003.pt") == {"value": 2}
    assert [entry["metric"] for entry in manager.checkpoints] == [2.0]


def test_the_same_content_again_changes_facts_only(make_manager):
    manager = make_manager()
    manager.save({"value": 1}, epoch=3, metric=0.5)
    before = manager.checkpoints[0]
    manager.save({"value": 1}, epoch=3, metric=0.1)
    after = manager.checkpoints[0]
    assert after["id"] == before["id"]
    assert after["metric"] == 0.1


def test_a_pinned_checkpoint_is_not_replaced(server, directory, make_manager):
    manager = make_manager()
    path = manager.save({"value": 1}, epoch=3)
    pin(server, directory, path.name)
    with pytest.raises(FileExistsError) as caught:
        manager.save({"value": 2}, epoch=3)
    assert isinstance(caught.value, CheckpointExists)
    assert caught.value.code == "pinned"
    assert manager.load(path) == {"value": 1}


def test_a_save_in_the_other_mode_is_refused(make_manager):
    make_manager(mode="max").save({}, epoch=1, metric=1.0)
    with pytest.raises(ModeConflict, match="mode='max'"):
        make_manager(mode="min").save({}, epoch=2, metric=1.0)


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_metric_that_is_not_finite_is_stored_but_never_best(make_manager, metric, mode):
    manager = make_manager(mode=mode)
    manager.save({"epoch": 1}, epoch=1, metric=metric)
    assert manager.load_best() is None
    manager.save({"epoch": 2}, epoch=2, metric=0.5)
    assert manager.load_best() == {"epoch": 2}
    assert manager.load_latest() == {"epoch": 2}
    assert manager.checkpoints[0]["metric"] == pytest.approx(metric, nan_ok=True)


def test_the_best_is_saved_only_if_it_is_strictly_better(make_manager):
    manager = make_manager(mode="max")
    assert manager.save_best_if_improved({"n": 1}, 0.5, epoch=1).name == "best_epoch_0001.pt"
    assert manager.save_best_if_improved({"n": 2}, 0.5, epoch=2) is None
    assert manager.save_best_if_improved({"n": 3}, torch.tensor(0.6), epoch=3).name == "best_epoch_0003.pt"
    assert manager.load_best() == {"n": 3}
    assert manager.checkpoints == []
    assert [entry["metric"] for entry in manager.best_checkpoints] == pytest.approx([0.6, 0.5])


def test_the_best_is_compared_with_the_servers_not_with_this_managers(make_manager):
    make_manager().save({}, epoch=1, metric=0.1)
    assert make_manager().save_best_if_improved({}, 0.2, epoch=2) is None


def test_a_best_that_is_no_number_is_nothing_with_a_warning(make_manager):
    with pytest.warns(HoldfastWarning, match="never the best"):
        assert make_manager().save_best_if_improved({}, math.nan, epoch=1) is None


def test_another_process_in_the_same_directory_is_warned_of(server, directory, make_manager):
    server.save(directory, b"x", writer="elsewhere:1:abc")
    manager = make_manager()
    with pytest.warns(HoldfastWarning, match="elsewhere:1:abc"):
        manager.save({}, epoch=1)
    manager.save({}, epoch=2)  # warnings are errors here: it is given once


def test_two_managers_of_one_process_are_one_writer(make_manager):
    make_manager().save({}, epoch=1)
    make_manager().save({}, epoch=2)


def test_an_operators_limit_is_stronger_and_is_said(server, directory, make_manager):
    server.http.put(f"/v1/directories/{directory}", json={"max_checkpoints": 1}).raise_for_status()
    manager = make_manager(max_checkpoints=3)
    with pytest.warns(HoldfastWarning, match="max_checkpoints=1"):
        manager.save({}, epoch=1)
    manager.save({}, epoch=2)
    assert [entry["epoch"] for entry in manager.checkpoints] == [2]


def test_a_name_outside_the_grammar_is_a_value_error(server):
    with pytest.raises(InvalidRequest) as caught:
        CheckpointManager("runs/%2e%2e/a", server=server.url).save({})
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "invalid_name"


def test_a_server_that_does_not_answer_is_a_connection_error(free_port):
    manager = CheckpointManager("runs/a", server=f"http://127.0.0.1:{free_port}", patience_s=0, on_unreachable="raise")
    with pytest.raises(ServerUnreachable, match="no answer") as caught:
        manager.save({}, epoch=1)
    assert isinstance(caught.value, ConnectionError)


def test_the_prefix_stands_before_every_directory(server, directory, monkeypatch):
    monkeypatch.setenv("HOLDFAST_PREFIX", "team/x")
    path = CheckpointManager(f"/{directory}", server=server.url).save({}, epoch=1)
    assert path == Path(f"/{directory}/checkpoint_epoch_0001.pt")
    assert (server.root / "team/x" / directory / "checkpoint_epoch_0001.pt").is_file()
    assert CheckpointManager(directory, server=server.url).load(path) == {}


def test_a_token_is_sent(make_server):
    closed = make_server(admin_token="a-long-secret-that-nobody-guesses")
    manager = CheckpointManager("runs/a", server=closed.url, token="a-long-secret-that-nobody-guesses")
    manager.save({"n": 1}, epoch=1)
    assert manager.load_latest() == {"n": 1}
    with pytest.raises(PermissionError):
        CheckpointManager("runs/a", server=closed.url, token="another").load_latest()


def test_a_function_alone_saves_and_keeps_the_newest(server, directory):
    for step in range(4):
        path = save_checkpoint_with_cleanup(
            {"n": step}, directory, Path(f"{step}.pt"), max_to_keep=2, server=server.url
        )
    assert path == Path(directory) / "3.pt"
    assert server.names(directory) == ["2.pt", "3.pt"]


def test_a_function_alone_replaces_a_file_of_the_same_name(server, directory):
    with warnings.catch_warnings(action="error"):
        for step in range(3):
            save_checkpoint_with_cleanup({"n": step}, directory, server=server.url)
    assert server.names(directory) == ["checkpoint.pt"]
    assert stored(server, directory, "checkpoint.pt") == {"n": 2}


def test_a_function_alone_leaves_the_other_limits_alone(server, directory, make_manager):
    make_manager(1, 1).save({"n": "best"}, epoch=1, metric=0.1)
    for step in range(3):
        save_checkpoint_with_cleanup({"n": step}, directory, f"{step}.pt", max_to_keep=1, server=server.url)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt", "2.pt"]


def test_an_index_that_is_too_large_for_the_server_is_left_out(make_server, caplog):
    live = make_server(max_json_bytes="20000")
    manager = CheckpointManager("runs/a", server=live.url)
    small, large = {f"w{n}": torch.ones(2) for n in range(10)}, {f"w{n}": torch.ones(2) for n in range(1000)}
    with caplog.at_level("INFO", "holdfast"):
        for epoch, state in enumerate([large, large, small], 1):
            assert_same(manager.load(manager.save(state, epoch=epoch)), state)
    assert caplog.text.count("the index of 1000 tensors is too large for the server") == 1
    found = live.http.get("/v1/checkpoints/latest", params={"directory": "runs/a"}).json()
    assert len(live.http.get(f"/v1/checkpoints/{found['id']}/tensors").json()["files"][0]["tensors"]) == 10
