"""Folders that are in the way, that another process makes at the same moment, or that a killed one has left."""

import os
import subprocess
import sys
import time

import pytest

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError
from holdfast._transfer.file_source import FileSource
from holdfast._transfer.folders import target

RESUME = """
import sys
from holdfast import CheckpointManager
print(CheckpointManager(sys.argv[1]).resume(to=sys.argv[2]))
"""


@pytest.fixture
def saved(server, directory, tmp_path, monkeypatch):
    """A manager whose directory holds a checkpoint of a folder."""
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "w.bin").write_bytes(bytes(3_000_000))
    manager = CheckpointManager(directory)
    manager.save_folder(tmp_path / "made", name="ck")
    return manager


def test_only_what_was_held_is_removed_beside_a_folder_of_the_users(server, directory, tmp_path):
    theirs = [tmp_path / name for name in (".new-experiment", ".new-held-mine", ".new-held-0123456789abcdef0")]
    for folder in theirs:
        folder.mkdir()
        (folder / "precious.txt").write_text("mine")
        os.utime(folder, (time.time() - 200_000,) * 2)
    left_over = tmp_path / ".new-held-0123456789abcdef"
    left_over.mkdir()
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "w.bin").write_bytes(b"w")
    manager = CheckpointManager(directory, server=server.url, on_unreachable="raise", background=True)
    manager.save_folder(tmp_path / "ck")
    manager.wait()
    assert all((folder / "precious.txt").exists() for folder in theirs)
    assert not left_over.exists()
    assert server.names(directory) == ["ck"]


def test_a_folder_of_the_users_survives_an_interruption_of_its_replacement(saved, tmp_path, monkeypatch):
    (tmp_path / "out" / "ck").mkdir(parents=True)
    (tmp_path / "out" / "ck" / "mine.txt").write_text("mine")
    exchange = target._exchange

    def interrupted(one, other):
        exchange(one, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        saved.resume(to=tmp_path / "out")
    assert [path.read_text() for path in tmp_path.glob("out/.ck.replaced-*/mine.txt")] == ["mine"]
    assert [path.name for path in (tmp_path / "out" / "ck").iterdir()] == ["w.bin"]


def test_several_processes_that_resume_into_one_folder_share_it(saved, tmp_path):
    command = [sys.executable, "-W", "error", "-c", RESUME, str(saved.checkpoint_dir), tmp_path / "out"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert set(said) == {f"{tmp_path / 'out' / 'ck'}\n"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ck"]


def test_what_a_killed_process_was_building_is_removed_by_the_next(saved, tmp_path):
    left_over, theirs = tmp_path / "out" / ".ck.new-0123456789abcdef", tmp_path / "out" / ".ck.new-mine"
    for folder in (left_over, theirs):
        folder.mkdir(parents=True)
        (folder / "w.bin").write_bytes(b"part")
    saved.load_folder("ck", to=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".ck.new-mine", "ck"]


def test_a_pipe_that_takes_the_place_of_a_file_is_no_trap(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"w")
    source = FileSource(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(IntegrityError, match="replaced"):
        source.read(0)


def test_a_path_in_place_of_a_state_is_noticed(saved, tmp_path):
    with pytest.warns(HoldfastWarning, match="save_folder"):
        saved.save(str(tmp_path / "made"), name="text.pt")
