"""The server killed at random moments of its work and of its recovery: what it acknowledged is there afterwards."""

import os
import random

import pytest

from tests.crash.harness.rounds import rounds
from tests.crash.harness.trial import Trial
from tests.support.live import LiveServer

ROUNDS = rounds(30, 1000)


@pytest.mark.parametrize("undo_window", ["0", "2m"], ids=["without undo", "with undo"])
def test_what_was_acknowledged_survives_any_kill(tmp_path, undo_window):
    seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed} plays the same operations again")
    with LiveServer(tmp_path / "root", undo_window=undo_window) as server:
        trial = Trial(server, seed, tmp_path, undo=undo_window != "0")
        for number in range(ROUNDS // 2):
            print(f"round {number}")
            trial.play(server.kill, lambda: trial.recover(server.kill))
