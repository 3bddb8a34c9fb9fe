"""save_file: a local file becomes a checkpoint of one file, with the policy and the spool of a folder."""

import json
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from holdfast import (
    CheckpointExists,
    CheckpointManager,
    CheckpointNotFound,
    HoldfastWarning,
    IntegrityError,
    InvalidRequest,
    UnreadableCheckpoint,
)
from holdfast._spool.spool import Spool
from tests.contract.folders.helpers import grow, hidden, names
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import eventually

AWAY = "Until that is over, checkpoints are kept"


@pytest.fixture
def make_file(tmp_path):
    """Makes files of other content for each name."""

    def make(name: str = "model.keras", size_bytes: int = 300_000) -> Path:
        path = tmp_path / "out" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() + os.urandom(size_bytes))
        return path

    return make


class Gate:
    """Holds up what a client sends, once it reserves an upload, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, up: bool, piece: bytes) -> None:
        if up and b"POST /v1/uploads" in piece:
            self.reached.set()
            self.opened.wait(DEADLINE_S)


def items(spool: Path) -> list:
    return [item for queue in Spool(spool).queues() for item in queue.items()]


def test_a_file_comes_back_as_it_was(manager, server, directory, make_file, where):
    file = make_file()
    file.chmod(0o640)
    os.utime(file, ns=(1, 1_600_000_000_000_000_001))
    path = manager.save_file(file, epoch=3, step=9, loss=0.25, tags="t", note="n")
    assert path == Path(directory) / "model.keras"
    assert (server.root / directory / "model.keras").read_bytes() == file.read_bytes()
    (facts,) = manager.checkpoints
    assert (facts["epoch"], facts["step"], facts["metric"], facts["tags"], facts["note"]) == (3, 9, 0.25, ["t"], "n")
    got = manager.download(path, to=f"{where}/")
    assert got == where / "model.keras"
    assert got.read_bytes() == file.read_bytes()
    assert (got.stat().st_mode & 0o777, got.stat().st_mtime_ns) == (0o640, 1_600_000_000_000_000_001)


def test_torch_and_safetensors_files_can_be_loaded_and_have_their_tensors(manager, server, tmp_path):
    state = {"weight": torch.arange(6.0).reshape(2, 3)}
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        manager.save_file(tmp_path / name, epoch=1)
        assert torch.equal(manager.load(name)["weight"], state["weight"])
        (found,) = manager.find(name=name)
        tensors = server.http.get(f"/v1/checkpoints/{found['id']}/tensors").json()["files"][0]["tensors"]
        assert [(each["name"], each["shape"]) for each in tensors] == [("weight", [2, 3])]
    assert torch.equal(manager.resume()["weight"], state["weight"])


def test_files_are_pruned_and_ranked_by_the_policy(server, directory, make_file):
    manager = CheckpointManager(directory, 2, 1, server=server.url)
    for epoch, loss in ((1, 0.1), (2, 0.5), (3, 0.4), (4, 0.3)):
        manager.save_file(make_file(), epoch=epoch, loss=loss, name=f"{epoch}.keras")
    assert names(server, directory) == ["1.keras", "3.keras", "4.keras"]
    manager.save_file(make_file(), name="kept.keras", retention="manual", pinned=True)
    with pytest.raises(CheckpointExists, match="pinned"):
        manager.save_file(make_file(), name="kept.keras")
    with pytest.warns(HoldfastWarning, match="did you mean metric="):
        manager.save_file(make_file(), metrik=0.5)


def test_what_did_not_change_is_not_sent_again(server, directory, make_file):
    file, sent = make_file(size_bytes=3_000_000), []
    with Forwarder(server.url, watch=lambda up, piece: sent.append(len(piece)) if up else None) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_file(file, step=1, name="first.keras")
        assert sum(sent) > 3_000_000
        sent.clear()
        manager.save_file(file, step=2, name="second.keras")
        assert sum(sent) < 100_000


@pytest.mark.parametrize("wait", [True, False])
def test_what_is_no_file_is_refused_before_a_byte_is_sent(manager, server, directory, make_file, tmp_path, wait):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for path in ("missing", "dangling"):
        with pytest.raises(FileNotFoundError, match=f"there is no file .*{path}"):
            manager.save_file(tmp_path / path, wait=wait)
    with pytest.raises(IsADirectoryError, match=r"is a folder: save_folder\(\) takes it"):
        manager.save_file(tmp_path, wait=wait)
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        manager.save_file(tmp_path / "pipe", wait=wait)
    with pytest.raises(ValueError, match="is empty"):
        manager.save_file(tmp_path / "empty", wait=wait)
    with pytest.raises(InvalidRequest, match="URL"):
        manager.save_file("s3://bucket/model.keras", wait=wait)
    with pytest.raises(ValueError, match="must not be empty"):
        manager.save_file("", wait=wait)
    for name in ("a|b.keras", "a/b.keras"):
        with pytest.raises(ValueError, match="cannot be"):
            manager.save_file(make_file(), name=name, wait=wait)
    with pytest.raises(ValueError, match="cannot be"):
        manager.save_file(make_file("a|b.keras"), wait=wait)
    with pytest.raises(NotADirectoryError, match=r"save_file\(\) takes a file"):
        manager.save_folder(make_file(), wait=wait)
    assert names(server, directory) == []


def test_another_rank_does_nothing(server, directory, tmp_path):
    manager = CheckpointManager(directory, server=server.url, rank=1)
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        assert manager.save_file(tmp_path / "missing.keras").name == "missing.keras"
    assert names(server, directory) == []


@pytest.mark.parametrize("spooled", [True, False])
def test_the_file_may_be_deleted_or_replaced_at_once(server, directory, make_file, spool, tmp_path, spooled):
    gate = Gate()
    with Forwarder(server.url, watch=gate) as forwarder:
        policy = "spool" if spooled else "raise"
        manager = CheckpointManager(directory, server=forwarder.url, background=True, on_unreachable=policy)
        before = {}
        for name in ("1.keras", "2.keras"):
            file = make_file(name)
            if name == "2.keras":
                (tmp_path / "link").symlink_to(file)
            before[name] = file.read_bytes()
            manager.save_file(tmp_path / "link" if name == "2.keras" else file, name=name)
            held = [each for place in (spool, tmp_path) for each in place.rglob(".new-held-*/*")]
            assert file.stat().st_ino in {each.stat().st_ino for each in held}, "it is a link, no copy"
        file.with_name("new").write_bytes(b"new")
        file.with_name("new").replace(file)
        file.with_name("1.keras").unlink()
        assert gate.reached.wait(DEADLINE_S)
        assert [path.name for path in manager.pending] == ["1.keras", "2.keras"]
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
    assert names(server, directory) == ["1.keras", "2.keras"]
    for name, data in before.items():
        assert (server.root / directory / name).read_bytes() == data
    assert hidden(tmp_path) == hidden(tmp_path / "out") == list(spool.rglob(".new-*")) == []


CHANGES = {
    "grown": (grow, r"out/model\.keras was changed", True),
    "grown while it is held": (grow, r"out/model\.keras was changed", False),
    "removed": (Path.unlink, r"out/model\.keras can no longer be read", True),
}


@pytest.mark.parametrize(("change", "why", "wait"), CHANGES.values(), ids=list(CHANGES))
def test_a_file_that_changes_while_it_is_sent_is_no_checkpoint(server, directory, make_file, change, why, wait):
    file, changed = make_file(), threading.Event()

    def save(manager):
        manager.save_file(file, wait=wait)
        manager.wait(DEADLINE_S)

    def amid(up, piece):
        if up and b"POST /v1/uploads" in piece and not changed.is_set():
            changed.set()
            change(file)

    with Forwarder(server.url, watch=amid) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        with pytest.raises(IntegrityError, match=why):
            save(manager)
    assert changed.is_set()
    assert names(server, directory) == []


def test_files_wait_in_the_spool_and_are_delivered_in_order(own_server, make_file, spool, where):
    manager = CheckpointManager("runs", None, server=own_server.url, patience_s=0)
    own_server.kill()
    file = make_file()
    file.chmod(0o600)
    before = file.read_bytes()
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save_file(file, epoch=1, loss=0.5)
    manager.save({"epoch": 2}, epoch=2)
    torch.save({"epoch": 3}, file.with_name("3.pt"))
    manager.save_file(file.with_name("3.pt"), epoch=3)
    grow(file)
    expected = ["model.keras", "checkpoint_epoch_0002.pt", "3.pt"]
    assert [path.name for path in manager.pending] == expected
    versions = [json.loads((item.folder / "item.json").read_text())["version"] for item in items(spool)]
    assert versions == [1, 1, 1], "every client delivers them"
    assert manager.download("model.keras", to=f"{where}/").read_bytes() == before
    assert manager.download("model.keras", to=where / "other").read_bytes() == before
    assert manager.load("3.pt") == manager.resume() == {"epoch": 3}
    with pytest.raises(UnreadableCheckpoint):
        manager.load("model.keras")
    with pytest.raises(InvalidRequest, match="is a single file and no folder"):
        manager.load_folder("model.keras", to=where)
    own_server.start()
    assert eventually(lambda: not items(spool))
    assert names(own_server, "runs") == expected
    got = manager.download("model.keras", to=where / "third")
    assert (got.read_bytes(), got.stat().st_mode & 0o777) == (before, 0o600)
    with pytest.raises(CheckpointNotFound):
        manager.download("4.pt", to=where)


def test_what_is_held_moves_into_the_spool_without_a_copy(own_server, make_file, spool):
    gate, file = Gate(), make_file()
    inode, before = file.stat().st_ino, file.read_bytes()
    with Forwarder(own_server.url, watch=gate) as forwarder:
        manager = CheckpointManager("runs", server=forwarder.url, patience_s=0)
        manager.save_file(file, wait=False)
        assert gate.reached.wait(DEADLINE_S)
        file.unlink()
        own_server.kill()
        gate.opened.set()
        assert manager.wait(DEADLINE_S)
        (item,) = items(spool)
        assert (item.folder / "state.pt").stat().st_ino == inode
        own_server.start()
        assert eventually(lambda: not items(spool))
    assert (own_server.root / "runs" / "model.keras").read_bytes() == before


def test_a_damaged_file_of_the_spool_is_not_put_anywhere(own_server, make_file, spool, where):
    manager = CheckpointManager("runs", server=own_server.url, patience_s=0)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save_file(make_file())
    (item,) = items(spool)
    with (item.folder / "state.pt").open("r+b") as opened:
        opened.write(b"other")
    with pytest.raises(IntegrityError, match="are not those saved"):
        manager.download("model.keras", to=f"{where}/")
    assert list(where.glob("*")) == []
