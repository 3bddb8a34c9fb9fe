"""The changes that the file system makes on a real server: writes, copies, moves, removals and directories."""

import errno
import gc
import itertools
import zipfile
from pathlib import Path

import fsspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from holdfast import CheckpointExists, CheckpointManager, HoldfastWarning
from holdfast.integrations.fsspec import HoldfastFileSystem
from tests.support.folders import put_folder
from tests.support.live import LiveServer

_numbers = itertools.count()


@pytest.fixture
def fs() -> HoldfastFileSystem:
    return HoldfastFileSystem()


@pytest.fixture
def folder_checkpoint(directory: str, tmp_path: Path) -> str:
    """A checkpoint of several files, its path."""
    return put_folder(tmp_path / "step-500", directory)


# writing


@pytest.mark.parametrize("size", [100, 33 * 1024 * 1024], ids=["in memory", "in a temporary file"])
def test_a_file_shows_once_it_is_closed(fs: HoldfastFileSystem, directory: str, size: int):
    path = f"{directory}/a.bin"
    with fs.open(path, "wb") as file:
        for _ in range(size // 100):
            file.write(b"0123456789" * 10)
        assert not fs.exists(path)
    assert fs.size(path) == size // 100 * 100
    assert fs.cat_file(path, 80, 100) == b"0123456789" * 2


def test_a_name_with_brackets_is_no_pattern_if_it_exists(fs, directory):
    for name in ("x[1].pt", "x1.pt", "m[1].pt", "m1.pt"):
        fs.pipe_file(f"{directory}/{name}", name.encode())
    fs.rm(f"{directory}/x[1].pt")
    fs.mv(f"{directory}/m[1].pt", f"{directory}/moved.pt")
    assert sorted(path.rpartition("/")[2] for path in fs.ls(directory, detail=False)) == ["m1.pt", "moved.pt", "x1.pt"]
    fs.rm(f"{directory}/[mx]1.pt")
    assert fs.ls(directory, detail=False) == [f"{directory}/moved.pt"]


def test_a_misspelt_option_is_refused():
    with pytest.raises(TypeError, match="'sever'"):
        fsspec.filesystem("holdfast", sever="http://127.0.0.1:1")


def test_an_exception_discards_what_was_written(fs: HoldfastFileSystem, directory: str):
    def opened(name: str, **options: str) -> None:
        with fs.open(f"{directory}/{name}", **options) as file:
            file.write("half" if options["mode"] == "w" else b"half")
            raise KeyError(name)

    for name, options in {
        "a": {"mode": "wb"},
        "b": {"mode": "w"},
        "c": {"mode": "wb", "compression": "gzip"},
        "d": {"mode": "xb"},
    }.items():
        with pytest.raises(KeyError):
            opened(name, **options)

    def opened_by_url() -> None:
        with fsspec.open(f"holdfast://{directory}/e", "wb") as file:
            file.write(b"half")
            raise KeyError("e")

    with pytest.warns(HoldfastWarning, match=r"not saved.*KeyError"), pytest.raises(KeyError):
        opened_by_url()
    assert fs.find(directory) == []


def test_a_file_that_is_opened_after_an_exception_is_saved(fs: HoldfastFileSystem, directory: str):
    try:
        raise KeyError("a")
    except KeyError:
        with fs.open(f"{directory}/a", "wb") as file:
            file.write(b"whole")
    assert fs.cat(f"{directory}/a") == b"whole"


def test_an_abandoned_file_is_not_saved(fs: HoldfastFileSystem, directory: str):
    for options in ({"mode": "wb"}, {"mode": "w"}, {"mode": "wb", "compression": "gzip"}):
        file = fs.open(f"{directory}/a", **options)
        file.write("half" if options["mode"] == "w" else b"half")
        with pytest.warns(ResourceWarning):
            file = gc.collect()
    assert not fs.exists(f"{directory}/a")


def test_text_compression_appending_and_zip_files(fs: HoldfastFileSystem, directory: str):
    with fs.open(f"{directory}/a.txt", "w", encoding="utf-8") as file:
        file.write("größe\n")
    with fs.open(f"{directory}/a.txt", "ab") as file:
        file.write(b"more\n")
    assert list(fs.open(f"{directory}/a.txt", "r", encoding="utf-8")) == ["größe\n", "more\n"]
    with fs.open(f"{directory}/a.gz", "wb", compression="infer") as file:
        file.write(b"packed")
    assert fs.cat(f"{directory}/a.gz")[:2] == b"\x1f\x8b"
    assert fs.open(f"{directory}/a.gz", compression="infer").read() == b"packed"
    with fs.open(f"{directory}/a.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inner", "zipped")
    assert zipfile.ZipFile(fs.open(f"{directory}/a.zip")).read("inner") == b"zipped"


def test_states_of_torch_and_safetensors(fs: HoldfastFileSystem, directory: str):
    state = {"w": torch.arange(10_000.0), "b": torch.zeros(3)}
    with fs.open(f"{directory}/a.pt", "wb") as file:
        torch.save(state, file)
    with fs.open(f"{directory}/a.pt") as file:
        found = torch.load(file, weights_only=True)
    assert found["w"].equal(state["w"])
    assert CheckpointManager(directory).load("a.pt")["w"].equal(state["w"])
    fs.pipe(f"{directory}/a.safetensors", save(state))
    assert load(fs.cat(f"{directory}/a.safetensors"))["w"].equal(state["w"])


def test_what_is_written_is_kept_by_no_policy(fs: HoldfastFileSystem, server: LiveServer, directory: str):
    for name in "abc":
        fs.pipe(f"{directory}/{name}", name.encode())
    manager = CheckpointManager(directory, max_checkpoints=1, max_best_checkpoints=0)
    for epoch in range(3):
        manager.save({}, epoch=epoch)
    assert server.names(directory, retention="manual") == ["a", "b", "c"]
    assert len(server.names(directory, retention="policy")) == 1


def test_a_directory_that_was_made_is_there(fs: HoldfastFileSystem, directory: str):
    fs.makedirs(f"{directory}/made/inner")
    assert fs.isdir(f"{directory}/made")
    assert HoldfastFileSystem(skip_instance_cache=True).ls(f"{directory}/made", detail=False) == [
        f"{directory}/made/inner"
    ]
    with pytest.raises(FileExistsError):
        fs.mkdir(f"{directory}/made")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{directory}/made")
    fs.rmdir(f"{directory}/made/inner")
    fs.rmdir(f"{directory}/made")
    assert not fs.exists(f"{directory}/made")
    fs.pipe(f"{directory}/file", b"")
    with pytest.raises(NotADirectoryError):
        fs.makedirs(f"{directory}/file/below")
    with pytest.raises(FileNotFoundError):
        fs.mkdir(f"{directory}/no/parent", create_parents=False)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
            lambda name: name not in {".", "..", "directory"}
        ),
        min_size=1,
        max_size=3,
    )
)
def test_files_of_any_name_are_listed_and_read_under_it(fs: HoldfastFileSystem, directory: str, names: list[str]):
    path = "/".join([directory, str(next(_numbers)), *names])
    try:
        fs.pipe(path, b"named")
        assert fs.find(path.rpartition("/")[0]) == [path]
        assert fs.cat_file(path) == b"named"
    finally:
        fs.rm_file(path) if fs.exists(path) else None


# copying, moving and removing


def test_copies_and_moves_stay_on_the_server(fs: HoldfastFileSystem, directory: str):
    CheckpointManager(directory).save({"a": 1}, epoch=1, loss=0.5, name="a.pt")
    fs.cp_file(f"{directory}/@best", f"{directory}/published/v1.pt")
    assert fs.info(f"{directory}/published/v1.pt")["digest"] == fs.info(f"{directory}/a.pt")["digest"]
    fs.mv(f"{directory}/published/v1.pt", f"{directory}/published/v2.pt")
    assert fs.ls(f"{directory}/published", detail=False) == [f"{directory}/published/v2.pt"]
    fs.mv(f"holdfast://{directory}/published/v2.pt", f"{directory}/published/v2.pt")
    with pytest.raises(OSError, match="into itself"):
        fs.mv(f"{directory}/published", f"{directory}/published/inner", recursive=True)
    assert fs.exists(f"{directory}/published/v2.pt")
    fs.mv(f"{directory}/published", f"{directory}/moved", recursive=True)
    assert fs.find(directory) == [f"{directory}/a.pt", f"{directory}/moved/v2.pt"]


def test_a_checkpoint_of_several_files_is_copied_whole_or_file_by_file(
    fs: HoldfastFileSystem, server: LiveServer, folder_checkpoint: str, directory: str
):
    fs.copy(folder_checkpoint, f"{directory}/published", recursive=True)
    assert "published" in server.names(directory)
    fs.cp_file(f"{folder_checkpoint}/deep/er.bin", f"{directory}/only.bin")
    assert fs.cat(f"{directory}/only.bin") == b"deep"
    fs.copy(f"{folder_checkpoint}/*.bin", f"{directory}/some/")
    assert fs.cat(f"{directory}/some/model.bin") == b"m" * 3000
    fs.mv(f"{directory}/published", f"{directory}/moved", recursive=True)
    assert fs.cat(f"{directory}/moved/deep/er.bin") == b"deep"
    assert not fs.exists(f"{directory}/published")


def test_a_checkpoint_of_several_files_does_not_change(fs: HoldfastFileSystem, folder_checkpoint: str):
    for change in (
        lambda: fs.pipe(f"{folder_checkpoint}/new.bin", b""),
        lambda: fs.pipe(f"{folder_checkpoint}/model.bin", b""),
        lambda: fs.rm(f"{folder_checkpoint}/model.bin"),
        lambda: fs.rm(f"{folder_checkpoint}/deep", recursive=True),
    ):
        with pytest.raises(OSError, match="several files, which does not change") as caught:
            change()
        assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError, match="not empty"):
        fs.rm(folder_checkpoint)
    assert fs.cat(f"{folder_checkpoint}/model.bin") == b"m" * 3000
    fs.rm(folder_checkpoint, recursive=True)
    assert not fs.exists(folder_checkpoint)


def test_removals(fs: HoldfastFileSystem, server: LiveServer, directory: str):
    for name in ("a.pt", "b.pt", "c.txt", "inner/d.pt", "inner/e.pt"):
        fs.pipe(f"{directory}/{name}", name.encode())
    fs.rm(f"{directory}/*.pt")
    assert fs.find(directory) == [f"{directory}/{name}" for name in ("c.txt", "inner/d.pt", "inner/e.pt")]
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{directory}/a.pt")
    with pytest.raises(OSError, match="not empty"):
        fs.rm(f"{directory}/inner")
    pinned = server.http.get("/v1/tree", params={"path": f"{directory}/inner/e.pt"}).json()["checkpoint_id"]
    server.http.patch(f"/v1/checkpoints/{pinned}", json={"pinned": True}).raise_for_status()
    with pytest.raises(CheckpointExists, match=r"inner/e\.pt' is pinned"):
        fs.rm(directory, recursive=True)
    assert fs.find(directory) == [f"{directory}/inner/e.pt"]
    with pytest.raises(ValueError, match="root"):
        fs.rm("", recursive=True)


def test_a_file_takes_the_place_of_an_emptied_directory(fs: HoldfastFileSystem, directory: str):
    fs.pipe(f"{directory}/a/b", b"below")
    with pytest.raises(NotADirectoryError):
        fs.pipe(f"{directory}/a/b/c", b"below a file")
    with pytest.raises(IsADirectoryError):
        fs.pipe(f"{directory}/a", b"a directory")
    fs.rm(f"{directory}/a", recursive=True)
    fs.pipe(f"{directory}/a", b"a file now")
    assert fs.cat(f"{directory}/a") == b"a file now"
