"""Work of the ranks of a job, each in a process of its own."""

import random
import time
from typing import Any

from holdfast import CheckpointManager, HoldfastError

WAIT_S = 120


def shard(rank: int, size_bytes: int = 300_000) -> bytes:
    """The bytes of a rank."""
    return random.Random(rank).randbytes(size_bytes)


def part_of(url: str, directory: str, rank: int, world: int, **more: Any) -> Any:
    """The part of a rank of a save that all ranks begin alike."""
    manager = CheckpointManager(directory, server=url, on_unreachable="raise", patience_s=60)
    terms = {"save_id": "job-1-step-10", "writers": [f"rank-{each}" for each in range(world)], "step": 10}
    return manager.shared_save("step-10", writer=f"rank-{rank}", **terms | more)


def save(url: str, directory: str, rank: int, world: int, queue: Any, more: dict[str, Any]) -> None:
    """Send a shard; rank 0 commits once all are ready, the others wait for it."""
    try:
        with part_of(url, directory, rank, world, **more) as part:
            part.add(f"shard-{rank}.bin", shard(rank))
            made = part.ready()
            if made is None and rank == 0 and not more.get("commit_when_ready"):
                end = time.monotonic() + WAIT_S
                while part.status.missing_writers and time.monotonic() < end:
                    time.sleep(0.05)
                made = part.commit(writers=[f"rank-{each}" for each in range(world)])
            queue.put((rank, str(made or part.wait_committed(WAIT_S))))
    except HoldfastError as error:
        queue.put((rank, error.code))


def save_and_stop(url: str, directory: str, rank: int, world: int, pipe: Any, more: dict[str, Any]) -> None:
    """Send a shard and a part of a second file, then stand still until this process is killed."""
    part = part_of(url, directory, rank, world, **more)
    part.add(f"shard-{rank}.bin", shard(rank))
    pipe.send("sent")
    pipe.recv()


def go_on(url: str, directory: str, rank: int, world: int, pipe: Any, more: dict[str, Any]) -> None:
    """Send a shard, wait for a word, then try everything; the codes of the refusals."""
    part = part_of(url, directory, rank, world, **more)
    part.add(f"shard-{rank}.bin", shard(rank))
    pipe.send("sent")
    pipe.recv()
    codes = []
    for attempt in (
        lambda: part.add("late.bin", b"late"),
        lambda: part.add(f"shard-{rank}.bin", shard(rank)),
        lambda: part.rename(f"shard-{rank}.bin", "x"),
        lambda: part.remove(f"shard-{rank}.bin"),
        part.ready,
        part.commit,
        part.abort,
        lambda: part.wait_committed(5),
    ):
        try:
            attempt()
            codes.append("done")
        except HoldfastError as error:
            codes.append(error.code)
    pipe.send(codes)


def send_slowly(url: str, directory: str, rank: int, world: int, pipe: Any, more: dict[str, Any]) -> None:
    """Send many files one after another, and say when some have arrived."""
    try:
        part = part_of(url, directory, rank, world, **more)
        for number in range(60):
            part.add(f"rank-{rank}/{number}.bin", bytes([number]) * 20_000)
            if number == 10:
                pipe.send("some")
        pipe.send(str(part.ready() or part.wait_committed(WAIT_S)))
    except Exception as error:
        pipe.send(repr(error))
        raise


def send_many(url: str, directory: str, rank: int, world: int, count: int, queue: Any) -> None:
    """Send many small files."""
    part = part_of(url, directory, rank, world, commit_when_ready=True)
    part.add_files({f"rank-{rank}/{number}.bin": b"%d" % number * 50 for number in range(count)})
    queue.put(str(part.ready() or part.wait_committed(WAIT_S)))
