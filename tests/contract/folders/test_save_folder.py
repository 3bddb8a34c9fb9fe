"""save_folder and load_folder: one checkpoint of several files, whole or not at all."""

import os
import socket
import threading
from pathlib import Path

import pytest

from holdfast import (
    CheckpointExists,
    CheckpointManager,
    CheckpointNotFound,
    HoldfastWarning,
    IntegrityError,
    InvalidRequest,
    ModeConflict,
)
from tests.contract.folders.helpers import contents, data_of, grow, hidden, names, on_disk
from tests.support.forwarder import Forwarder


def test_a_folder_comes_back_as_it_was(manager, server, directory, make_folder, where):
    folder = make_folder()
    (folder / "nothing here").mkdir()
    (folder / "with (parens), über 1~a.txt").write_text("x")
    (folder / ".hidden").write_text("y")
    (folder / "run.sh").write_text("#!")
    (folder / "run.sh").chmod(0o755)
    (folder / "sub").chmod(0o750)
    for number, path in enumerate([*folder.rglob("*"), folder]):
        os.utime(path, ns=(1, 1_600_000_000_000_000_000 + number))
    before = contents(folder)
    path = manager.save_folder(folder, step=500, loss=0.25, tags="t", note="n")
    assert path == Path(directory) / "checkpoint-500"
    assert on_disk(server, directory, "checkpoint-500") == data_of(folder)
    (facts,) = manager.checkpoints
    assert (facts["step"], facts["metric"], facts["tags"], facts["note"]) == (500, 0.25, ["t"], "n")
    for wanted in (path, "checkpoint-500", None):
        assert manager.load_folder(wanted, to=where) == where / "checkpoint-500"
        assert contents(where / "checkpoint-500") == before
    assert hidden(where) == []


def test_folders_are_pruned_and_ranked_by_the_policy(server, directory, make_folder, where):
    manager = CheckpointManager(directory, 2, 1, server=server.url)
    for step, loss in ((1, 0.1), (2, 0.5), (3, 0.4), (4, 0.3)):
        manager.save_folder(make_folder(step), step=step, loss=loss)
    assert names(server, directory) == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert manager.load_folder(to=where).name == "checkpoint-4"
    assert manager.load_folder(which="best", to=where).name == "checkpoint-1"


def test_names_and_retention(manager, server, directory, make_folder, monkeypatch):
    folder = make_folder()
    manager.save_folder(folder, name="named", retention="manual", pinned=True)
    monkeypatch.chdir(folder / "sub")
    assert manager.save_folder(".").name == "sub"
    assert manager.save_folder(f"{folder}/").name == "checkpoint-500"
    found = server.http.get("/v1/checkpoints", params={"directory": directory, "name": "named"}).json()
    assert [(each["retention"], each["pinned"]) for each in found["checkpoints"]] == [("manual", True)]


def test_what_did_not_change_is_not_sent_again(server, directory, make_folder):
    folder = make_folder(size_bytes=3_000_000)
    sent = []
    with Forwarder(server.url, watch=lambda up, piece: sent.append(len(piece)) if up else None) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_folder(folder, step=1, name="first")
        assert sum(sent) > 3_000_000
        sent.clear()
        (folder / "new").write_bytes(b"new")
        manager.save_folder(folder, step=2, name="second")
        assert sum(sent) < 100_000
    assert on_disk(server, directory, "second") == data_of(folder)


def test_links_count_as_what_they_lead_to(manager, server, directory, make_folder, tmp_path):
    folder = make_folder()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "vocab").write_text("v")
    (folder / "tokenizer").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to("model.safetensors")
    manager.save_folder(folder)
    found = on_disk(server, directory, "checkpoint-500")
    assert found["tokenizer/vocab"] == b"v"
    assert found["again"] == found["model.safetensors"]


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


BAD = {
    "a pipe": (os.mkfifo, "neither a file nor a folder"),
    "a socket": (_socket, "neither a file nor a folder"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
    "a link to itself": (lambda path: path.symlink_to(".."), "a link to a folder that it is in"),
    "a name beyond the grammar": (lambda path: path.with_name("a|b").touch(), "cannot be a file of a checkpoint"),
    "a reserved name": (lambda path: path.with_name(".holdfast").mkdir(), "cannot be a file|reserves"),
}


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(("make", "why"), BAD.values(), ids=list(BAD))
def test_what_cannot_be_a_checkpoint_is_named_before_a_byte_is_sent(
    manager, server, directory, make_folder, make, why, wait
):
    folder = make_folder()
    make(folder / "sub" / "odd")
    if "reserved" in why or (folder / "sub" / ".holdfast").is_dir():
        (folder / "sub" / ".holdfast" / "file").touch()
    with pytest.raises(ValueError, match=why):
        manager.save_folder(folder, wait=wait)
    assert names(server, directory) == []


@pytest.mark.parametrize("wait", [True, False])
def test_what_is_no_folder_is_refused(manager, server, directory, tmp_path, wait):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        manager.save_folder(tmp_path / "missing", wait=wait)
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        manager.save_folder(tmp_path / "file", wait=wait)
    with pytest.raises(ValueError, match="holds no file"):
        manager.save_folder(tmp_path / "empty", wait=wait)
    with pytest.raises(InvalidRequest, match="URL"):
        manager.save_folder("s3://bucket/checkpoint-1", wait=wait)
    assert names(server, directory) == []


def test_a_refusal_of_the_server_is_raised_at_once(manager, server, directory, make_folder):
    manager.save_folder(make_folder(1), loss=0.1, pinned=True)
    with pytest.raises(CheckpointExists, match="pinned"):
        manager.save_folder(make_folder(2), name="checkpoint-1")
    with pytest.raises(ModeConflict):
        CheckpointManager(directory, mode="max", server=server.url).save_folder(make_folder(3))
    assert manager.pending == []


def test_a_misspelt_keyword_is_warned_of(manager, make_folder):
    with pytest.warns(HoldfastWarning, match="did you mean metric="):
        manager.save_folder(make_folder(), metrik=0.5)


def test_another_rank_does_nothing(server, directory, make_folder, tmp_path):
    manager = CheckpointManager(directory, server=server.url, rank=1)
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        path = manager.save_folder(make_folder())
    assert path == Path(directory) / "checkpoint-500"
    manager.save_folder(tmp_path / "missing", wait=False)
    assert names(server, directory) == []


CHANGES = {
    "grown": (lambda folder: grow(folder / "model.safetensors"), "model.safetensors was changed"),
    "other bytes of the same size": (
        lambda folder: (folder / "sub" / "deep" / "state.json").write_text('{"step": 999}'),
        "state.json was changed",
    ),
    "gone": (lambda folder: (folder / "sub" / "empty").unlink(), "empty was removed"),
    "replaced": (
        lambda folder: (
            (folder / "other").write_bytes((folder / "model.safetensors").read_bytes()),
            (folder / "other").replace(folder / "model.safetensors"),
        ),
        "model.safetensors was changed",
    ),
    "more": (lambda folder: (folder / "late").touch(), "late appeared"),
}


@pytest.mark.parametrize(("change", "why"), CHANGES.values(), ids=list(CHANGES))
def test_a_folder_that_changes_while_it_is_sent_is_no_checkpoint(server, directory, make_folder, change, why):
    folder = make_folder()
    changed = threading.Event()

    def amid(up, piece):
        if up and b"POST /v1/uploads" in piece and not changed.is_set():
            changed.set()
            change(folder)

    with Forwarder(server.url, watch=amid) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        with pytest.raises(IntegrityError, match=why):
            manager.save_folder(folder)
        assert changed.is_set()
        assert names(server, directory) == []
        manager.save_folder(folder)
    assert on_disk(server, directory, "checkpoint-500") == data_of(folder)


def test_bytes_changed_behind_the_time_of_a_file_are_noticed(server, directory, make_folder):
    folder = make_folder(size_bytes=9_000_000)
    model, done = folder / "model.safetensors", threading.Event()

    def amid(up, piece):
        if up and b"POST /v1/uploads" in piece and not done.is_set():
            done.set()
            like = model.stat()
            with model.open("r+b") as opened:
                opened.seek(5_000_000)
                opened.write(b"changed")
            os.utime(model, ns=(like.st_atime_ns, like.st_mtime_ns))

    changed = pytest.raises(IntegrityError, match=r"model\.safetensors was changed")
    with Forwarder(server.url, watch=amid) as forwarder, changed:
        CheckpointManager(directory, server=forwarder.url).save_folder(folder)
    assert names(server, directory) == []


def test_a_server_that_is_killed_amid_a_save_and_comes_back(own_server, make_folder):
    folder = make_folder(size_bytes=20_000_000)
    killed = threading.Event()
    moved = [0]

    def amid(up, piece):
        moved[0] += len(piece) if up else 0
        if moved[0] > 8_000_000 and not killed.is_set():
            killed.set()
            own_server.restart()

    with Forwarder(own_server.url, watch=amid) as forwarder:
        manager = CheckpointManager("runs", server=forwarder.url, patience_s=60)
        manager.save_folder(folder, step=500)
    assert killed.is_set()
    assert manager.pending == []
    assert on_disk(own_server, "runs", "checkpoint-500") == data_of(folder)


# loading


def test_a_load_of_a_folder_names_the_right_method(manager, make_folder, where):
    manager.save_folder(make_folder(), loss=0.5)
    manager.save({"step": 1}, epoch=1, loss=0.1)
    for load in (lambda: manager.load("checkpoint-500"),):
        with pytest.raises(InvalidRequest, match=r"3 files .* use load_folder\(\) or download\(\)"):
            load()
    with pytest.raises(InvalidRequest, match=r"is a single file and no folder; use load\(\) or download\(\)"):
        manager.load_folder("checkpoint_epoch_0001.pt", to=where)
    with pytest.raises(CheckpointNotFound):
        manager.load_folder("checkpoint-501", to=where)
    assert manager.load_folder(to=where) == manager.load_folder(which="best", to=where) == where / "checkpoint-500"
    with pytest.raises(ValueError, match="which must be"):
        manager.load_folder(which="newest")


def test_nothing_to_load_is_none(manager, where):
    assert manager.load_folder(to=where) is None
    assert manager.load_folder(which="best", to=where) is None
    manager.save({}, epoch=1, loss=0.5)
    assert manager.load_folder(to=where) is None
    assert manager.load_folder(which="best", to=where) is None
    assert not where.exists()


def test_what_is_at_the_target_is_left_alone_unless_it_is_to_be_overwritten(manager, make_folder, where):
    folder = make_folder()
    manager.save_folder(folder)
    target = where / "checkpoint-500"
    target.mkdir(parents=True)
    manager.load_folder("checkpoint-500", to=where)  # an empty folder is filled
    (target / "mine").write_text("mine")
    (target / "model.safetensors").write_text("old")
    before = contents(target)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        manager.load_folder("checkpoint-500", to=where)
    assert contents(target) == before
    assert manager.load_folder("checkpoint-500", to=where, overwrite=True) == target
    assert contents(target) == contents(folder)
    assert list(where.iterdir()) == [target]


def test_a_file_or_a_link_at_the_target_is_never_replaced(manager, make_folder, where, tmp_path):
    manager.save_folder(make_folder())
    where.mkdir()
    (where / "checkpoint-500").write_text("a file")
    with pytest.raises(FileExistsError, match="is not a folder"):
        manager.load_folder("checkpoint-500", to=where, overwrite=True)
    assert (where / "checkpoint-500").read_text() == "a file"
    (where / "checkpoint-500").unlink()
    (tmp_path / "elsewhere").mkdir()
    (where / "checkpoint-500").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidRequest, match="is a link to"):
        manager.load_folder("checkpoint-500", to=where, overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_same_content_is_not_transferred_again(server, directory, make_folder, where):
    folder = make_folder(size_bytes=3_000_000)
    CheckpointManager(directory, server=server.url).save_folder(folder)
    moved = [0]

    def count(up, piece):
        moved[0] += len(piece)

    with Forwarder(server.url, watch=count) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.load_folder(to=where)
        assert moved[0] > 3_000_000
        moved[0] = 0
        inode = (where / "checkpoint-500" / "model.safetensors").stat().st_ino
        manager.load_folder(to=where)
        assert moved[0] < 50_000
    assert (where / "checkpoint-500" / "model.safetensors").stat().st_ino == inode


def test_a_corrupt_folder_is_not_put_anywhere(manager, server, directory, make_folder, where):
    manager.save_folder(make_folder(1))
    manager.save_folder(make_folder(2))
    (server.root / directory / "checkpoint-2" / "sub" / "deep" / "state.json").write_text('{"step": 9}')
    with pytest.raises(IntegrityError):
        manager.load_folder("checkpoint-2", to=where)
    assert list(where.iterdir()) == []
    with pytest.warns(HoldfastWarning, match="The newest that is intact, checkpoint-1, is loaded instead"):
        assert manager.load_folder(to=where) == where / "checkpoint-1"
    assert list(where.iterdir()) == [where / "checkpoint-1"]
