"""A network that fails in every way that the project knows: no save raises, none is lost, doubled or altered."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch

from holdfast import CheckpointManager, HoldfastError
from tests.crash.harness.rounds import rounds
from tests.data.states import assert_same
from tests.support.deadlines import DEADLINE_S
from tests.support.faults import KINDS, FaultProxy
from tests.support.live import eventually

ROUNDS = rounds(3, 100)
AT_A_TIME = 3
MOST_MORE = 10
"""The rounds beyond those without a fault, which happen if little traffic passes."""
SAVES = 5
WRITERS = 2


def make_state(numbers, epoch):
    """Some layers that stay the same, one that changes, and small things."""
    return {
        "frozen": torch.arange(200_000, dtype=torch.float32),
        "trained": torch.full((numbers.choice([100, 50_000, 400_000]),), float(epoch)),
        "notes": {"epoch": epoch, "seen": list(range(epoch))},
    }


class Writer(threading.Thread):
    """One training job: saves, and looks at what it has saved, without ever being stopped by the network."""

    def __init__(self, url, directory, seed):
        super().__init__(daemon=True)
        self.directory = directory
        self.numbers = random.Random(seed)
        self.manager = CheckpointManager(
            directory, None, None, server=url, timeout_s=0.6, patience_s=2.0, background=self.numbers.random() < 0.3
        )
        self.saved = {}
        self.failure = None
        self.is_wrong = None

    def run(self):
        try:
            for epoch in range(SAVES):
                self.save(epoch)
            self.manager.wait()
        except BaseException as error:
            self.failure = error

    def save(self, epoch):
        state, loss = make_state(self.numbers, epoch), self.numbers.uniform(0, 1)
        path = self.manager.save(state, epoch=epoch, loss=loss, note=f"epoch {epoch}")
        self.saved[epoch] = (state, loss)
        assert path.name == f"checkpoint_epoch_{epoch:04d}.pt"
        if self.numbers.random() < 0.4:
            with suppress(HoldfastError):  # a load may fail; it may not give something else
                loaded = self.manager.load(path)
                if loaded["notes"] != state["notes"]:
                    self.is_wrong = path


def assert_arrived(server, writer):
    """That the server has each save of a writer once, in order and as it was."""
    params = {"directory": writer.directory, "include_removed": True, "page_size": 1000}
    found = server.http.get("/v1/checkpoints", params=params).json()["checkpoints"]
    found.sort(key=lambda checkpoint: checkpoint["sequence"])
    assert [checkpoint["epoch"] for checkpoint in found] == list(range(SAVES))
    direct = CheckpointManager(writer.directory, server=server.url)
    for checkpoint in found:
        state, loss = writer.saved[checkpoint["epoch"]]
        assert checkpoint["metric"] == loss
        assert checkpoint["metadata"] == {"loss": loss, "note": f"epoch {checkpoint['epoch']}"}
        assert checkpoint["removed_at"] is None
        assert_same(direct.load(checkpoint["name"]), state)


def play(server, kind, seed, directory):
    """Let writers work through faults, and what they leave be delivered without; the writers, and what struck them."""
    with FaultProxy(server.url, kind, seed=seed) as proxy:
        writers = [Writer(proxy.url, f"{directory}/{n}", seed + n) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(DEADLINE_S)
            assert not writer.is_alive(), "a save hangs"
        strikes = list(proxy.strikes)
        proxy.calm()
        assert eventually(lambda: not any(writer.manager.pending for writer in writers), 60), "not all was delivered"
    return writers, strikes


@pytest.fixture
def impatient(monkeypatch):
    """Deadlines and waits that suit small checkpoints and short rounds."""
    monkeypatch.setattr("holdfast._api.retry.LONGEST_WAIT_S", 0.5)
    monkeypatch.setattr("holdfast._connection.raw_connections.SLOWEST_BYTES_PER_S", 1024 * 1024)
    monkeypatch.setattr("holdfast._transfer.upload._COPIED_BYTES_PER_S", 1024 * 1024)


def play_and_compare(server, kind, seed, directory):
    """That a round loses nothing; what struck it."""
    writers, strikes = play(server, kind, seed, directory)
    for writer in writers:
        assert writer.failure is None, writer.failure
        assert writer.is_wrong is None
        assert_arrived(server, writer)
    return strikes


@pytest.mark.filterwarnings("ignore::holdfast.HoldfastWarning")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_of_the_network_stops_loses_doubles_or_alters_a_save(server, directory, kind, spool):
    def round_of(number):
        seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
        print(f"round {number}: HOLDFAST_SEED={seed} plays it again")
        strikes = play_and_compare(server, kind, seed, f"{directory}/{number}")
        print(number, strikes[-30:])
        return len(strikes)

    with ThreadPoolExecutor(AT_A_TIME) as players:  # they wait most of the time
        struck = sum(players.map(round_of, range(ROUNDS)))
    more = iter(range(ROUNDS, ROUNDS + MOST_MORE))
    while not struck and (number := next(more, None)) is not None:  # the seeds spared every connection
        struck = round_of(number)
    assert not list(spool.glob("*/parked/*"))
    assert struck > 0, "no fault was injected"
