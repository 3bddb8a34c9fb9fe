"""Checkpoints of Ignite: what is saved and deleted, and that a training goes on as if it had never ended."""

import signal

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint

from holdfast import CheckpointManager, Client, HoldfastWarning
from holdfast.integrations.ignite import HoldfastSaver
from tests.support import frameworks


def trained(saver: HoldfastSaver, scores: list[float], **options) -> None:
    """Run an engine for an epoch of each score, and save by it after each."""
    engine = Engine(lambda engine, batch: scores[engine.state.epoch - 1])
    model = torch.nn.Linear(1, 1)
    about = {"score_function": lambda engine: engine.state.output, "score_name": "accuracy"}
    checkpoint = Checkpoint({"model": model}, saver, **{**about, **options})
    engine.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    engine.run([0], max_epochs=len(scores))


def test_a_killed_training_resumes_to_the_same_end(directory, tmp_path):
    whole, out = tmp_path / "whole.pt", tmp_path / "end.pt"
    frameworks.run("ignite_job", f"{directory}/whole", whole)
    frameworks.run("ignite_job", directory, out, "--kill-at", 3, status=-signal.SIGKILL)
    assert "resumed at 3" in frameworks.run("ignite_job", directory, out)
    torch.testing.assert_close(torch.load(out), torch.load(whole), rtol=0, atol=0)


def test_ignite_decides_what_stays(directory, tmp_path):
    frameworks.run("ignite_job", directory, tmp_path / "end.pt")
    found = {each.name: each for each in Client().checkpoints(directory)}
    (best,) = [name for name in found if name.startswith("best_model_4_neg_loss=")]
    assert found.keys() == {"checkpoint_3.pt", "checkpoint_4.pt", best}
    assert {each.retention for each in found.values()} == {"manual"}
    assert (found["checkpoint_4.pt"].kind, found["checkpoint_4.pt"].step) == ("regular", 4)
    assert (found[best].kind, found[best].step, found[best].metadata["score_name"]) == ("best", 4, "neg_loss")
    assert found[best].metric == pytest.approx(float(best.removesuffix(".pt").partition("=")[2]), abs=1e-4)
    assert Client().best(directory).name == best, "greater is better"


def test_bare_weights_of_a_best_model_are_not_what_a_training_resumes_from(directory):
    saver = HoldfastSaver(directory)
    saver({"weights": 1, "epoch": 3}, "checkpoint_3.pt", {"basename": "checkpoint", "score_name": None, "priority": 3})
    trained(saver, [0.5])
    assert [each.kind for each in Client().checkpoints(directory)] == ["regular", "best"]
    assert saver.manager.resume() == {"weights": 1, "epoch": 3}
    assert set(CheckpointManager(directory, mode="max").load_best()) == {"weight", "bias"}


def test_an_old_one_is_deleted_only_after_the_new_one_is_saved(directory):
    saver = HoldfastSaver(directory)
    trained(saver, [0.1])
    saver.remove("model_accuracy=0.1000.pt")
    assert len(saver.manager.find()) == 1
    with pytest.raises(TypeError):
        saver({"a": 1}, "model_accuracy=0.2000.pt", {"basename": object()})
    assert len(saver.manager.find()) == 1
    saver({"a": 1}, "model_accuracy=0.2000.pt", {"basename": "model", "score_name": "accuracy", "priority": 0.2})
    assert [each.name for each in Client().checkpoints(directory)] == ["model_accuracy=0.2000.pt"]


def test_a_name_that_is_removed_and_saved_again_stays(directory):
    saver = HoldfastSaver(directory)
    trained(saver, [0.1])
    saver.remove("model_accuracy=0.1000.pt")
    saver({"a": 2}, "model_accuracy=0.1000.pt", {"basename": "model", "score_name": "accuracy", "priority": 0.1})
    assert saver.manager.load("model_accuracy=0.1000.pt") == {"a": 2}


def test_nothing_is_deleted_before_a_spooled_one_has_arrived(directory, own_server):
    saver = HoldfastSaver(directory, server=own_server.url, patience_s=0.1)
    trained(saver, [0.1])
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="checkpoints are kept in"):
        trained(saver, [0.2, 0.3], n_saved=1)
    own_server.start()
    assert own_server.names(directory) == ["model_accuracy=0.1000.pt"]
    saver.manager.close(60)
    trained(saver, [0.4], n_saved=1)
    assert own_server.names(directory) == [
        "model_accuracy=0.1000.pt",
        "model_accuracy=0.3000.pt",
        "model_accuracy=0.4000.pt",
    ]


def test_a_score_without_a_name_ranks_too(directory):
    trained(HoldfastSaver(directory), [0.25, 0.5], score_name=None, n_saved=2)
    assert Client().best(directory).metric == 0.5
