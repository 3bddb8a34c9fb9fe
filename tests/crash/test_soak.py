"""A soak at full speed: jobs save and load, the server is killed between, and nothing of it grows but the catalog."""

import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from app.service.state.active_purges import MOST_AT_ONCE, MOST_WAITING
from holdfast import CheckpointManager
from tests.crash.harness.rounds import rounds
from tests.support.live import LiveServer, eventually
from tests.support.memory import resident_bytes_of

LIVES = rounds(2, 2)
"""The number of times that the server is started."""
SECONDS = rounds(10, 480)
"""The length of each of its lives."""
SAMPLES = 20
"""The number of samples of a life."""
JOBS = 8
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """What a server holds at a moment."""

    memory_bytes: int
    descriptors: int
    threads: int
    log_bytes: int
    """The write-ahead log of the catalog."""
    unfreed: int
    """The removed checkpoints whose bytes are still there."""
    trash: int
    incoming: int


def sample(server: LiveServer) -> Sample:
    process, own = Path("/proc", str(server.process_id)), server.root / ".holdfast"
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    log = own / "catalog.db-wal"
    return Sample(
        memory_bytes=resident_bytes_of(server.process_id),
        descriptors=len(list((process / "fd").iterdir())),
        threads=int(status["Threads"]),
        log_bytes=log.stat().st_size if log.exists() else 0,
        unfreed=unfreed(own / "catalog.db"),
        trash=len(list((own / "trash").iterdir())),
        incoming=len(list((own / "incoming").iterdir())),
    )


def unfreed(catalog: Path) -> int:
    with closing(sqlite3.connect(catalog)) as connection:
        [[found]] = connection.execute("SELECT count(*) FROM checkpoints WHERE removed_at IS NOT NULL AND NOT freed")
    return int(found)


@pytest.mark.filterwarnings("ignore::holdfast.HoldfastWarning")
def test_nothing_grows_over_many_saves_prunes_loads_and_restarts(own_server):
    done: Counter[str] = Counter()
    samples: list[list[Sample]] = []
    ending = threading.Event()
    with ThreadPoolExecutor(JOBS) as pool:
        try:
            jobs = [pool.submit(_job, own_server, number, ending, done) for number in range(JOBS)]
            for life in range(LIVES):
                samples.append([sample(own_server) for _ in range(SAMPLES) if not ending.wait(SECONDS / SAMPLES)])
                for job in jobs:
                    assert not job.done() or job.result()  # what ended it is raised here
                if life < LIVES - 1:
                    own_server.restart()
        finally:
            ending.set()
        for job in jobs:
            job.result()
    print(dict(done))
    for number, of_life in enumerate(samples):
        print(number, of_life[0], of_life[len(of_life) // 2], of_life[-1], sep="\n  ")
    assert done["saves"] >= LIVES * SECONDS
    _is_flat([one.memory_bytes for one in samples[-1]], slack=12 * MIB)
    _is_flat([one.descriptors for one in samples[-1]], slack=JOBS)
    _is_flat([one.threads for one in samples[-1]], slack=JOBS)
    _is_flat([max(one.memory_bytes for one in of_life) for of_life in samples], slack=32 * MIB)
    assert max(one.log_bytes for of_life in samples for one in of_life) <= 64 * MIB
    assert max(one.unfreed for of_life in samples for one in of_life) <= 2 * (MOST_WAITING + MOST_AT_ONCE)
    own_server.wait_until_freed()
    assert eventually(lambda: not sample(own_server).trash)
    assert sample(own_server).incoming == 0
    for number in range(JOBS):
        on_disk = {path.name for path in (own_server.root / _run(number)).glob("*.pt")}
        assert set(own_server.names(_run(number))) == on_disk


def _job(server: LiveServer, number: int, ending: threading.Event, done: Counter[str]) -> None:
    """Save and load like a training job, whatever becomes of the server."""
    manager = CheckpointManager(_run(number), 3, 2, server=server.url)
    epoch = 0
    while not ending.is_set():
        epoch += 1
        state = {"epoch": epoch, "weights": torch.full((2_500 if epoch % 10 else 250_000,), float(epoch))}
        manager.save(state, epoch=epoch, metric=float((epoch * 7919) % 1000))
        done["saves"] += 1
        if epoch % 5 == 0:
            found = manager.load_latest()
            assert found is not None
            assert torch.equal(found["weights"], torch.full_like(found["weights"], float(found["epoch"])))
            done["loads"] += 1
    manager.wait()


def _run(number: int) -> str:
    return f"runs/{number}"


def _is_flat(values: list[int], slack: int) -> None:
    """Compare the second half with the first one."""
    middle = len(values) // 2
    assert max(values[middle:]) <= max(values[:middle]) * 1.1 + slack, values
