"""Folders to be saved, as trainers write them, and what became of them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import CheckpointManager
from holdfast._api import retry
from tests.support.live import LiveServer


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the back-off between attempts."""
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.2)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes folders like those of a trainer, of other content for each step."""

    def make(step: int = 500, size_bytes: int = 300_000, below: Path | None = None) -> Path:
        folder = (below or tmp_path / "out") / f"checkpoint-{step}"
        (folder / "sub" / "deep").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(step.to_bytes(4, "big") + os.urandom(size_bytes))
        (folder / "sub" / "deep" / "state.json").write_text(f'{{"step": {step}}}')
        (folder / "sub" / "empty").touch()
        return folder

    return make


@pytest.fixture
def manager(server: LiveServer, directory: str) -> CheckpointManager:
    return CheckpointManager(directory, server=server.url, patience_s=0)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """The folder that downloads go to."""
    return tmp_path / "got"
