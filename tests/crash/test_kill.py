"""The server killed at random moments of its work and of its recovery: what it acknowledged is there afterwards."""

import os
import random

from tests.crash.rounds import rounds
from tests.crash.trial import Trial

ROUNDS = rounds(30, 1000)


def test_what_was_acknowledged_survives_any_kill(nursery, tmp_path):
    seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed} plays the same operations again")
    with nursery.server(tmp_path / "root") as server:
        trial = Trial(server, nursery, seed, tmp_path)
        for number in range(ROUNDS):
            print(f"round {number}")
            trial.play(server.kill, lambda: trial.recover(server.kill))
