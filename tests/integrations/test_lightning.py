"""Training with Lightning: what is saved, and that a training goes on as if it had never ended."""

import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything

from holdfast import CheckpointManager, Client, HoldfastError, InvalidRequest
from holdfast.integrations.lightning import HoldfastCheckpoint, HoldfastCheckpointIO
from tests.integrations.jobs.lightning_job import Model, loaders, trainer
from tests.support import frameworks
from tests.support.live import LiveServer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, server: LiveServer) -> dict:
    """The end of a training that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "end.pt"
    frameworks.run("lightning_job", "runs/lightning/whole", out, HOLDFAST_URL=server.url)
    return torch.load(out)


def assert_same_end(out: Path, whole: dict) -> None:
    found = torch.load(out)
    assert found["step"] == whole["step"] == 32
    torch.testing.assert_close(found["weights"], whole["weights"], rtol=0, atol=0)


def fitted(callback: HoldfastCheckpoint, folder: Path, epochs: int = 3, **options) -> None:
    seed_everything(0, verbose=False)
    trainer(callback, epochs, folder, devices=1, **options).fit(Model(), *loaders())


def facts(directory: str) -> list[tuple]:
    return [(each.epoch, each.step, each.metric is not None) for each in Client().checkpoints(directory)]


def test_each_epoch_is_a_checkpoint_with_its_metric_and_the_server_prunes(directory, tmp_path):
    callback = HoldfastCheckpoint(directory, monitor="val_loss", keep_last=2, keep_best=1)
    fitted(callback, tmp_path, epochs=4)
    assert facts(directory) == [(2, 24, True), (3, 32, True)]
    best = Client().best(directory)
    assert best.name == "checkpoint_epoch_0003_step_00000032.pt"
    assert best.metadata.keys() == {"train_loss", "val_loss"}
    assert best.metric == best.metadata["val_loss"]
    state = CheckpointManager(directory).load_latest()
    assert (state["epoch"], state["global_step"]) == (3, 32)
    assert list(tmp_path.rglob("*.ckpt")) == [], "nothing is written on this machine"


def test_a_killed_training_resumes_to_the_same_end(directory, tmp_path, whole):
    out = tmp_path / "end.pt"
    assert "begun" in frameworks.run("lightning_job", directory, out, "--kill-at", 19, status=-signal.SIGKILL)
    assert facts(directory) in ([(0, 8, True)], [(0, 8, True), (1, 16, True)]), "the second may have been under way"
    assert "resumed" in frameworks.run("lightning_job", directory, out)
    assert_same_end(out, whole)


def test_sigterm_saves_the_step_at_which_it_came(directory, tmp_path):
    out = tmp_path / "end.pt"
    frameworks.run("lightning_job", directory, out, "--term-at", 19)
    assert facts(directory)[-1][:2] == (2, 20)
    assert "resumed" in frameworks.run("lightning_job", directory, out)
    assert torch.load(out)["step"] == 32, "Lightning gives the rest of the epoch other batches, but as many"


def test_a_server_that_is_killed_meanwhile_is_no_matter(directory, tmp_path, whole, own_server):
    out = tmp_path / "end.pt"
    with frameworks.started("lightning_job", directory, out, HOLDFAST_URL=own_server.url) as job:
        frameworks.wait_for("begun", job)
        own_server.kill()
        said = job.communicate(timeout=frameworks.LIMIT_S)[0]
    assert job.returncode == 0, said[-3000:]
    assert_same_end(out, whole)
    own_server.start()
    frameworks.run("lightning_job", directory, out, "--epochs", 4, HOLDFAST_URL=own_server.url)
    assert own_server.names(directory)[-1] == "checkpoint_epoch_0003_step_00000032.pt", "delivered by the next process"


def test_two_ranks_save_one_checkpoint_and_resume_from_the_same(directory, tmp_path):
    ends = []
    for name, stops in [("a", []), ("b", ["--epochs", 2]), ("b", [])]:
        out = tmp_path / f"{name}.pt"
        frameworks.run("lightning_job", f"{directory}/{name}", out, "--devices", 2, *stops)
        ends.append(torch.load(out))
    assert facts(f"{directory}/b") == facts(f"{directory}/a") == [(2, 12, True), (3, 16, True)]
    torch.testing.assert_close(ends[2]["weights"], ends[0]["weights"], rtol=0, atol=0)


def test_a_metric_of_another_step_is_not_used(directory, tmp_path):
    callback = HoldfastCheckpoint(
        directory, monitor="val_loss", keep_last=None, every_n_train_steps=3, every_n_epochs=None
    )
    fitted(callback, tmp_path, epochs=2)
    assert facts(directory) == [(0, 3, False), (0, 6, False), (1, 9, False), (1, 12, False), (1, 15, False)]
    assert ["val_loss" in each.metadata for each in Client().checkpoints(directory)] == [False] * 5


def test_a_step_that_is_evaluated_after_its_save_receives_the_metric(directory, tmp_path):
    callback = HoldfastCheckpoint(
        directory, monitor="val_loss", keep_last=None, every_n_train_steps=4, every_n_epochs=None
    )
    fitted(callback, tmp_path, epochs=1, val_check_interval=4)
    assert facts(directory) == [(0, 4, True), (0, 8, True)]


def test_a_value_that_is_never_logged_is_named_in_a_warning(directory, tmp_path):
    callback = HoldfastCheckpoint(directory, monitor="accuracy")
    with pytest.warns(Warning, match="'accuracy' is not logged.*train_loss, val_loss"):
        fitted(callback, tmp_path, epochs=1)
    assert facts(directory) == [(0, 8, False)]


def test_a_trial_run_saves_nothing(directory, tmp_path):
    fitted(HoldfastCheckpoint(directory), tmp_path, fast_dev_run=True)
    assert [each.name for each in Client().directories(directory)] == []


def test_nothing_to_resume_from_is_none(directory):
    assert HoldfastCheckpoint(directory).resume() is None


def test_a_manager_may_be_given_and_settings_beside_it_are_refused(directory, tmp_path):
    manager = CheckpointManager(directory, max_checkpoints=None, max_best_checkpoints=0)
    fitted(HoldfastCheckpoint(manager, monitor="val_loss"), tmp_path, epochs=5)
    assert len(manager.checkpoints) == 5
    with pytest.raises(TypeError, match="server"):
        HoldfastCheckpoint(manager, server="http://127.0.0.1:1")


def test_a_strategy_that_saves_parts_is_refused(directory, tmp_path):
    callback, running = HoldfastCheckpoint(directory), trainer(HoldfastCheckpoint(directory), 1, tmp_path)
    running.strategy.__class__ = type("FSDPStrategy", (type(running.strategy),), {"_state_dict_type": "sharded"})
    with pytest.raises(HoldfastError, match="full"):
        callback.setup(running, None, "fit")


def test_two_callbacks_of_one_directory_are_refused(directory, tmp_path):
    running = trainer(HoldfastCheckpoint(directory), 1, tmp_path, devices=1)
    running.callbacks.append(HoldfastCheckpoint(directory))
    with pytest.raises(InvalidRequest, match="give each its own"):
        running.fit(Model(), *loaders())


def test_a_misspelt_setting_is_named(directory):
    with pytest.raises(TypeError, match="'keep_lst'"):
        HoldfastCheckpoint(directory, keep_lst=3)
    with pytest.raises(TypeError, match="did you mean patience_s"):
        HoldfastCheckpoint(directory, patience=3)


# the CheckpointIO


def test_lightning_saves_loads_and_removes_at_a_url(directory, tmp_path):
    url = f"holdfast://{directory}/mine.ckpt"
    plugin = HoldfastCheckpointIO()
    running = trainer(HoldfastCheckpoint(f"{directory}/other"), 1, tmp_path, plugins=[plugin], devices=1)
    model = Model()
    running.fit(model, *loaders())
    running.save_checkpoint(url, storage_options={"metric": 0.5, "metadata": {"note": "by hand"}})
    found = Client().checkpoint(f"{directory}/mine.ckpt")
    assert (found.epoch, found.step, found.metric, found.retention) == (1, 8, 0.5, "manual")
    again = Model()
    trainer(HoldfastCheckpoint(f"{directory}/other"), 2, tmp_path, plugins=[HoldfastCheckpointIO()], devices=1).fit(
        again, *loaders(), ckpt_path=url
    )
    assert plugin.load_checkpoint(f"holdfast://{directory}/@latest")["global_step"] == 8
    plugin.remove_checkpoint(url)
    plugin.remove_checkpoint(url)
    assert list(Client().checkpoints(directory)) == []
    with pytest.raises(FileNotFoundError):
        plugin.load_checkpoint(url)


def test_other_paths_stay_on_this_machine(tmp_path):
    plugin = HoldfastCheckpointIO()
    plugin.save_checkpoint({"a": 1}, tmp_path / "local.ckpt")
    assert plugin.load_checkpoint(tmp_path / "local.ckpt") == {"a": 1}
    plugin.remove_checkpoint(tmp_path / "local.ckpt")
    assert list(tmp_path.glob("*.ckpt")) == []


@pytest.mark.parametrize("url", ["holdfast://runs/a/@best", "holdfast://a.ckpt"])
def test_a_url_at_which_nothing_can_be_saved_is_refused(url):
    with pytest.raises(InvalidRequest, match=r"give a name|names no checkpoint"):
        HoldfastCheckpointIO().save_checkpoint({}, url)


def test_a_url_that_became_a_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two slashes"):
        HoldfastCheckpointIO().save_checkpoint({}, Path("holdfast://runs/a/x.ckpt"))
    assert list(tmp_path.rglob("holdfast:*")) == []
