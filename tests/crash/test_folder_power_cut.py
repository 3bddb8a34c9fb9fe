"""The power cut while folders of many small files are saved, which the server syncs together with their file system.

What it acknowledged is there afterwards; where it was robbed of that one sync alone, it is not.
"""

import os
import random
import threading
from dataclasses import dataclass, field

import httpx
import pytest

from app.core import digests
from app.storage.local.disk.durability import MANY
from tests.crash.harness.disk import Disk, hindrance
from tests.crash.harness.rounds import rounds
from tests.support.live import LiveServer

ROUNDS, AT_MOST = rounds(4, 100), 5
HERE = "runs/folders"
FILES = MANY + 20

Contents = dict[str, bytes]


@pytest.fixture(autouse=True)
def power_can_be_cut():
    if reason := hindrance():
        pytest.skip(reason)


@dataclass
class Saves:
    """The acknowledged checkpoints by name, and the save under way when the power went."""

    acknowledged: dict[str, Contents] = field(default_factory=dict)
    under_way: tuple[str, Contents] = ("", {})
    count: int = 0


def contents(numbers: random.Random) -> Contents:
    return {f"sub-{number % 3}/{number}.bin": numbers.randbytes(64) for number in range(FILES)}


def save(server: LiveServer, name: str, files: Contents) -> None:
    """Save a folder; returns once it is acknowledged, and raises `httpx.HTTPError` otherwise."""
    promised = [
        {"path": path, "size_bytes": len(data), "chunks": [{"length": len(data), "digest": digests.of_chunk(data)}]}
        for path, data in files.items()
    ]
    answer = server.http.post("/v1/uploads", json={"directory": HERE, "name": name, "files": promised})
    upload = answer.raise_for_status().json()
    for batch in upload["batches"]:
        body = b"".join(files[part["file"]] for part in batch["parts"])
        server.http.put(batch["url"], content=body).raise_for_status()
    assert server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status().status_code == 201


def save_until_the_power_is_cut(server: LiveServer, disk: Disk, saves: Saves, numbers: random.Random) -> None:
    """Save one folder after another, some of them anew, until the disk fails."""
    cut = threading.Timer(numbers.uniform(0.1, 0.8), disk.cut)
    try:
        while True:
            name, files = f"folder-{numbers.randrange(4)}", contents(numbers)
            saves.under_way = name, files
            save(server, name, files)
            saves.acknowledged[name] = files
            saves.count += 1
            if cut.ident is None:  # there is something to lose
                cut.start()
    except httpx.HTTPError:
        cut.join()


def there(server: LiveServer, name: str) -> Contents:
    """The files of a folder as they lie on the disk."""
    top = server.root / HERE / name
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def lost(server: LiveServer, saves: Saves) -> set[str]:
    """The names of what was acknowledged and is not there; what was under way may have taken its place, whole."""
    listed = server.http.get("/v1/checkpoints", params={"directory": HERE}).json().get("checkpoints", [])
    names = {each["name"] for each in listed}
    gone = set()
    for name, files in list(saves.acknowledged.items()):
        found = there(server, name)
        if saves.under_way[0] == name and found == saves.under_way[1]:
            saves.acknowledged[name] = found
        elif name not in names or found != files:
            gone.add(name)
    return gone


def play(tmp_path, count, **robbed):
    """Return the losses of each of so many rounds on one disk, and the number of acknowledged checkpoints."""
    seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed} plays the same rounds again")
    numbers, saves = random.Random(seed), Saves()
    with Disk() as disk, LiveServer(disk.path, early=False, undo_window="0", **robbed) as server:
        for _ in range(count):
            before = saves.count
            save_until_the_power_is_cut(server, disk, saves, numbers)
            server.kill()
            disk.revive()
            server.start()
            yield lost(server, saves), saves.count - before


def test_an_acknowledged_folder_of_many_files_survives_any_power_cut(tmp_path):
    played = list(play(tmp_path, ROUNDS))
    assert [gone for gone, _ in played] == [set()] * ROUNDS
    assert all(count for _, count in played)


def test_a_server_that_is_robbed_of_its_sync_of_the_file_system_loses_such_a_folder(tmp_path):
    assert any(gone for gone, _ in play(tmp_path, AT_MOST, many_synced=False)), "nothing was lost"
