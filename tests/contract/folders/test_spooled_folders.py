"""Folders that wait on this machine while the server is unreachable: delivered in order, each once, or named."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError, InvalidRequest, OutOfSpace
from holdfast._spool import item as items
from holdfast._spool.spool import Spool
from holdfast._torchfile.writer.layout import layout_of
from holdfast._transfer.folders.local_files import LocalFiles
from tests.contract.folders.helpers import contents, data_of, grow, names, on_disk
from tests.data.pieces import save_of
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import PROJECT, eventually

AWAY = "Until that is over, checkpoints are kept"


def waiting(spool: Path) -> list[items.SpooledCheckpoint]:
    return [item for queue in Spool(spool).queues() for item in queue.items()]


def is_delivered(spool: Path) -> bool:
    return not waiting(spool)


def sync(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast.cli", "sync", *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S)


@pytest.fixture
def spooled(own_server, make_folder):
    """Saves while the server is away: a folder, a state, and another folder; the folders are deleted then."""

    def save():
        manager = CheckpointManager("runs", None, server=own_server.url, patience_s=0)
        manager.save({"epoch": 0}, epoch=0)
        own_server.kill()
        folders = {step: make_folder(step) for step in (1, 3)}
        with pytest.warns(HoldfastWarning, match=AWAY):
            manager.save_folder(folders[1], epoch=1)
        manager.save({"epoch": 2}, epoch=2)
        manager.save_folder(folders[3], epoch=3)
        before = {step: contents(folder) for step, folder in folders.items()}
        for folder in folders.values():
            shutil.rmtree(folder)
        assert [path.name for path in manager.pending] == ALL[1:]
        return manager, before

    return save


ALL = ["checkpoint_epoch_0000.pt", "checkpoint-1", "checkpoint_epoch_0002.pt", "checkpoint-3"]


def check_delivered(own_server, before, where):
    assert names(own_server, "runs") == ALL
    manager = CheckpointManager("runs", server=own_server.url)
    for step, expected in before.items():
        manager.load_folder(f"checkpoint-{step}", to=where)
        assert contents(where / f"checkpoint-{step}") == expected
    assert manager.load("checkpoint_epoch_0002.pt") == {"epoch": 2}


def test_the_courier_delivers_in_order_with_states(own_server, spooled, spool, where):
    manager, before = spooled()
    own_server.start()
    assert eventually(lambda: is_delivered(spool))
    assert manager.pending == []
    check_delivered(own_server, before, where)


def test_the_next_process_delivers(own_server, spooled, spool, where, jobs):
    _, before = spooled()
    own_server.start()
    script = "from holdfast import CheckpointManager\nwith CheckpointManager('runs') as manager: manager.load_latest"
    job = jobs.start(f"{script}\nmanager._saver.target.begin()\nmanager.close(50)", HOLDFAST_URL=own_server.url)
    assert job.wait() == 0
    assert eventually(lambda: is_delivered(spool))
    check_delivered(own_server, before, where)


def test_sync_lists_and_delivers(own_server, spooled, spool, where, monkeypatch):
    _, before = spooled()
    monkeypatch.setenv("HOLDFAST_URL", own_server.url)
    listed = json.loads(sync("--list", "--json").stdout)
    (queue,) = listed["queues"]
    assert [(each["name"], each["size_bytes"] > 300_000) for each in queue["waiting"]] == [
        ("checkpoint-1", True), ("checkpoint_epoch_0002.pt", False), ("checkpoint-3", True)
    ]  # fmt: skip
    with Spool(spool).queue(own_server.url, "runs").claimed(wait_s=DEADLINE_S):  # no courier of this process
        own_server.start()
    assert eventually(lambda: sync().returncode == 0), "a courier may be faster, and be at it"
    assert eventually(lambda: is_delivered(spool))
    check_delivered(own_server, before, where)


def test_a_folder_that_waits_can_be_loaded_and_is_durable_against_later_writes(own_server, make_folder, spool, where):
    manager = CheckpointManager("runs", server=own_server.url, patience_s=0)
    own_server.kill()
    folder = make_folder()
    before = contents(folder)
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save_folder(folder)
    grow(folder / "model.safetensors")
    (folder / "sub" / "deep" / "state.json").write_text("another")
    assert manager.load_folder("checkpoint-500", to=where) == where / "checkpoint-500"
    assert contents(where / "checkpoint-500") == before
    with pytest.raises(InvalidRequest, match=r"use load_folder\(\) or download\(\)"):
        manager.load("checkpoint-500")
    own_server.start()
    assert eventually(lambda: is_delivered(spool))
    shutil.rmtree(where)
    manager.load_folder("checkpoint-500", to=where)
    assert contents(where / "checkpoint-500") == before


def test_what_is_held_moves_into_the_spool_without_a_copy_once_the_folder_is_deleted(
    own_server, make_folder, spool, monkeypatch
):
    reached, opened = threading.Event(), threading.Event()

    def gate(up, piece):
        if up and b"POST /v1/uploads" in piece and not reached.is_set():
            reached.set()
            opened.wait(DEADLINE_S)
            return True
        return False

    folder = make_folder()
    inode = (folder / "model.safetensors").stat().st_ino
    with Forwarder(own_server.url, watch=gate) as forwarder:
        manager = CheckpointManager("runs", server=forwarder.url, patience_s=0)
        manager.save_folder(folder, wait=False)
        assert reached.wait(DEADLINE_S)
        shutil.rmtree(folder)
        own_server.kill()
        opened.set()
        assert manager.wait(DEADLINE_S)
        (item,) = waiting(spool)
        assert (item.folder / "files" / "model.safetensors").stat().st_ino == inode
        assert list(spool.rglob(".new-*")) == []
        own_server.start()
        assert eventually(lambda: is_delivered(spool))
    assert names(own_server, "runs") == ["checkpoint-500"]


def test_a_folder_that_changes_while_it_is_copied_does_not_wait(own_server, make_folder, spool, monkeypatch):
    manager = CheckpointManager("runs", server=own_server.url, patience_s=0)
    own_server.kill()
    folder = make_folder()
    real = LocalFiles.refuse_changed

    def late(self):
        grow(folder / "model.safetensors")
        real(self)

    monkeypatch.setattr(LocalFiles, "refuse_changed", late)
    with pytest.raises(IntegrityError, match=r"model\.safetensors was changed"):
        manager.save_folder(folder)
    assert list(spool.rglob("*.safetensors")) == []
    assert waiting(spool) == []


def test_a_full_disk_is_named_and_leaves_nothing(own_server, make_folder, spool, monkeypatch):
    manager = CheckpointManager("runs", server=own_server.url, patience_s=0)
    own_server.kill()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(items, "write_facts", full)
    with pytest.raises(OutOfSpace, match="could not be kept on this machine"):
        manager.save_folder(make_folder())
    assert waiting(spool) == []
    assert list(spool.rglob("*.safetensors")) == []


def test_a_spool_that_is_too_small_drops_the_oldest_folder(own_server, make_folder, spool):
    manager = CheckpointManager("runs", 5, 0, server=own_server.url, patience_s=0, spool_max_bytes=1_000_000)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save_folder(make_folder(1))
    for step in (2, 3, 4):
        manager.save_folder(make_folder(step))
    assert [item.name for item in waiting(spool)] == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
    assert [item.size_bytes for item in waiting(spool)] == [300_015] * 3
    with pytest.raises(OutOfSpace):
        manager.save_folder(make_folder(5, size_bytes=1_100_000))


DAMAGE = {
    "other bytes": lambda folder: (folder / "files" / "sub" / "deep" / "state.json").write_text('{"step": 501}'),
    "a longer file": lambda folder: grow(folder / "files" / "model.safetensors"),
    "a missing file": lambda folder: (folder / "files" / "sub" / "empty").unlink(),
    "facts": lambda folder: (folder / "item.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_folder_is_parked_and_the_next_is_delivered(server, directory, make_folder, spool, damage):
    queue = Spool(spool).queue(server.url, directory)
    for step in (500, 501):
        files = LocalFiles(make_folder(step), "checkpoint")
        save = {**save_of(step), "name": f"checkpoint-{step}", "directory": directory, **files.about_folders}
        queue.put(save, files)
    damage(queue.items()[0].folder)
    done = sync()
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert names(server, directory) == ["checkpoint-501"]
    (parked,) = queue.parked()
    assert parked.order == 1


def test_only_folders_have_a_version_that_older_clients_do_not_read(server, directory, make_folder, spool):
    queue = Spool(spool).queue(server.url, directory)
    queue.put({**save_of(1), "directory": directory}, layout_of({"epoch": 1}))
    files = LocalFiles(make_folder(), "checkpoint")
    queue.put({**save_of(2), "name": "checkpoint-500", "directory": directory}, files)
    versions = [json.loads((item.folder / "item.json").read_text())["version"] for item in queue.items()]
    assert versions == [1, 2]
    assert sync().returncode == 0
    assert names(server, directory) == ["checkpoint_epoch_0001.pt", "checkpoint-500"]


def test_a_folder_of_more_files_than_may_be_open_is_spooled_and_delivered(server, directory, tmp_path, spool):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1200):
        (folder / f"{number}.bin").write_bytes(os.urandom(100))
    queue = Spool(spool).queue(server.url, directory)
    files = LocalFiles(folder, "many")
    queue.put({**save_of(1), "name": "many", "directory": directory, **files.about_folders}, files)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); from holdfast.cli import main"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; from holdfast.cli import main; sys.exit(main(['sync']))"],
        cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert on_disk(server, directory, "many") == data_of(folder)
