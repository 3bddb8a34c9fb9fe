"""The power of a job's machine cut while it writes to its spool: what `save` has returned for is there afterwards."""

import os
import random
import threading
import warnings

import pytest
import torch

from holdfast import CheckpointManager, OutOfSpace
from holdfast._spool.spool import Spool
from tests.crash.harness.disk import Disk, hindrance
from tests.crash.harness.rounds import rounds

ROUNDS, AT_MOST = rounds(10, 200), 10
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def power_can_be_cut():
    if reason := hindrance():
        pytest.skip(reason)


def saves_until_the_power_is_cut(disk, directory, numbers):
    """The epochs for which a save returned, with the sums of their tensors; of some rounds, not the first one."""
    manager = CheckpointManager(directory, server=NOBODY, patience_s=0, spool_dir=disk.path / "spool")
    acknowledged = {}
    cut, first = threading.Timer(numbers.uniform(0.01, 0.5), disk.cut), numbers.randrange(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for epoch in range(10_000):
            if epoch == first:  # not by time alone: on a slow machine, no save would have returned
                cut.start()
            weights = torch.full((numbers.choice([10, 1000, 300_000]),), float(epoch))
            try:
                manager.save({"w": weights, "epoch": epoch}, epoch=epoch)
            except (OutOfSpace, OSError):
                break
            acknowledged[epoch] = float(weights.sum())
    cut.join()
    disk.revive()
    return acknowledged


def what_is_there(disk, directory):
    """The epochs that the spool holds, in order, with the sums of their tensors; damaged ones as None."""
    queue = Spool(disk.path / "spool").queue(NOBODY, directory)
    found = {}
    for item in queue.items():
        save, file = queue.open(item)
        with file:
            sound = not file.has_changed()
        found[save["epoch"]] = float(torch.load(item.folder / "state.pt")["w"].sum()) if sound else None
    return found


def lost(disk, number, numbers):
    """Return the number of acknowledged checkpoints of one round, and those missing or altered."""
    directory = f"runs/{number}"
    acknowledged = saves_until_the_power_is_cut(disk, directory, numbers)
    try:
        found = what_is_there(disk, directory)
    except (OSError, ValueError) as error:
        return len(acknowledged), str(error)
    assert list(found) == sorted(found)
    assert len(found) <= len(acknowledged) + 1
    return len(acknowledged), {epoch for epoch, total in acknowledged.items() if found.get(epoch) != total}


def play(tmp_path, count):
    """Return the number of acknowledged checkpoints in each of so many rounds on one disk, and the losses."""
    seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed} plays the same rounds again")
    numbers = random.Random(seed)
    with Disk(size_mb=1024) as disk:
        for number in range(count):
            yield lost(disk, number, numbers)


def test_what_a_save_has_returned_for_survives_any_power_cut(tmp_path):
    played = list(play(tmp_path, ROUNDS))
    assert [gone for _, gone in played] == [set()] * ROUNDS
    assert sum(count for count, _ in played) > 0


def test_a_client_that_is_robbed_of_its_fsyncs_loses_what_it_has_returned_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    assert any(gone for _, gone in play(tmp_path, AT_MOST)), "nothing was lost"
