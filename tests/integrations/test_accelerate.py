"""Training with Accelerate: one checkpoint of all ranks, and a training that goes on as if it had never ended."""

import signal
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from holdfast import Client, InvalidRequest
from holdfast.integrations.accelerate import load_state, save_state
from tests.support import frameworks


def assert_same(one: Path, other: Path) -> None:
    torch.testing.assert_close(torch.load(one), torch.load(other), rtol=0, atol=0)


def names(directory: str) -> list[str]:
    return [each.name for each in Client().checkpoints(directory)]


def test_a_killed_training_resumes_to_the_same_end(directory, tmp_path):
    whole, out = tmp_path / "whole.pt", tmp_path / "end.pt"
    frameworks.run("accelerate_job", f"{directory}/whole", whole)
    frameworks.run("accelerate_job", directory, out, "--kill-at", 2, status=-signal.SIGKILL)
    assert "resumed from checkpoint_epoch_2" in frameworks.run("accelerate_job", directory, out)
    assert_same(out, whole)
    best = Client().best(directory)
    assert {"checkpoint_epoch_3", "checkpoint_epoch_4"} | {best.name} == set(names(directory))
    assert {"model.safetensors", "optimizer.bin", "random_states_0.pkl"} <= {file.path for file in best.files}


def test_two_ranks_resume_as_from_a_local_folder_and_one_of_them_may_be_killed(directory, tmp_path):
    local, out = tmp_path / "local.pt", tmp_path / "end.pt"
    for epochs in (2, 4):  # Accelerate does not restore all of the state of its loaders
        frameworks.run_ranks(2, "accelerate_job", tmp_path / "local", local, "--without-server", "--epochs", epochs)
    frameworks.run_ranks(2, "accelerate_job", directory, out, "--kill-at", 2, status=1)
    assert "resumed from checkpoint_epoch_2" in frameworks.run_ranks(2, "accelerate_job", directory, out)
    assert_same(out, local)
    found = Client().latest(directory)
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= {file.path for file in found.files}


def test_two_nodes_save_and_load_one_checkpoint(directory, tmp_path):
    nodes = [tmp_path / "x", tmp_path / "y"]
    said = frameworks.run_nodes(nodes, "accelerate_job", directory, tmp_path / "end.pt", "--epochs", 1)
    assert all("begun" in each for each in said)
    files = {file.path for file in Client().latest(directory).files}
    assert {"model.safetensors", "random_states_0.pkl", "random_states_1.pkl"} <= files
    again = [tmp_path / "z", tmp_path / "w"]
    said = frameworks.run_nodes(again, "accelerate_job", directory, tmp_path / "end.pt", "--epochs", 2)
    assert all("resumed from checkpoint_epoch_1" in each for each in said)


def test_ranks_that_disagree_about_the_facts_fail_on_every_rank_and_save_nothing(directory, tmp_path):
    said = frameworks.run_ranks(2, "accelerate_job", directory, tmp_path / "end.pt", "--disagree", status=1)
    assert said.count("ranks would save different checkpoints") >= 2
    assert list(Client().directories(directory)) == []


def test_the_best_and_a_named_one_are_loaded(directory, tmp_path):
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(torch.nn.Linear(1, 1))
    for epoch, metric in enumerate([0.5, 0.2, 0.9]):
        torch.nn.init.constant_(model.weight, epoch)
        save_state(accelerator, directory, epoch=epoch, metric=metric, metadata={"note": "by hand", "name": "any"})
    assert load_state(accelerator, directory, "best").name == "checkpoint_epoch_1"
    assert model.weight.item() == 1
    load_state(accelerator, directory, "checkpoint_epoch_0")
    assert model.weight.item() == 0
    assert Client().latest(directory).metadata == {"note": "by hand", "name": "any"}
    with pytest.raises(FileNotFoundError):
        load_state(accelerator, directory, "checkpoint_epoch_7")
    assert load_state(accelerator, f"{directory}/none") is None
    assert load_state(accelerator, f"{directory}/none", "best") is None


def test_what_accelerate_would_write_elsewhere_is_refused(directory, tmp_path):
    naming = ProjectConfiguration(project_dir=str(tmp_path), automatic_checkpoint_naming=True)
    with pytest.raises(InvalidRequest, match="automatic_checkpoint_naming"):
        save_state(Accelerator(cpu=True, project_config=naming), directory, epoch=1)
    with pytest.raises(InvalidRequest, match="an epoch, a step or a name"):
        save_state(Accelerator(cpu=True), directory)
