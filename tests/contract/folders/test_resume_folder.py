"""resume(to=): the newest usable folder, wherever it is, under its own name on this machine."""

import shutil

import pytest

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError, InvalidRequest, ServerUnreachable
from holdfast._transfer.folders.local_files import LocalFiles
from tests.contract.folders.helpers import contents
from tests.support.forwarder import Forwarder
from tests.support.live import eventually


def test_the_newest_folder_is_resumed_from(manager, make_folder, where):
    assert manager.resume(to=where) is None
    folders = [make_folder(step) for step in (1, 2)]
    for folder in folders:
        manager.save_folder(folder)
    manager.save({"a state": 1}, epoch=9)
    assert manager.resume(to=where) == where / "checkpoint-2"
    assert contents(where / "checkpoint-2") == contents(folders[-1])
    with pytest.raises(InvalidRequest, match="single file"):
        manager.load_folder("checkpoint_epoch_0009.pt", to=where)


def test_a_best_checkpoint_is_never_resumed_from(manager, make_folder, where, holdfast, directory):
    manager.save_folder(make_folder(1), loss=0.5)
    assert holdfast("put", make_folder(2), directory, "--kind", "best", "--metric", "0.1").status == 0
    assert manager.resume(to=where) == where / "checkpoint-1"
    assert manager.load_folder(which="best", to=where) == where / "checkpoint-2"


def test_what_is_there_is_not_transferred_again(server, directory, make_folder, where):
    moved = [0]

    def count(up, piece):
        moved[0] += len(piece)

    folder = make_folder(size_bytes=3_000_000)
    with Forwarder(server.url, watch=count) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save_folder(folder)
        moved[0] = 0
        assert manager.resume(to=folder.parent) == folder
        assert moved[0] < 50_000
        shutil.rmtree(folder)
        assert manager.resume(to=folder.parent) == folder
        assert moved[0] > 3_000_000


def test_a_folder_of_other_content_is_kept_beside_it(manager, make_folder):
    folder = make_folder()
    manager.save_folder(folder)
    whole = contents(folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.warns(HoldfastWarning, match="held something else than the checkpoint; that is in"):
        assert manager.resume(to=folder.parent) == folder
    assert contents(folder) == whole
    (kept,) = folder.parent.glob(".checkpoint-500.replaced-*")
    assert (kept / "model.safetensors").read_bytes() == b"torn"


def test_a_corrupt_newest_one_is_skipped(manager, server, directory, make_folder, where):
    for step in (1, 2):
        manager.save_folder(make_folder(step))
    (server.root / directory / "checkpoint-2" / "model.safetensors").write_bytes(bytes(300_004))
    with pytest.warns(HoldfastWarning, match="checkpoint-2 of .* cannot be loaded"):
        assert manager.resume(to=where) == where / "checkpoint-1"
    (server.root / directory / "checkpoint-1" / "model.safetensors").write_bytes(bytes(300_004))
    shutil.rmtree(where)
    with pytest.raises(IntegrityError):
        manager.resume(to=where)
    assert not list(where.iterdir())


def test_the_server_is_unreachable(own_server, make_folder, where, spool):
    manager = CheckpointManager("runs", server=own_server.url, patience_s=0)
    manager.save_folder(make_folder(1))
    own_server.kill()
    with pytest.raises(ServerUnreachable):
        manager.resume(to=where)
    with pytest.warns(HoldfastWarning, match="Until that is over"):
        manager.save_folder(make_folder(2))
    manager.save({"a state": 1}, epoch=9)
    assert CheckpointManager("runs", server=own_server.url, patience_s=0).resume(to=where) == where / "checkpoint-2"
    own_server.start()
    assert eventually(lambda: not manager.pending)
    shutil.rmtree(where)
    assert manager.resume(to=where) == where / "checkpoint-2"


def test_what_waits_is_newer_than_what_the_server_holds(server, directory, make_folder, where, spool):
    manager = CheckpointManager(directory, server=server.url)
    manager.save_folder(make_folder(1))
    queue = manager._saver.target.queue
    queue.prepare()
    with queue.claimed() as mine:
        assert mine
        for step in (2, 3):
            files = LocalFiles(make_folder(step), "checkpoint")
            save = {"directory": directory, "name": f"checkpoint-{step}", "save_id": f"{step:032x}", "kind": "regular"}
            queue.put({**save, "policy": {}, **files.about_folders}, files)
        damaged = queue.items()[-1].folder / "files" / "model.safetensors"
        damaged.write_bytes(bytes(damaged.stat().st_size))
        with pytest.warns(HoldfastWarning, match="cannot be used: the bytes of"):
            assert manager.resume(to=where) == where / "checkpoint-2"
        queue.clear()


def test_a_file_in_the_place_of_a_folder_is_no_reason_to_take_an_older_one(server, directory, make_folder, where):
    queue = CheckpointManager(directory, server=server.url)._saver.target.queue
    queue.prepare()
    where.mkdir()
    (where / "checkpoint-2").write_text("mine")
    with queue.claimed() as mine:
        assert mine
        for step in (1, 2):
            files = LocalFiles(make_folder(step), "checkpoint")
            save = {"directory": directory, "name": f"checkpoint-{step}", "save_id": f"{step:032x}", "kind": "regular"}
            queue.put({**save, "policy": {}, **files.about_folders}, files)
        with pytest.raises(FileExistsError, match="is not a folder"):
            CheckpointManager(directory, server=server.url).resume(to=where)
        queue.clear()
    assert (where / "checkpoint-2").read_text() == "mine"


def test_a_plain_resume_names_the_parameter_for_folders(manager, make_folder):
    manager.save_folder(make_folder())
    with pytest.raises(InvalidRequest, match=r"use load_folder\(\) or download\(\)"):
        manager.resume()
