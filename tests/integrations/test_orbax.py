"""Checkpoints of Orbax: what is saved, what Orbax itself reads of it, and that a killed training goes on."""

import re
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy
import orbax.checkpoint as ocp
import pytest

from holdfast import CheckpointManager, CheckpointNotFound, Client, HoldfastError, HoldfastWarning
from holdfast.integrations.orbax import restore, save, send_steps
from tests.support import frameworks
from tests.support.live import PROJECT


def state_of(number: float) -> dict:
    return {"weights": jnp.full((2, 4), number), "optimizer": {"m": jnp.ones(3, jnp.bfloat16), "count": 3}}


def number_of(state: dict) -> float:
    assert state["optimizer"]["m"].dtype == jnp.bfloat16
    assert state["optimizer"]["count"] == 3
    return float(state["weights"][1, 3])


def orbax_manager(folder, **options) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(**options))


def test_a_killed_training_resumes_to_the_same_end(directory, tmp_path):
    whole, out = tmp_path / "whole.npz", tmp_path / "end.npz"
    how = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    frameworks.run("orbax_job", f"{directory}/whole", whole, **how)
    frameworks.run("orbax_job", directory, out, "--kill-at", 6, status=-signal.SIGKILL, **how)
    said = frameworks.run("orbax_job", directory, out, **how)
    assert re.search(r"resumed at [3-6]", said), "at most two saves were still in the background"
    assert "on 4 devices" in said
    with numpy.load(whole) as expected, numpy.load(out) as found:
        for name in ("weights", "momentum", "key"):
            numpy.testing.assert_array_equal(found[name], expected[name])
    assert Client().latest(directory).step == 8


def test_steps_are_ranked_pruned_and_restored(directory, spool):
    manager = CheckpointManager(directory, max_checkpoints=2, max_best_checkpoints=1)
    for step, loss in ((100, 0.1), (200, 0.5), (300, 0.4), (400, 0.3)):
        metrics = {"loss": jnp.float32(loss), "accuracy": 0.5}
        assert save(manager, step, state_of(step), metrics, tags="t").name == str(step)
    found = list(Client().checkpoints(directory))
    assert [(each.name, each.step) for each in found] == [("100", 100), ("300", 300), ("400", 400)]
    assert found[0].metric == found[0].metadata["loss"] == pytest.approx(0.1)
    assert (found[0].metadata["accuracy"], found[0].tags) == (0.5, ("t",))
    for which, step in (("latest", 400), ("best", 100), (300, 300)):
        for target in (None, state_of(0)):
            state, at = restore(manager, which, target)
            assert (number_of(state), at) == (step, step)
    with pytest.raises(CheckpointNotFound):
        restore(manager, 200)
    with pytest.raises(ValueError, match="which must be"):
        restore(manager, "newest")
    assert list(spool.rglob(".new-*")) == []


def test_nothing_to_restore(directory):
    assert restore(directory) == restore(directory, "best") == (None, 0)


def test_orbax_itself_reads_what_was_saved(directory, tmp_path):
    manager = CheckpointManager(directory)
    for step, loss in ((100, 0.2), (200, 0.5)):
        save(manager, step, state_of(step), {"loss": loss})
        manager.load_folder(str(step), to="local")
    with orbax_manager(tmp_path / "local", best_fn=lambda found: found["loss"], best_mode="min") as reading:
        assert (reading.all_steps(), reading.best_step(), reading.metrics(100)) == ([100, 200], 100, {"loss": 0.2})
        args = ocp.args.StandardRestore(state_of(0))
        assert [number_of(reading.restore(step, args=args)) for step in (100, 200)] == [100, 200]
        reading.save(300, args=ocp.args.StandardSave(state_of(300)), metrics={"loss": 0.1})
        reading.wait_until_finished()
        assert [path.name for path in send_steps(reading, manager)] == ["300"]
    assert restore(manager, "best")[1] == 300


def test_arguments_of_orbax_are_passed_on(directory):
    state = ocp.args.Composite(params=ocp.args.StandardSave(state_of(1)), extra=ocp.args.JsonSave({"a": 1}))
    save(directory, 1, state)
    found, step = restore(directory)
    assert (number_of(found["params"]), found["extra"], step) == (1, {"a": 1}, 1)
    args = ocp.args.Composite(params=ocp.args.StandardRestore(state_of(0)))
    assert set(restore(directory, target=args)[0].keys()) == {"params"}


def test_finished_steps_of_an_orbax_manager_are_sent_once(directory, tmp_path):
    manager = CheckpointManager(directory, max_checkpoints=2, max_best_checkpoints=0)
    sent = []
    how = {"step_prefix": "ckpt", "step_format_fixed_length": 8, "best_fn": lambda found: -found["loss"]}
    with orbax_manager(tmp_path / "local", **how) as writing:
        for step in (1, 2, 3, 4):
            writing.save(step, args=ocp.args.StandardSave(state_of(step)), metrics={"loss": 1 / step})
            sent += send_steps(writing, manager)
        writing.wait_until_finished()
        (tmp_path / "local" / "ckpt_00000009.orbax-checkpoint-tmp-4").mkdir()
        sent += send_steps(writing, manager)
        assert send_steps(writing, manager) == [], "also those that were pruned"
    assert [path.name for path in sent] == [f"ckpt_0000000{step}" for step in (1, 2, 3, 4)]
    found = list(Client().checkpoints(directory))
    assert [(each.step, each.metric) for each in found] == [(3, pytest.approx(1 / 3)), (4, 0.25)]
    assert number_of(restore(manager)[0]) == number_of(restore(manager, 4)[0]) == 4


def test_steps_are_sent_once_the_server_is_back(directory, tmp_path, own_server):
    manager = CheckpointManager(directory, server=own_server.url, patience_s=0.1)
    with orbax_manager(tmp_path / "local") as writing:
        writing.save(1, args=ocp.args.StandardSave(state_of(1)))
        writing.wait_until_finished()
        own_server.kill()
        with pytest.warns(HoldfastWarning, match="No step is sent"):
            assert send_steps(writing, manager) == []
        own_server.start()
        assert [path.name for path in send_steps(writing, manager)] == ["1"]


def test_a_step_that_waits_in_the_spool_is_restored_and_delivered(directory, own_server):
    manager = CheckpointManager(directory, server=own_server.url, patience_s=0.1, background=True)
    save(manager, 1, state_of(1))
    manager.wait()
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="checkpoints are kept in"):
        save(manager, 2, state_of(2), wait=True)
    state, step = restore(manager)
    assert (number_of(state), step) == (2, 2)
    own_server.start()
    manager.close(60)
    assert own_server.names(directory) == ["1", "2"]


@pytest.mark.parametrize("background", [True, False])
def test_without_a_spool_a_save_is_durable_when_it_returns(directory, background):
    manager = CheckpointManager(directory, on_unreachable="raise", background=background)
    save(manager, 1, state_of(1))
    assert Client().latest(directory).step == 1


def test_adopted_folders_are_restored(own_server, tmp_path):
    place = tmp_path / "adopted"
    with orbax_manager(place / "steps") as writing:
        for step in (1, 2):
            writing.save(step, args=ocp.args.StandardSave(state_of(step)))
    with ocp.StandardCheckpointer() as alone:
        alone.save((place / "alone" / "step_7").absolute(), state_of(7))
    own_server.stop()
    command = [sys.executable, "-m", "app", "adopt", "--root", own_server.root, place]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    own_server.start()
    names = [each["directory"] for each in own_server.http.get("/v1/directories").json()["directories"]]
    steps, alone = (next(name for name in names if name.endswith(end)) for end in ("steps", "alone"))
    for directory, which, step in ((steps, "latest", 2), (steps, 1, 1), (alone, "latest", 7), (alone, 7, 7)):
        manager = CheckpointManager(directory, server=own_server.url)
        for target in (None, state_of(0)):
            state, at = restore(manager, which, target)
            assert (number_of(state), at) == (step, step)


def test_a_part_of_a_state_is_not_saved_as_if_it_were_whole(directory, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(HoldfastError, match="several processes hold the state"):
        save(directory, 1, state_of(1))
