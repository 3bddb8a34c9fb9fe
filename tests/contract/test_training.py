"""A real training run over HTTP: exactly the right checkpoints are kept, despite failures of the server."""

import json
import random

import pytest
import torch
from torch import nn

from holdfast import CheckpointManager

EPOCHS = 12


def answers(server, directory):
    """Ask everything that a user can ask about a directory."""
    return {
        "list": server.names(directory),
        "ranked": server.names(directory, order_by="best"),
        "best": server.http.get("/v1/checkpoints/best", params={"directory": directory}).json(),
        "latest": server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json(),
        "directory": server.http.get(f"/v1/directories/{directory}").json(),
    }


def train(manager, losses, after_each=lambda epoch: None):
    """Train a small network for as many epochs as there are losses to report."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    inputs = torch.randn(64, 8)
    targets = inputs.sum(dim=1, keepdim=True)
    for epoch, reported in enumerate(losses):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(inputs), targets).backward()
        optimizer.step()
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        manager.save(state, epoch=epoch, loss=reported)
        after_each(epoch)
    return network


def expected(losses, last=2, best=2):
    """Restate the policy: after each save, the last ones and the best ones so far."""
    kept = []
    for epoch in range(len(losses)):
        kept.append(epoch)
        ranked = sorted(kept, key=lambda e: (losses[e], e))[:best]
        kept = sorted({*kept[-last:], *ranked})
    return [f"checkpoint_epoch_{epoch:04d}.pt" for epoch in kept]


@pytest.mark.parametrize("seed", range(3))
def test_twelve_epochs_leave_exactly_the_union(server, directory, seed):
    losses = random.Random(seed).choices([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], k=EPOCHS)
    manager = CheckpointManager(directory, max_checkpoints=2, max_best_checkpoints=2, server=server.url)
    train(manager, losses)
    assert server.names(directory) == expected(losses)
    server.wait_until_freed()
    on_disk = sorted(path.name for path in (server.root / directory).glob("*.pt"))
    manifests = sorted(path.name for path in (server.root / directory / ".holdfast").glob("*.pt.json"))
    assert on_disk == expected(losses)
    assert manifests == [f"{name}.json" for name in on_disk]


def test_a_server_that_is_killed_after_every_epoch_changes_no_answer(server, own_server, directory):
    losses = random.Random(7).choices([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], k=EPOCHS)
    limits = {"max_checkpoints": 2, "max_best_checkpoints": 2}

    def kill(epoch):
        before = answers(own_server, directory)
        own_server.restart()
        assert answers(own_server, directory) == before

    network = train(CheckpointManager(directory, **limits, server=own_server.url), losses, after_each=kill)
    train(CheckpointManager(directory, **limits, server=server.url), losses)
    assert own_server.names(directory) == server.names(directory) == expected(losses)
    latest = CheckpointManager(directory, server=own_server.url).load_latest()
    assert latest["epoch"] == EPOCHS - 1
    for name, weight in network.state_dict().items():
        assert torch.equal(latest["model"][name], weight)


def test_the_files_alone_give_the_same_answers(own_server, directory):
    manager = CheckpointManager(directory, max_checkpoints=3, max_best_checkpoints=2, server=own_server.url)
    train(manager, [0.4, 0.1, 0.3, 0.2, 0.5])
    before = answers(own_server, directory)
    own_server.stop()
    for path in (own_server.root / ".holdfast").glob("catalog.db*"):
        path.unlink()
    own_server.start()
    assert answers(own_server, directory) == before


def test_every_file_loads_with_torch_alone_and_its_manifest_describes_it(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    train(manager, [0.3, 0.2, 0.1])
    for entry in manager.checkpoints:
        file = server.root / directory / entry["path"].name
        assert torch.load(file, weights_only=True)["epoch"] == entry["epoch"]
        manifest = json.loads((file.parent / ".holdfast" / f"{file.name}.json").read_text())
        assert manifest["checkpoint"]["files"][0]["size_bytes"] == file.stat().st_size
        assert manifest["checkpoint"]["facts"]["metric"] == entry["metric"]


def test_a_lowered_limit_converges_at_the_next_save(server, directory):
    train(CheckpointManager(directory, max_checkpoints=5, max_best_checkpoints=0, server=server.url), [0.1] * 5)
    CheckpointManager(directory, max_checkpoints=2, max_best_checkpoints=0, server=server.url).save({}, epoch=5)
    assert server.names(directory) == ["checkpoint_epoch_0004.pt", "checkpoint_epoch_0005.pt"]


def test_every_tenth_epoch_stays_where_asked(server, directory):
    manager = CheckpointManager(
        directory, max_checkpoints=1, max_best_checkpoints=0, keep_every_epochs=5, server=server.url
    )
    for epoch in range(12):
        manager.save({}, epoch=epoch)
    assert [entry["epoch"] for entry in manager.checkpoints] == [0, 5, 10, 11]
