"""States of many small tensors: a save takes about as long as torch's own."""

import os
import time

import pytest
import torch

from holdfast import CheckpointManager


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.alone
def test_a_save_of_many_small_tensors_takes_about_as_long_as_torchs_own(server, directory, tmp_path):
    """The aim is 1.5 times as long; the bound leaves room for other load on the machine."""
    state = {f"layer.{number}": torch.randn(64) for number in range(30_000)}
    manager = CheckpointManager(directory, server=server.url)

    def by_torch():
        with (tmp_path / "state.pt").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    torchs, ours = [], []
    for epoch in range(3):
        for tensor in state.values():
            tensor.add_(1)
        torchs.append(seconds(by_torch))
        ours.append(seconds(lambda epoch=epoch: manager.save(state, epoch=epoch)))
    assert min(ours) < 2 * min(torchs), (ours, torchs)
    found = manager.load_latest()
    assert all(torch.equal(found[name], state[name]) for name in state)
