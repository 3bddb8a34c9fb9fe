"""Adopted checkpoints of other tools load like any other."""

import subprocess
import sys

import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer


def compared(server, name):
    """Return the differences between the files and tensors of a checkpoint and an adopted one."""
    listed = server.http.get("/v1/checkpoints", params={"directory": "runs/old"}).json()["checkpoints"]
    ids = {found["name"]: found["id"] for found in listed}
    found = server.http.get(f"/v1/checkpoints/{ids[name]}/comparison", params={"against": ids["epoch_2.pt"]}).json()
    tensors = found["tensors"] and {tensor["name"]: tensor["change"] for tensor in found["tensors"]}
    return [file["change"] for file in found["files"]], tensors


def test_a_torch_file_that_was_adopted_is_the_latest_and_training_goes_on(tmp_path):
    place = tmp_path / "root/runs/old"
    place.mkdir(parents=True)
    for epoch in range(3):
        torch.save({"epoch": epoch, "weights": torch.full((30_000,), float(epoch))}, place / f"epoch_{epoch}.pt")
    command = [sys.executable, "-m", "app", "adopt", "--root", str(tmp_path / "root"), str(place)]
    subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)
    with LiveServer(tmp_path / "root") as server:
        manager = CheckpointManager("runs/old", server=server.url, max_checkpoints=1, max_best_checkpoints=1)
        state = manager.load_latest()
        assert state["epoch"] == 2
        assert torch.equal(state["weights"], torch.full((30_000,), 2.0))
        with pytest.warns(HoldfastWarning, match="an operator's limits are in force"):
            manager.save({"epoch": 3, "weights": torch.zeros(30_000)}, epoch=3, metric=0.5)
        assert manager.load_latest()["epoch"] == 3
        assert len(server.names("runs/old")) == 4
        assert compared(server, "epoch_1.pt") == (["changed"], {"weights": "changed"})
        assert compared(server, "epoch_2.pt") == (["same"], {"weights": "same"})
        assert compared(server, "checkpoint_epoch_0003.pt") == (["changed"], {"weights": "changed"})
