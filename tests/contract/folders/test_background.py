"""Background saves of folders: the job may delete its folder at once, and a killed process leaves nothing half."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from holdfast import CheckpointManager, IntegrityError
from holdfast._spool.spool import Spool
from tests.contract.folders.helpers import contents, data_of, grow, hidden, inodes, names, on_disk
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import eventually

PRELUDE = """\
import os, signal, sys, time
from pathlib import Path
from holdfast import CheckpointManager

def folder(step, size_bytes=2_000_000):
    made = Path(os.environ["OUT"]) / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "model.bin").write_bytes(os.urandom(size_bytes))
    (made / "step").write_text(str(step))
    return made
"""


class Gate:
    """Holds up what a client sends, once a request of a kind has come, until it is opened."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, up: bool, piece: bytes) -> None:
        if up and self._request in piece:
            self.reached.set()
            self.opened.wait(DEADLINE_S)


def held_in(place: Path) -> list[Path]:
    return list(place.rglob(".new-held-*"))


def test_the_folder_may_be_deleted_at_once(server, directory, make_folder, where, spool, tmp_path):
    gate = Gate(b"POST /v1/uploads")
    (tmp_path / "shared").write_text("shared")
    with Forwarder(server.url, watch=gate) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url, background=True)
        before = {}
        for step in (1, 2):
            folder = make_folder(step)
            (folder / "linked").symlink_to(tmp_path / "shared")
            (folder / "sub" / "deep" / "state.json").chmod(0o711)
            before[step] = contents(folder)
            manager.save_folder(folder, step=step)
            held = held_in(spool)
            assert len(held) == step
            assert any(inodes(folder) - inodes(each) == set() for each in held), "they are links, not copies"
            shutil.rmtree(folder)
        (tmp_path / "shared").unlink()
        assert gate.reached.wait(DEADLINE_S)
        assert [path.name for path in manager.pending] == ["checkpoint-1", "checkpoint-2"]
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
        assert held_in(spool) == []
        assert names(server, directory) == ["checkpoint-1", "checkpoint-2"]
        for step in (1, 2):
            manager.load_folder(f"checkpoint-{step}", to=where)
            assert contents(where / f"checkpoint-{step}") == before[step]


def test_without_a_spool_the_files_are_held_beside_the_folder(server, directory, make_folder):
    gate = Gate(b"POST /v1/uploads")
    folder = make_folder()
    before = data_of(folder)
    with Forwarder(server.url, watch=gate) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url, on_unreachable="raise")
        manager.save_folder(folder, wait=False)
        (held,) = held_in(folder.parent)
        assert inodes(held) == inodes(folder)
        shutil.rmtree(folder)
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
    assert hidden(folder.parent) == []
    assert on_disk(server, directory, "checkpoint-500") == before


def test_where_links_are_impossible_the_files_are_copied(server, directory, make_folder, monkeypatch, spool):
    def refuse(*_, **__):
        raise PermissionError(1, "no links here")

    gate = Gate(b"POST /v1/uploads")
    folder = make_folder()
    before = data_of(folder)
    monkeypatch.setattr(os, "link", refuse)
    with Forwarder(server.url, watch=gate) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_folder(folder, wait=False)
        (held,) = held_in(spool)
        assert inodes(held).isdisjoint(inodes(folder))
        grow(folder / "model.safetensors")
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
    assert on_disk(server, directory, "checkpoint-500") == before


def test_a_folder_that_nothing_can_hold_is_saved_before_the_call_returns(server, directory, make_folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "neither links nor copies")

    for module, name in ((os, "link"), (shutil, "copyfile")):
        monkeypatch.setattr(module, name, refuse)
    manager = CheckpointManager(directory, server=server.url)
    manager.save_folder(make_folder(), wait=False)
    assert names(server, directory) == ["checkpoint-500"]


def test_a_file_that_is_written_into_before_it_was_sent_fails_the_save(server, directory, make_folder):
    gate = Gate(b"POST /v1/uploads")
    folder = make_folder()
    with Forwarder(server.url, watch=gate) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_folder(folder, wait=False)
        assert gate.reached.wait(DEADLINE_S)
        grow(folder / "model.safetensors")
        gate.opened.set()
        with pytest.raises(IntegrityError, match=r"out/checkpoint-500/model\.safetensors was changed"):
            manager.wait(DEADLINE_S)
    assert names(server, directory) == []


def test_files_that_are_replaced_by_new_ones_do_not_matter(server, directory, make_folder):
    gate = Gate(b"POST /v1/uploads")
    folder = make_folder()
    before = data_of(folder)
    with Forwarder(server.url, watch=gate) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_folder(folder, wait=False)
        (folder / "new").write_text("new")
        (folder / "new").replace(folder / "model.safetensors")
        (folder / "later").touch()
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
    assert on_disk(server, directory, "checkpoint-500") == before


def test_states_and_folders_keep_their_order(server, directory, make_folder):
    manager = CheckpointManager(directory, None, server=server.url, background=True)
    expected = []
    for number in range(1, 7):
        if number % 2:
            expected.append(manager.save({"n": number}, epoch=number).name)
        else:
            expected.append(manager.save_folder(make_folder(number), epoch=number).name)
    assert manager.wait(DEADLINE_S)
    assert names(server, directory) == expected


@pytest.mark.parametrize("spooled", [True, False])
def test_a_process_that_is_killed_amid_a_background_save_leaves_nothing_half(
    server, directory, make_folder, jobs, spool, tmp_path, spooled
):
    gate = Gate(b"PUT /v1/uploads")
    out = tmp_path / "out"
    with Forwarder(server.url, watch=gate) as forwarder:
        job = jobs.start(
            PRELUDE
            + f"""
manager = CheckpointManager({directory!r}, on_unreachable={"spool" if spooled else "raise"!r})
manager.save_folder(folder(1), step=1, wait=False)
print("held")
time.sleep(60)
""",
            HOLDFAST_URL=forwarder.url,
            OUT=str(out),
        )
        job.wait_for("held")
        assert gate.reached.wait(DEADLINE_S)
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        gate.opened.set()
        assert len(held_in(spool if spooled else out)) == 1, "the killed process had held it"
        manager = CheckpointManager(directory, server=forwarder.url, on_unreachable="spool" if spooled else "raise")
        manager.save_folder(make_folder(2), wait=False)
        assert manager.wait(DEADLINE_S)
    assert held_in(spool) == held_in(out) == []
    assert names(server, directory) == ["checkpoint-2"]
    assert (out / "checkpoint-1" / "step").read_text() == "1"


def test_sync_removes_what_a_killed_process_held_and_nothing_that_a_living_one_holds(
    server, directory, make_folder, jobs, spool, tmp_path, holdfast
):
    gate = Gate(b"PUT /v1/uploads")
    with Forwarder(server.url, watch=gate) as forwarder:
        script = "manager = CheckpointManager('other')\nmanager.save_folder(folder(1), wait=False)\nprint('held')\n"
        environment = {"HOLDFAST_URL": forwarder.url, "OUT": str(tmp_path / "out")}
        job = jobs.start(f"{PRELUDE}{script}time.sleep(60)", **environment)
        job.wait_for("held")
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_folder(make_folder(2), wait=False)
        assert holdfast("sync").status == 0
        assert len(held_in(spool)) == 2
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert holdfast("sync").status == 0
        assert len(held_in(spool)) == 1
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
    assert held_in(spool) == []


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("deleted", [True, False])
def test_sigterm_brings_a_folder_under_way_to_safety(server, directory, jobs, spool, tmp_path, wait, deleted, where):
    gate = Gate(b"PUT /v1/uploads")
    with Forwarder(server.url, watch=gate) as forwarder:
        job = jobs.start(
            PRELUDE
            + f"""
import shutil
manager = CheckpointManager({directory!r}, drain_s=3)
made = folder(1)
shutil.copytree(made, made.with_name("copy"))
manager.save_folder(made, step=1, wait={wait})
if {deleted}:
    shutil.rmtree(made)
print("held")
time.sleep(60)
""",
            HOLDFAST_URL=forwarder.url,
            OUT=str(tmp_path / "out"),
        )
        assert gate.reached.wait(DEADLINE_S)
        if not wait:
            job.wait_for("held")
        job.send_signal(signal.SIGTERM)
        assert job.wait() == -signal.SIGTERM
        gate.opened.set()
        (queue,) = Spool(spool).queues()
        (item,) = queue.items()
        assert item.size_bytes == 2_000_001
        save, files = queue.open(item)
        with files:
            assert not files.has_changed()
        assert save["name"] == "checkpoint-1"
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.load_folder("checkpoint-1", to=where)
        assert data_of(where / "checkpoint-1") == data_of(tmp_path / "out" / "copy")
        assert eventually(lambda: names(server, directory) == ["checkpoint-1"])
        manager.close()
    assert held_in(spool) == []
    assert on_disk(server, directory, "checkpoint-1") == data_of(tmp_path / "out" / "copy")
