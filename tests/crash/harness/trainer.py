"""A job that trains, saves often, and says on its standard output what it knows to be durable.

``begins EPOCH DIGEST``: this state is about to be saved. ``durable EPOCH``: so it was promised.
``resumed EPOCH DIGEST``: from there it continues.
"""

import os
import random
import time
from collections.abc import Mapping
from typing import Any

import torch
from blake3 import blake3
from torch import nn

from holdfast import CheckpointManager

WIDTH = 500  # 3 MB with the optimizer's state


def digest(state: Mapping[str, Any]) -> str:
    """Return the identity of a state: its tensors' bytes and its epoch."""
    whole = blake3(str(state["epoch"]).encode())
    for weight in state["model"].values():
        whole.update(weight.numpy().tobytes())
    for _, values in sorted(state["optimizer"]["state"].items()):
        for _, value in sorted(values.items()):
            whole.update(value.numpy().tobytes())
    return whole.hexdigest()[:32]


def train() -> None:
    """Train until the process is killed."""
    chance = random.Random(os.environ["SEED"])
    torch.manual_seed(chance.randrange(1 << 30))
    manager = CheckpointManager(
        os.environ["DIRECTORY"], max_checkpoints=None, background=True, patience_s=0.3, timeout_s=3
    )
    network = nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    found = manager.resume()
    if found is not None:
        print("resumed", found["epoch"], digest(found))
        network.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
    underway: list[int] = []
    for epoch in range(int(os.environ["FIRST_EPOCH"]), 1 << 30):
        optimizer.zero_grad()
        loss = network(torch.randn(16, WIDTH)).square().mean()
        loss.backward()
        optimizer.step()
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        print("begins", epoch, digest(state))
        time.sleep(0.1)  # there would be more to compute
        waits = chance.random() < 0.5
        manager.save(state, epoch=epoch, loss=loss.item(), wait=waits)
        if waits:
            print("durable", epoch)
            continue
        underway.append(epoch)
        if chance.random() < 0.4 and manager.wait():
            for each in underway:
                print("durable", each)
            underway = []
