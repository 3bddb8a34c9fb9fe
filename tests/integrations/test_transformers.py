"""Training with Transformers: what is sent, and that a training goes on as if it had never ended."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from holdfast import CheckpointManager, Client, InvalidRequest
from holdfast._transfer.folders.local_files import LocalFiles
from holdfast.integrations._common.saves import save_files
from holdfast.integrations.transformers import HoldfastCallback, holdfast_resume
from tests.integrations.jobs.transformers_job import arguments, trainer
from tests.support import frameworks
from tests.support.live import LiveServer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, server: LiveServer) -> dict:
    """The end of a training that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    frameworks.run("transformers_job", "runs/whole", folder / "out", folder / "end.pt", HOLDFAST_URL=server.url)
    return torch.load(folder / "end.pt")


def assert_same_end(out: Path, whole: dict) -> None:
    torch.testing.assert_close(torch.load(out), whole, rtol=0, atol=0)


def facts(directory: str) -> list[tuple]:
    return [(each.name, each.step, each.metric is not None) for each in Client().checkpoints(directory)]


def test_each_checkpoint_is_one_folder_with_the_evaluation_of_its_own_step(directory, tmp_path, whole):
    frameworks.run("transformers_job", directory, tmp_path / "out", tmp_path / "end.pt")
    assert_same_end(tmp_path / "end.pt", whole)
    assert facts(directory) == [("checkpoint-15", 15, False), ("checkpoint-20", 20, True)]
    best = Client().best(directory)
    assert best.metric == best.metadata["eval_loss"]
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} <= {file.path for file in best.files}
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-20"], "save_total_limit=1"
    assert list((tmp_path / "out").glob(".*")) == [], "what was held is gone"


def test_a_killed_training_resumes_on_another_machine_to_the_same_end(directory, tmp_path, whole):
    out = tmp_path / "end.pt"
    frameworks.run("transformers_job", directory, tmp_path / "a", out, "--kill-at", 13, status=-signal.SIGKILL)
    said = frameworks.run("transformers_job", directory, tmp_path / "b", out)
    assert f"resumed from {tmp_path / 'b' / 'checkpoint-10'}" in said
    assert_same_end(out, whole)


def test_a_server_that_is_killed_meanwhile_is_no_matter(directory, tmp_path, whole, own_server):
    where = {"HOLDFAST_URL": own_server.url}
    killed = {"status": -signal.SIGKILL, **where}
    frameworks.run("transformers_job", directory, tmp_path / "a", tmp_path / "end.pt", "--kill-at", 13, **killed)
    own_server.kill()
    with frameworks.started("transformers_job", directory, tmp_path / "a", tmp_path / "end.pt", **where) as job:
        said, _ = job.communicate(timeout=frameworks.LIMIT_S)
    assert job.returncode != 0, "nothing is on this machine to resume from, and a new beginning would be wrong"
    assert "ServerUnreachable" in said
    own_server.start()
    with frameworks.started("transformers_job", directory, tmp_path / "a", tmp_path / "end.pt", **where) as job:
        frameworks.wait_for("resumed from", job)
        own_server.kill()
        said, _ = job.communicate(timeout=frameworks.LIMIT_S)
    assert job.returncode == 0, said[-3000:]
    assert_same_end(tmp_path / "end.pt", whole)
    shutil.rmtree(tmp_path / "a")
    manager = CheckpointManager(directory, server=own_server.url, patience_s=0.1)
    assert manager.resume(to=tmp_path / "b").name == "checkpoint-20", "from the spool"
    own_server.start()
    manager.close(60)
    assert own_server.names(directory)[-1] == "checkpoint-20"


def test_two_ranks_send_one_folder_and_resume_from_the_same(directory, tmp_path):
    def run(name, *more, status=0):
        out = tmp_path / f"{name}.pt"
        given = (f"{directory}/{name}", tmp_path / name, out, *more)
        frameworks.run_ranks(2, "transformers_job", *given, status=status)
        return out

    whole = torch.load(run("a"))
    run("b", "--kill-at", 13, status=1)
    shutil.rmtree(tmp_path / "b")
    torch.testing.assert_close(torch.load(run("b")), whole, rtol=0, atol=0)
    found = Client().best(f"{directory}/b")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file.path for file in found.files}


def test_two_nodes_fill_one_checkpoint(directory, tmp_path):
    """The nodes are processes with names and folders of their own."""
    given = (directory, "out", tmp_path / "end.pt", "--steps", 5)
    frameworks.run_nodes([tmp_path / "x", tmp_path / "y"], "transformers_job", *given)
    (found,) = Client().checkpoints(directory)
    assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors"} <= {file.path for file in found.files}
    said = frameworks.run_nodes([tmp_path / "z", tmp_path / "w"], "transformers_job", *given)
    assert all("resumed from out/checkpoint-5" in each for each in said)
    assert (tmp_path / "w" / "out" / "checkpoint-5" / "rng_state_1.pth").exists()


def test_the_mode_and_the_monitored_value_are_those_of_the_arguments(directory, tmp_path):
    args = arguments(tmp_path / "out", 10, metric_for_best_model="eval_runtime", greater_is_better=True)
    trainer(args, HoldfastCallback(directory)).train()
    assert Client().directory(directory).policy.mode == "max"
    best = Client().best(directory)
    assert best.metric == best.metadata["eval_runtime"]


def test_an_empty_folder_of_an_interrupted_save_is_not_resumed_from(directory, tmp_path, whole):
    frameworks.run("transformers_job", directory, tmp_path / "out", tmp_path / "end.pt", "--steps", 10)
    (tmp_path / "out" / "checkpoint-50").mkdir()
    assert holdfast_resume(directory, tmp_path / "out") == str(tmp_path / "out" / "checkpoint-10")


def test_what_another_job_saves_under_a_name_meanwhile_is_not_overwritten(directory, server, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"w")
    manager, refuse_changed = CheckpointManager(directory), LocalFiles.refuse_changed

    def late(files):  # everything has arrived, and the commit follows
        server.save(directory, b"of another job", name="checkpoint-5")
        refuse_changed(files)

    save_files(manager, folder, metadata={})
    (folder / "w.bin").write_bytes(b"changed")
    save_files(manager, folder, metadata={})
    assert Client().latest(directory).size_bytes == len(b"changed"), "what this job knows of is replaced"
    monkeypatch.setattr(LocalFiles, "refuse_changed", late)
    (folder / "w.bin").write_bytes(b"again")
    with pytest.raises(FileExistsError, match="precondition_failed"):
        save_files(manager, folder, metadata={})
    assert [each.size_bytes for each in Client().checkpoints(directory)] == [len(b"of another job")]


def test_nothing_to_resume_from_is_none(directory, tmp_path):
    assert holdfast_resume(directory, tmp_path / "out") is None
    CheckpointManager(directory).save({}, epoch=1)
    with pytest.warns(Warning, match="none that is a folder"):
        assert holdfast_resume(directory, tmp_path / "out") is None


def test_what_leaves_checkpoints_without_a_metric_or_makes_none_is_named(directory, tmp_path):
    with pytest.warns(Warning, match="no 'eval_accuracy'.*eval_loss"):
        trainer(arguments(tmp_path / "out", 10), HoldfastCallback(directory, monitor="eval_accuracy")).train()
    with pytest.warns(Warning, match="save_strategy='no'"):
        trainer(arguments(tmp_path / "out", 5, save_strategy="no"), HoldfastCallback(directory)).train()


def test_an_output_folder_that_is_a_url_is_refused(directory, tmp_path):
    with pytest.raises(InvalidRequest, match="local folder"):
        trainer(arguments(f"holdfast://{directory}", 5), HoldfastCallback(directory))
    with pytest.raises(InvalidRequest, match="local folder"):
        holdfast_resume(directory, f"holdfast://{directory}")
