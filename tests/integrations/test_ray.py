"""Ray Train with its storage on a server: real workers, one of which is killed."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
import ray
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from holdfast.integrations.fsspec import HoldfastFileSystem
from holdfast.integrations.ray import filesystem
from tests.support.live import PROJECT, LiveServer


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray itself, small, on this machine. Its folder has a short path, as its sockets are in it."""
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory(prefix="hf-ray-") as folder:
        environment.setenv("PYTHONPATH", str(PROJECT))  # of its workers, which import this module
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80_000_000,
            logging_level="error",
            _temp_dir=folder,
        )
        yield
        ray.shutdown()


def train(settings: dict[str, Any]) -> None:
    """Train for six steps; kill this worker once, after the third."""
    weights, begin = torch.zeros(2), 0
    if (found := ray.train.get_checkpoint()) is not None:
        with found.as_directory() as folder:
            state = torch.load(Path(folder, "state.pt"))
        weights, begin = state["weights"], state["step"] + 1
    for step in range(begin, 6):
        weights += 1
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"weights": weights, "step": step}, Path(folder, "state.pt"))
            Path(folder, "deep").mkdir()
            Path(folder, "deep", ".hidden").write_text(str(step))
            ray.train.report({"step": step, "begun_at": begin}, checkpoint=Checkpoint.from_directory(folder))
        if step == 3 and not Path(settings["killed"]).exists():
            Path(settings["killed"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_is_restored_after_its_worker_was_killed(
    cluster: None, server: LiveServer, directory: str, tmp_path: Path
):
    trainer = TorchTrainer(
        train,
        train_loop_config={"killed": str(tmp_path / "killed")},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(
            name="tested",
            storage_filesystem=filesystem(server=server.url),
            storage_path=directory,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=1),
        ),
    )
    result = trainer.fit()
    assert (tmp_path / "killed").exists()
    assert result.metrics["begun_at"] > 0, "it began anew"
    assert result.metrics["step"] == 5

    folder = Path(result.checkpoint.to_directory(tmp_path / "restored"))
    state = torch.load(folder / "state.pt")
    assert (state["step"], state["weights"].tolist()) == (5, [6.0, 6.0])
    assert (folder / "deep" / ".hidden").read_text() == "5"
    assert len(result.best_checkpoints) == 2
    steps = [torch.load(path / "state.pt")["step"] for path in folders_of(server, directory, tmp_path / "kept")]
    assert sorted(set(steps)) in ([4, 5], [3, 4, 5]), "only what the killed worker had reported last may be left over"


def folders_of(server: LiveServer, directory: str, to: Path) -> list[Path]:
    """Return copies of all folders of checkpoints that are on the server."""
    HoldfastFileSystem(server=server.url).get(f"{directory}/tested/", str(to), recursive=True)
    return [path for path in to.iterdir() if path.name.startswith("checkpoint_") and path.is_dir()]


def test_an_arrow_file_system(server: LiveServer, directory: str):
    files = filesystem(server=server.url)
    with files.open_output_stream(f"{directory}/a") as stream:
        stream.write(b"arrow")
    with files.open_input_file(f"{directory}/a") as file:
        assert file.read_at(3, 1) == b"rro"
    files.move(f"{directory}/a", f"{directory}/b")
    files.create_dir(f"{directory}/made")
    found = {each.base_name: each.type for each in files.get_file_info(pyarrow.fs.FileSelector(directory))}
    assert found == {"b": pyarrow.fs.FileType.File, "made": pyarrow.fs.FileType.Directory}
    files.delete_dir(directory)
    assert files.get_file_info(directory).type == pyarrow.fs.FileType.NotFound
