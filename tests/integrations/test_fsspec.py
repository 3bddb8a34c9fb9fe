"""The file system over a real server: paths, reads and settings, and the words of refusals."""

import io
import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
import torch

from holdfast import CheckpointManager, IntegrityError, NotAllowed
from holdfast.cli import main
from holdfast.integrations.fsspec import HoldfastFileSystem
from tests.support.folders import put_folder
from tests.support.forwarder import Forwarder
from tests.support.live import LiveServer
from tests.support.tokens import mint

CHUNK = 4 * 1024 * 1024


@pytest.fixture
def fs() -> HoldfastFileSystem:
    return HoldfastFileSystem()


@pytest.fixture
def folder_checkpoint(directory: str, tmp_path: Path) -> str:
    """A checkpoint of several files, its path."""
    return put_folder(tmp_path / "step-500", directory)


# reading


def test_a_saved_state_is_read_as_the_best(fs: HoldfastFileSystem, directory: str):
    manager = CheckpointManager(directory)
    for epoch, loss in enumerate([0.5, 0.1, 0.9]):
        manager.save({"epoch": epoch, "w": torch.ones(3)}, epoch=epoch, loss=loss)
    with fsspec.open(f"holdfast://{directory}/@best", "rb") as file:
        assert torch.load(file)["epoch"] == 1
    assert torch.load(fs.open(f"{directory}/@latest"))["epoch"] == 2
    assert [each["name"].rpartition("/")[2] for each in fs.ls(directory)] == [
        f"checkpoint_epoch_000{epoch}.pt" for epoch in range(3)
    ]


def test_a_checkpoint_of_several_files_is_a_directory(fs: HoldfastFileSystem, folder_checkpoint: str, tmp_path: Path):
    assert fs.find(folder_checkpoint) == [
        f"{folder_checkpoint}/{path}" for path in (".config", "deep/er.bin", "model.bin")
    ]
    best = f"{folder_checkpoint.rpartition('/')[0]}/@best"
    assert fs.cat(f"{best}/deep/er.bin") == b"deep"
    assert fs.cat_file(f"{best}/.config") == b"{}"
    assert fs.ls(best, detail=False) == [f"{best}/{name}" for name in (".config", "deep", "model.bin")]
    fs.get(best, str(tmp_path / "here"), recursive=True)
    assert (tmp_path / "here" / "deep" / "er.bin").read_bytes() == b"deep"


@pytest.mark.parametrize("size", [0, 1, 5000, 2 * CHUNK + 123])
def test_any_part_of_a_file_is_read(fs: HoldfastFileSystem, directory: str, size: int):
    data = b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]
    path = f"{directory}/a.bin"
    fs.pipe(path, data)
    for start, end in [(None, None), (0, 10), (-7, None), (None, -7), (size - 3, size + 100), (size + 5, None), (9, 2)]:
        assert fs.cat_file(path, start, end) == data[start:end], (start, end)
    assert fs.cat_ranges([path, path], [0, size // 2], [4, size]) == [data[:4], data[size // 2 :]]
    with fs.open(path) as file:
        assert (file.size, file.read()) == (size, data)
        for position in (size // 2, max(size - 5, 0), 0, CHUNK - 2):
            file.seek(position)
            assert file.read(1000) == data[position : position + 1000]
    assert fs.size(path) == fs.du(directory) == size


def test_altered_bytes_are_never_given(make_server: Callable[..., LiveServer], tmp_path: Path):
    live = make_server()
    fs = HoldfastFileSystem(server=live.url, patience_s=0)
    for name, size in {"small": 1000, "large": CHUNK + 5}.items():
        fs.pipe(f"runs/{name}", b"a" * size)
        stored = live.root / "runs" / name
        stored.chmod(0o600)
        with stored.open("r+b") as file:
            file.seek(size - 1)
            file.write(b"b")
        with pytest.raises(IntegrityError):
            fs.cat(f"runs/{name}")
        with pytest.raises(IntegrityError), fs.open(f"runs/{name}") as file:
            file.read()
        with pytest.raises(IntegrityError):
            fs.get(f"runs/{name}", str(tmp_path / "copy"))
        assert list(tmp_path.glob("*copy*")) == []


@pytest.mark.parametrize("size", [1000, CHUNK + 1000], ids=["small", "large"])
def test_bytes_that_a_network_garbles_are_never_given(
    fs: HoldfastFileSystem, server: LiveServer, directory: str, size: int, tmp_path: Path
):
    fs.pipe(f"{directory}/a", b"the right bytes".ljust(size))
    with Forwarder(server.url, change=lambda up, piece: piece.replace(b"the right", b"the wrong")) as garbling:
        there = HoldfastFileSystem(server=garbling.url, patience_s=0)
        assert there.cat_file(f"{directory}/a", 0, 15) == b"the wrong bytes", "the bytes were not garbled"
        for read in (
            lambda: there.cat(f"{directory}/a"),
            lambda: there.open(f"{directory}/a").read(5),
            lambda: there.get(f"{directory}/a", str(tmp_path / "a")),
        ):
            with pytest.raises((ConnectionError, IntegrityError)):
                read()
    assert list(tmp_path.iterdir()) == []


def test_facts_of_a_file(fs: HoldfastFileSystem, directory: str):
    path = f"{directory}/a.bin"
    fs.pipe(path, b"one")
    before = fs.ukey(path), fs.checksum(path)
    assert timedelta(0) <= datetime.now(UTC) - fs.modified(path) < timedelta(minutes=5)
    assert fs.created(path) == fs.info(path)["mtime"]
    fs.pipe(path, b"two")
    assert fs.ukey(path) != before[0]
    assert fs.checksum(path) != before[1]
    fs.pipe(path, b"one")
    assert (fs.ukey(path), fs.checksum(path)) == before


def test_a_signed_link_needs_no_token(fs: HoldfastFileSystem, server: LiveServer, directory: str):
    fs.pipe(f"{directory}/a.bin", b"linked")
    assert server.http.get(fs.sign(f"{directory}/a.bin", expiration=60)).content == b"linked"


def test_a_thousand_files_are_listed_found_and_fetched(fs: HoldfastFileSystem, directory: str, tmp_path: Path):
    (tmp_path / "many").mkdir()
    for number in range(1001):
        (tmp_path / "many" / f"{number:04d}.bin").write_bytes(b"x" * 10)
    assert main(["put", str(tmp_path / "many"), directory]) == 0
    started = time.monotonic()
    assert len(fs.ls(f"{directory}/many")) == len(fs.find(directory)) == 1001
    assert fs.du(directory) == 10_010
    fs.get(f"{directory}/many/00*.bin", f"{tmp_path}/some/")
    assert len(list((tmp_path / "some").iterdir())) == 100
    fs.rm(directory, recursive=True)
    assert not fs.exists(directory)
    assert time.monotonic() - started < 20


# refusals and settings


def test_names_that_cannot_be_meant_are_refused(fs: HoldfastFileSystem, directory: str):
    for path in (Path(f"holdfast://{directory}/a"), str(Path(f"holdfast://{directory}/a"))):
        with pytest.raises(ValueError, match="pathlib"):
            fs.open(path, "wb")
        with pytest.raises(ValueError, match="pathlib"):
            fs.exists(path)
    for path in (f"{directory}/../a", "s3://bucket/a", "model.pt", f"{directory}/directory", f"{directory}/{'*' * 90}"):
        with pytest.raises(ValueError, match="cannot be a"):
            fs.open(path, "wb")
    for path in (f"{directory}/@best", f"{directory}/@latest/a"):
        with pytest.raises(ValueError, match="stands for a checkpoint"):
            fs.pipe(path, b"")
        with pytest.raises(ValueError, match="stands for a checkpoint"):
            fs.rm(path)
    with pytest.raises(ValueError, match="mode must be"):
        fs.open(f"{directory}/a", "r+b")


def test_an_unreachable_server_is_not_taken_for_a_missing_file():
    fs = HoldfastFileSystem(server="http://127.0.0.1:9", patience_s=0)
    for ask in (fs.exists, fs.isdir, fs.isfile, fs.find, fs.cat, fs.ls, lambda path: fs.open(path, "wb")):
        with pytest.raises(ConnectionError):
            ask("runs/a")


def test_tokens_are_named_in_refusals(make_server: Callable[..., LiveServer], monkeypatch: pytest.MonkeyPatch):
    live = make_server()
    token = mint(live.root, "read", "write")
    expired = mint(live.root, "read", expires=timedelta(milliseconds=1))
    with pytest.raises(NotAllowed, match="token"):
        HoldfastFileSystem(server=live.url).ls("")
    with pytest.raises(NotAllowed, match="token"):
        HoldfastFileSystem(server=live.url, token=expired).exists("runs/a")
    monkeypatch.setenv("HOLDFAST_TOKEN", token)
    fs = HoldfastFileSystem(server=live.url)
    fs.pipe("runs/a", b"with a token of the environment")
    with pytest.raises(PermissionError, match="delete"):
        fs.rm("runs/a")
    monkeypatch.setenv("HOLDFAST_TOKEN", expired)
    with pytest.raises(NotAllowed):
        HoldfastFileSystem(server=live.url).cat("runs/a")
    assert fs.cat("runs/a") == b"with a token of the environment"


def test_instances_are_cached_by_settings_and_pickled(
    fs: HoldfastFileSystem, directory: str, monkeypatch: pytest.MonkeyPatch, server: LiveServer
):
    assert HoldfastFileSystem() is fs
    assert fsspec.filesystem("holdfast") is fs
    below = HoldfastFileSystem(prefix=directory)
    assert below is not fs
    below.pipe("a.bin", b"below a prefix")
    assert below.ls("", detail=False) == ["a.bin"]
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:9")
    other = pickle.loads(pickle.dumps(below))
    assert other == below
    assert other.cat("a.bin") == b"below a prefix"
    assert HoldfastFileSystem() is not fs
    assert fs.cat(f"{directory}/a.bin") == b"below a prefix"


def test_urls_are_chained_with_a_cache(directory: str, fs: HoldfastFileSystem, tmp_path: Path):
    fs.pipe(f"{directory}/a.bin", b"cached")
    url = f"filecache::holdfast://{directory}/a.bin"
    for _ in range(2):
        with fsspec.open(url, filecache={"cache_storage": str(tmp_path / "cache"), "check_files": True}) as file:
            assert file.read() == b"cached"
    fs.pipe(f"{directory}/a.bin", b"changed")
    with fsspec.open(url, filecache={"cache_storage": str(tmp_path / "cache"), "check_files": True}) as file:
        assert file.read() == b"changed"


def test_a_mapping(fs: HoldfastFileSystem, directory: str):
    mapping = fs.get_mapper(directory)
    mapping["a/.zattrs"] = b"{}"
    mapping["a/0.0"] = b"chunk"
    assert sorted(mapping) == ["a/.zattrs", "a/0.0"]
    assert mapping["a/.zattrs"] == b"{}"
    del mapping["a/0.0"]
    assert list(mapping) == ["a/.zattrs"]


def test_a_file_is_read_by_lines_and_into_memory(fs: HoldfastFileSystem, directory: str):
    fs.pipe(f"{directory}/lines", b"".join(b"%d\n" % number for number in range(10_000)))
    with fs.open(f"{directory}/lines") as file:
        assert [int(line) for line in file] == list(range(10_000))
        file.seek(-5, io.SEEK_END)
        buffer = bytearray(10)
        assert (file.readinto(buffer), bytes(buffer[:5])) == (5, b"9999\n")
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)
