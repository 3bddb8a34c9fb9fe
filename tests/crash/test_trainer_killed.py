"""A training job killed at random moments: what was promised to it is on the server in the end, once and unaltered."""

import os
import random
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from holdfast import CheckpointManager
from holdfast._spool.spool import Spool
from tests.crash.harness.rounds import rounds
from tests.crash.harness.trainer import digest
from tests.support.forwarder import Forwarder
from tests.support.jobs import Job, Jobs
from tests.support.live import LiveServer

ROUNDS = rounds(20, 200)
DIRECTORY = "runs/killed"
EPOCHS_OF_A_ROUND = 10_000
TRAIN = "from tests.crash.harness.trainer import train\ntrain()\n"
SYNC = "import sys\nfrom holdfast.cli import main\nsys.exit(main(['sync']))\n"


class Trial:
    """A directory, and what its trainers have said so far."""

    def __init__(self, server: LiveServer, url: str, spool: Path, jobs: Jobs, chance: random.Random) -> None:
        self._server, self._url, self._spool, self._jobs, self._chance = server, url, spool, jobs, chance
        self.begun: dict[int, str] = {}
        self.durable: list[int] = []

    def play(self, number: int) -> None:
        """Resume a trainer where the last one was killed, maybe disturb the server, and kill the trainer."""
        chance = self._chance
        job = self._start(TRAIN, FIRST_EPOCH=str(number * EPOCHS_OF_A_ROUND), SEED=str(chance.random()))
        job.wait_for("begins")
        moments = [(chance.uniform(0, 1.1), lambda: job.send_signal(signal.SIGKILL))]
        if chance.random() < 0.5:
            away_at = chance.uniform(0, 0.7)
            moments += [(away_at, self._server.kill), (away_at + chance.uniform(0.1, 0.9), self._server.start)]
        began = time.monotonic()
        for moment, happen in sorted(moments, key=lambda each: each[0]):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            happen()
        assert job.wait() == -signal.SIGKILL, job.errors()
        self._heed(job)
        self._compare()

    def sync(self) -> None:
        """Deliver what waits, as a user would."""
        job = self._start(SYNC)
        assert job.wait() == 0, job.output() + job.errors()
        assert self._waiting() == []
        self._compare()

    def check_all(self) -> None:
        """Every checkpoint there is: each of them once, in order, with its own bytes."""
        rows = self._rows()
        epochs = [row["epoch"] for row in rows]
        assert len(set(epochs)) == len(epochs), "a save was committed twice"
        assert all(row["removed_at"] is None for row in rows)
        assert epochs == sorted(epochs), "they are not in the order of saving"
        assert not set(self.durable) - set(epochs)
        manager = CheckpointManager(DIRECTORY, server=self._server.url, progress=False)
        with closing(manager):
            for row in rows:
                assert digest(manager.load(row["name"])) == self.begun[row["epoch"]], f"{row['name']} was altered"

    def _start(self, script: str, **environment: str) -> Job:
        return self._jobs.start(script, HOLDFAST_URL=self._url, DIRECTORY=DIRECTORY, **environment)

    def _heed(self, job: Job) -> None:
        """Take down what a trainer has said, and see where it began."""
        newest = max(self.durable, default=-1)
        for line in job.lines():
            kind, epoch, *rest = line.split()
            if kind == "begins":
                self.begun[int(epoch)] = rest[0]
            elif kind == "durable":
                self.durable.append(int(epoch))
            else:
                assert int(epoch) >= newest, f"it resumed from {epoch}, and {newest} was durable\n{job.errors()}"
                assert rest[0] == self.begun[int(epoch)], f"it resumed from an altered {epoch}"
        assert job.value("begins")

    def _compare(self) -> None:
        """Assert that every promised save is on the server or in the spool."""
        found = {row["epoch"] for row in self._rows()} | set(self._waiting())
        assert not set(self.durable) - found, f"lost: {sorted(set(self.durable) - found)}"

    def _rows(self) -> list[dict[str, Any]]:
        """All that was ever committed, in order."""
        rows: list[dict[str, Any]] = []
        query = {"directory": DIRECTORY, "include_removed": True, "order_by": "position", "page_size": 500}
        while True:
            answer = self._server.http.get("/v1/checkpoints", params=query)
            if answer.status_code == 404 and not rows:
                return []
            answer.raise_for_status()
            rows += answer.json()["checkpoints"]
            if not (token := answer.json().get("next_page_token")):
                return rows
            query["page_token"] = token

    def _waiting(self) -> list[int]:
        """The epochs that wait, each of them whole."""
        epochs = []
        for queue in Spool(self._spool).queues():
            assert queue.parked() == []
            for item in queue.items():
                save, file = queue.open(item)
                with file:
                    assert not file.has_changed(), f"{item.folder} was altered"
                epochs.append(save["epoch"])
        return epochs


def test_what_a_killed_trainer_was_promised_is_there(jobs, spool, tmp_path):
    seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed} plays the same moments again")
    chance = random.Random(seed)
    bytes_per_s = 60_000_000

    def slowly(up: bool, piece: bytes) -> None:
        time.sleep(len(piece) / bytes_per_s)

    with LiveServer(tmp_path / "root") as server, Forwarder(server.url, watch=slowly) as forwarder:
        trial = Trial(server, forwarder.url, spool, jobs, chance)
        for number in range(ROUNDS):
            print(f"round {number}")
            trial.play(number)
            if chance.random() < 0.3:
                trial.sync()
        trial.sync()
        trial.check_all()
        print(f"{len(trial.begun)} saves begun, {len(trial.durable)} promised, {len(trial._rows())} on the server")
    assert trial.durable
