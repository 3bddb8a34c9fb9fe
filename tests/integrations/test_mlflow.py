"""MLflow's own runs, with their artifacts on a server."""

from pathlib import Path

import mlflow
import mlflow.pytorch
import pytest
import torch
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from holdfast.integrations.mlflow import HoldfastArtifactRepository
from tests.support.live import LiveServer


@pytest.fixture
def experiment(directory: str, tmp_path: Path) -> str:
    """The id of an experiment whose artifacts are in the directory of the test."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow.create_experiment("tested", artifact_location=f"holdfast://{directory}")


def test_artifacts_of_a_run(experiment: str, server: LiveServer, directory: str, tmp_path: Path):
    (tmp_path / "logged" / "deep").mkdir(parents=True)
    (tmp_path / "logged" / "a.txt").write_text("a")
    (tmp_path / "logged" / "deep" / ".b").write_text("b")
    (tmp_path / "logged" / "deep" / "empty").write_text("")
    (tmp_path / "model.bin").write_bytes(b"x" * 5_000_000)
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_artifact(str(tmp_path / "model.bin"), "models")
        mlflow.log_artifacts(str(tmp_path / "logged"), "logged")
        mlflow.log_text("first", "notes.txt")
        mlflow.log_text("second", "notes.txt")
    uri = run.info.artifact_uri
    assert uri == f"holdfast://{directory}/{run.info.run_id}/artifacts"
    assert server.names(f"{directory}/{run.info.run_id}/artifacts/models", retention="manual") == ["model.bin"]

    found = {each.path: (each.is_dir, each.file_size) for each in list_artifacts(run_id=run.info.run_id)}
    assert found == {"logged": (True, None), "models": (True, None), "notes.txt": (False, 6)}
    deep = list_artifacts(run_id=run.info.run_id, artifact_path="logged/deep")
    assert [each.path for each in deep] == ["logged/deep/.b", "logged/deep/empty"]

    whole = Path(download_artifacts(run_id=run.info.run_id, artifact_path="", dst_path=str(tmp_path / "whole")))
    assert (whole / "models" / "model.bin").read_bytes() == b"x" * 5_000_000
    assert (whole / "logged" / "deep" / ".b").read_text() == "b"
    assert (whole / "logged" / "deep" / "empty").read_text() == ""
    assert mlflow.artifacts.load_text(f"{uri}/notes.txt") == "second"


def test_artifacts_are_deleted(experiment: str):
    with mlflow.start_run(experiment_id=experiment) as run:
        for name in ("a/b.txt", "a/c.txt", "d.txt"):
            mlflow.log_text(name, name)
    repository = get_artifact_repository(run.info.artifact_uri)
    assert isinstance(repository, HoldfastArtifactRepository)
    repository.delete_artifacts("a/b.txt")
    assert [each.path for each in repository.list_artifacts("a")] == ["a/c.txt"]
    repository.delete_artifacts("a")
    repository.delete_artifacts("none")
    assert [each.path for each in repository.list_artifacts()] == ["d.txt"]
    assert repository.list_artifacts("d.txt") == []
    repository.delete_artifacts()
    assert repository.list_artifacts() == []


def test_what_is_not_there_is_named(experiment: str, tmp_path: Path):
    with mlflow.start_run(experiment_id=experiment) as run:
        pass
    with pytest.raises(Exception, match=r"none\.txt"):
        download_artifacts(run_id=run.info.run_id, artifact_path="none.txt", dst_path=str(tmp_path))
    with pytest.raises(Exception, match="Invalid artifact path"), mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_text("up", "../up.txt")


def test_a_server_that_is_away_is_an_error(experiment: str, own_server: LiveServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOLDFAST_URL", own_server.url)
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("a", "a.txt")
    own_server.kill()
    repository = get_artifact_repository(run.info.artifact_uri)
    repository._store.server.patience_s = 0
    with pytest.raises(ConnectionError):
        repository.list_artifacts()


def test_a_model_of_torch(experiment: str):
    model = torch.nn.Linear(2, 1)
    with mlflow.start_run(experiment_id=experiment):
        logged = mlflow.pytorch.log_model(
            model, name="model", pip_requirements=["torch"], serialization_format="pickle"
        )
    found = mlflow.pytorch.load_model(logged.model_uri)
    assert found.weight.equal(model.weight)
