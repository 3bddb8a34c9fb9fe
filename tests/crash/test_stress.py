"""Many clients save, prune and load at once: every byte is right, and the expected checkpoints are left."""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from holdfast import CheckpointManager
from holdfast.errors import CheckpointNotFound
from tests.crash.harness.rounds import rounds
from tests.crash.harness.traffic import (
    NOWHERE,
    POLICY,
    Downloader,
    Ledger,
    Made,
    Position,
    Traffic,
    Uploader,
    Worker,
    position,
)
from tests.crash.model.directory_model import Content, Model, Wanted
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer, eventually

SECONDS = rounds(60, 3600)
LIMITS = {name: POLICY[name] for name in ("max_checkpoints", "max_best_checkpoints")}


class Trainer(Worker):
    """Saves with the real client."""

    def once(self) -> None:
        manager = CheckpointManager(self.ledger.directory, 2, 2, server=self.traffic.url)
        seed = next(self.traffic.seeds)
        facts = Made(seed).facts
        manager.save(state_of(seed), epoch=seed, metric=float(facts["metric"]))
        (saved,) = self.saved(f"checkpoint_epoch_{seed:04d}.pt")
        self.ledger.add(seed, saved)
        self.done["saves of the client"] += 1

    def saved(self, name: str) -> list[dict[str, Any]]:
        """Also if it was pruned during the load."""
        query = {"directory": self.ledger.directory, "name": name, "include_removed": True}
        found: list[dict[str, Any]] = self.ask("GET", "/v1/checkpoints", 200, params=query).json()["checkpoints"]
        return found


class Evaluator(Worker):
    """Loads with the real client."""

    def once(self) -> None:
        if self.ledger.best[1] == NOWHERE:
            time.sleep(0.01)
            return
        manager = CheckpointManager(self.ledger.directory, server=self.traffic.url)
        newest, best = self.ledger.newest, self.ledger.best
        self._is_right(manager.load_latest(), newest, None)
        self._is_right(manager.load_best(), NOWHERE, best)
        name = Path(self.random.choice(manager.checkpoints)["path"]).name
        try:
            self._is_right(self._fetched(manager, name), NOWHERE, None)
        except CheckpointNotFound:
            query = {"directory": self.ledger.directory, "name": name}
            assert self.ask("GET", "/v1/checkpoints", 200, params=query).json()["checkpoints"] == []
            self.done["pruned before the client came"] += 1
        self.done["loads of the client"] += 1

    def _fetched(self, manager: CheckpointManager, name: str) -> Any:
        if self.random.random() < 0.5:
            return manager.load(name)
        with tempfile.TemporaryDirectory() as place:
            return torch.load(manager.download(name, place), weights_only=True)

    def _is_right(self, state: Any, newest: Position, best: tuple[float, Position] | None) -> None:
        assert torch.equal(state["x"], state_of(state["seed"])["x"])
        name = f"checkpoint_epoch_{state['seed']:04d}.pt"
        query = {"directory": self.ledger.directory, "name": name, "include_removed": True}
        (found,) = self.ask("GET", "/v1/checkpoints", 200, params=query).json()["checkpoints"]
        assert position(found) >= newest
        assert best is None or (found["metric"], position(found)) <= best


def state_of(seed: int) -> dict[str, Any]:
    """A job of the real client."""
    size = random.Random(seed).choice([1_000, 50_000, 400_000])
    return {"seed": seed, "x": torch.arange(size, dtype=torch.float32) * (seed % 97)}


def test_under_stress_every_byte_is_right_and_nothing_is_left_over(own_server):
    traffic = Traffic(own_server.url, SECONDS)
    shared, first, second, real = (Ledger(f"runs/{name}/checkpoints") for name in ("shared", "first", "second", "real"))
    uploaders = [Uploader(traffic, ledger, n) for n, ledger in enumerate([*[shared] * 4, *[first] * 2, *[second] * 2])]
    downloaders = [
        Downloader(traffic, ledger, n) for n, ledger in enumerate([*[shared] * 4, *[first] * 2, *[second] * 2])
    ]
    workers = [*uploaders, *downloaders]
    workers += [Trainer(traffic, real, n) for n in range(2)] + [Evaluator(traffic, real, n) for n in range(2)]
    with ThreadPoolExecutor(len(workers)) as pool:
        done = sum((future.result() for future in [pool.submit(worker.work) for worker in workers]), Counter())
    print(dict(done))
    assert min(done[what] for what in ("latest", "best", "listed", "ranges", "whole files", "uploads")) >= SECONDS / 6
    assert min(done[what] for what in ("single shots", "saves of the client", "loads of the client")) >= SECONDS / 6
    assert done["pruned meanwhile"] > 0
    own_server.wait_until_freed()
    for ledger in (shared, first, second):
        kept = what_should_be_kept(ledger)
        assert numbers_are_complete(own_server, ledger) == kept
        assert on_the_disk(own_server, ledger.directory) == {Made(seed).name for seed in kept}
        for seed in kept:
            files_are_right(own_server, ledger.directory, Made(seed))
    kept = what_should_be_kept(real, kind="regular")
    assert numbers_are_complete(own_server, real) == kept
    assert on_the_disk(own_server, real.directory) == {f"checkpoint_epoch_{seed:04d}.pt" for seed in kept}
    nothing_is_left_over(own_server)


def what_should_be_kept(ledger: Ledger, **chosen: str) -> set[int]:
    """By a model that saves in the same order."""
    model = Model()
    for sequence, seed, known in sorted(ledger.acknowledged):
        facts = Made(seed).facts | {"metric": float(Made(seed).facts["metric"])} | chosen
        wanted = Wanted(content=Content(()), mode="min", limits=LIMITS, known=known, **facts)
        model.sequence = sequence - 1  # it moves on where saves begin while others are under way
        model.commit(wanted, id=str(seed), name=Made(seed).name, save_id=str(seed))
        model.rows = {row.id: row for row in model.live()}
    return {int(row.id) for row in model.live()}


def numbers_are_complete(server: LiveServer, ledger: Ledger) -> set[int]:
    """Every commit has its own number and place; the numbers of the saves that are live."""
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"directory": ledger.directory, "page_size": 1000, "include_removed": True}
    while True:
        page = server.http.get("/v1/checkpoints", params=query).raise_for_status().json()
        found += page["checkpoints"]
        if page["next_page_token"] is None:
            break
        query["page_token"] = page["next_page_token"]
    found.sort(key=lambda checkpoint: checkpoint["sequence"])  # they come by position
    assert len({checkpoint["sequence"] for checkpoint in found}) == len(found)
    assert [(c["sequence"], c["epoch"], c["saved_after"]) for c in found] == sorted(ledger.acknowledged)
    return {checkpoint["epoch"] for checkpoint in found if checkpoint["removed_at"] is None}


def on_the_disk(server: LiveServer, directory: str) -> set[str]:
    """The names of the checkpoints whose files lie there, each with its manifest."""
    place = server.root / directory
    names = {path.name for path in place.iterdir()} - {".holdfast"}
    manifests = {path.name for path in (place / ".holdfast").iterdir()} - {"directory.json"}
    assert manifests == {f"{name}.json" for name in names}
    return names


def files_are_right(server: LiveServer, directory: str, made: Made) -> None:
    """All of them, and no others."""
    place = server.root / directory / (made.name if made.is_folder else "")
    for path in made.sizes:
        assert (place / path).read_bytes() == made.data(path)
    if made.is_folder:
        assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == set(made.sizes)


def nothing_is_left_over(server: LiveServer) -> None:
    """No upload, no trash, no removed file that is still open, and no word of trouble."""
    assert server.incoming() == []
    assert list((server.root / ".holdfast" / "trash").iterdir()) == []
    assert eventually(lambda: not removed_but_open(server)), removed_but_open(server)
    assert "Traceback" not in server.log()


def removed_but_open(server: LiveServer) -> list[str]:
    """List the files that the server holds open although they have no name any more."""
    found = []
    for descriptor in Path(f"/proc/{server.process_id}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if str(server.root) in target and target.endswith("(deleted)"):
            found.append(target)
    return found


WRITER = """
import sys
from holdfast import CheckpointManager
url, directory, writer, saves = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
manager = CheckpointManager(directory, None, None, server=url)
print("ready", flush=True)
sys.stdin.readline()
for n in range(saves):
    manager.save({"writer": writer, "n": n}, epoch=writer * 1000 + n, metric=float(n))
"""


def test_two_processes_that_write_one_directory_both_stand(own_server):
    saves = 20
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'client'}"}
    commands = [[sys.executable, "-c", WRITER, own_server.url, "runs/a", str(w), str(saves)] for w in range(2)]
    writers = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for command in commands
    ]
    results: list[str] = []
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
        results = [writer.communicate(timeout=DEADLINE_S)[1].decode() for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0], results
    assert any("another process" in said for said in results), results
    found = own_server.http.get("/v1/checkpoints", params={"directory": "runs/a", "page_size": 1000}).json()
    assert len({checkpoint["sequence"] for checkpoint in found["checkpoints"]}) == 2 * saves
    names = {f"checkpoint_epoch_{writer * 1000 + n:04d}.pt" for writer in range(2) for n in range(saves)}
    assert {checkpoint["name"] for checkpoint in found["checkpoints"]} == names
    assert on_the_disk(own_server, "runs/a") == names
    nothing_is_left_over(own_server)
