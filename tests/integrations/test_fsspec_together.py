"""The file system with several writers, threads and processes at once, and with a server that is killed."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from holdfast import CheckpointExists
from holdfast.integrations.fsspec import HoldfastFileSystem
from tests.support.live import LiveServer

LARGE = 9 * 1024 * 1024


@pytest.fixture
def fs() -> HoldfastFileSystem:
    return HoldfastFileSystem()


# two writers of one name


def test_of_two_writers_of_one_name_the_second_is_told(fs: HoldfastFileSystem, directory: str):
    path = f"{directory}/a"
    for before in (None, b"old"):
        first, second = fs.open(path, "wb"), fs.open(path, "wb")
        first.write(b"first")
        second.write(b"second")
        first.close()
        with pytest.raises(FileExistsError, match="another writer has") as caught:
            second.close()
        assert isinstance(caught.value, CheckpointExists)
        assert caught.value.code == "precondition_failed"
        assert fs.cat(path) == b"first"
        if before is None:
            fs.pipe(path, b"old")
    copied = f"{directory}/b"
    fs.pipe(copied, b"to copy")
    late = fs.open(copied, "wb")
    late.write(b"late")
    fs.cp_file(path, copied)
    with pytest.raises(FileExistsError):
        late.close()


def test_a_file_that_was_removed_meanwhile_is_written(fs: HoldfastFileSystem, directory: str):
    path = f"{directory}/a"
    fs.pipe(path, b"old")
    with fs.open(path, "wb") as file:
        file.write(b"new")
        fs.rm(path)
    assert fs.cat(path) == b"new"


def test_of_many_writers_each_file_is_saved_or_refused(directory: str):
    fs, path = HoldfastFileSystem(), f"{directory}/a"
    barrier = threading.Barrier(6)

    def write(number: int) -> int | None:
        file = fs.open(path, "xb")
        file.write(bytes([number]))
        barrier.wait()
        try:
            file.close()
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(6) as pool:
        saved = [number for number in pool.map(write, range(6)) if number is not None]
    assert [bytes([number]) for number in saved] == [fs.cat(path)]


# transactions


def test_a_transaction_shows_everything_at_its_end_or_nothing(fs: HoldfastFileSystem, directory: str, tmp_path: Path):
    (tmp_path / "local").write_bytes(b"put")
    with fs.transaction:
        fs.pipe(f"{directory}/a", b"piped")
        fs.put(str(tmp_path / "local"), f"{directory}/b")
        with fs.open(f"{directory}/c", "w") as file:
            file.write("written")
        fs.pipe(f"{directory}/c", b"written again")
        assert fs.find(directory) == []
    assert fs.cat(f"{directory}/*") == {
        f"{directory}/a": b"piped",
        f"{directory}/b": b"put",
        f"{directory}/c": b"written again",
    }

    def fails() -> None:
        with fs.transaction:
            fs.pipe(f"{directory}/a", b"lost")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    fs.pipe(f"{directory}/d", b"at once")
    assert fs.cat(f"{directory}/a") == b"piped"
    assert fs.cat(f"{directory}/d") == b"at once"


def test_each_thread_has_a_transaction_of_its_own(fs: HoldfastFileSystem, directory: str):
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        fs.pipe(f"{directory}/other", b"at once")
        with fs.transaction:
            fs.pipe(f"{directory}/its", b"own")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(other)
        with fs.transaction:
            fs.pipe(f"{directory}/mine", b"at the end")
            inside.set()
            assert done.wait(60)
            assert fs.find(directory) == [f"{directory}/its", f"{directory}/other"]
            assert fs._intrans
        future.result()
    assert fs.exists(f"{directory}/mine")


# processes


class Parts(Dataset[bytes]):
    """The parts of a file that its workers read."""

    def __init__(self, fs: HoldfastFileSystem, path: str) -> None:
        self.fs, self.path = fs, path
        self.file = None

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> bytes:
        with self.fs.open(self.path) as file:
            file.seek(1000 * place)
            return file.read(10)


def read_in_child(fs: HoldfastFileSystem, path: str) -> bytes:
    return fs.cat(path)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_read_through_it(fs: HoldfastFileSystem, directory: str, method: str):
    data = b"".join(b"%09d\n" % number for number in range(800))
    fs.pipe(f"{directory}/a", data)
    loader = DataLoader(
        Parts(fs, f"{directory}/a"), batch_size=None, num_workers=1, multiprocessing_context=method, shuffle=False
    )
    assert list(loader) == [data[1000 * place :][:10] for place in range(8)]
    assert fs.cat(f"{directory}/a") == data


def test_a_fork_while_other_threads_use_it(fs: HoldfastFileSystem, directory: str):
    fs.pipe(f"{directory}/a", b"read everywhere")
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            assert fs.cat(f"{directory}/a") == b"read everywhere"

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(busy) for _ in range(2)]
        with multiprocessing.get_context("fork").Pool(2) as children:
            found = children.starmap_async(read_in_child, [(fs, f"{directory}/a")] * 8).get(60)
        stop.set()
        for future in futures:
            future.result()
    assert found == [b"read everywhere"] * 8


# a server that is killed


def test_a_write_goes_on_after_a_restart(own_server: LiveServer):
    fs = HoldfastFileSystem(server=own_server.url, patience_s=20)
    with fs.open("runs/a", "wb") as file:
        file.write(b"x" * LARGE)
        own_server.kill()
        restarted = threading.Timer(1, own_server.start)
        restarted.start()
    restarted.join()
    assert fs.cat("runs/a") == b"x" * LARGE


def test_a_write_without_a_server_leaves_nothing(own_server: LiveServer):
    fs = HoldfastFileSystem(server=own_server.url, patience_s=0)
    fs.pipe("runs/a", b"old")
    file = fs.open("runs/a", "wb")
    file.write(b"x" * LARGE)
    own_server.kill()
    with pytest.raises(ConnectionError):
        file.close()
    assert file.closed
    own_server.start()
    assert fs.cat("runs/a") == b"old"
    fs.pipe("runs/a", b"new")
    assert fs.find("") == ["runs/a"]


def test_a_read_goes_on_after_a_restart(own_server: LiveServer):
    fs = HoldfastFileSystem(server=own_server.url, patience_s=20)
    data = torch.arange(LARGE // 4, dtype=torch.int32).numpy().tobytes()
    fs.pipe("runs/a", data)
    with fs.open("runs/a") as file:
        begun = file.read(1000)
        own_server.restart()
        assert begun + file.read() == data
    assert fs.cat_file("runs/a", 5, -5) == data[5:-5]


def test_a_read_without_a_server_is_a_connection_error(own_server: LiveServer, tmp_path: Path):
    fs = HoldfastFileSystem(server=own_server.url, patience_s=0)
    fs.pipe("runs/a", b"x" * LARGE)
    with fs.open("runs/a") as file:
        file.read(10)
        own_server.kill()
        with pytest.raises(ConnectionError):
            file.read()
    with pytest.raises(ConnectionError):
        fs.get_file("runs/a", str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(
    make_server: Callable[..., LiveServer],
):
    fs = HoldfastFileSystem(server=make_server().url)
    fs.pipe("runs/a", b"a" * LARGE)
    with fs.open("runs/a") as file:
        begun = file.read(100)
        fs.pipe("runs/a", b"b" * LARGE)
        try:
            rest = file.read()
        except FileNotFoundError:
            rest = b""
    assert set(begun + rest) == {ord("a")}
