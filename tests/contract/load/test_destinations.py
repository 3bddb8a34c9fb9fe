"""Destinations of a download: plain files are replaced, pipes and devices written to, all else is refused."""

import os
import socket
import stat
import threading
from pathlib import Path

import pytest
import torch

from holdfast import HoldfastWarning, InvalidRequest
from holdfast._transfer import destination
from holdfast.cli.statuses import Status
from tests.support.deadlines import DEADLINE_S

DATA = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def soon(monkeypatch):
    """Shorten the wait for a pipe's reader."""
    monkeypatch.setattr(destination, "READER_WAIT_S", 0.05)


@pytest.fixture
def path(server, directory):
    server.save(directory, DATA, epoch=1)
    return f"{directory}/checkpoint_epoch_0001.pt"


def reading(pipe):
    """Begin to read a pipe; return a function that returns its content."""
    found = []
    thread = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    thread.start()

    def content():
        thread.join(DEADLINE_S)
        return found[0]

    return content


def test_a_pipe_is_written_into(holdfast, make_manager, path, tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    content = reading(pipe)
    assert holdfast("get", path, "-o", pipe).status == 0
    assert content() == DATA
    content = reading(pipe)
    assert make_manager().download(path, pipe) == pipe
    assert content() == DATA
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_part_is_written_into_a_pipe(holdfast, make_manager, tmp_path):
    found = make_manager().save({"a": torch.ones(3), "b": 2}, epoch=1)
    os.mkfifo(pipe := tmp_path / "pipe")
    content = reading(pipe)
    assert holdfast("get", found, "--only", "b", "-o", pipe).status == 0
    (tmp_path / "b.pt").write_bytes(content())
    assert torch.load(tmp_path / "b.pt") == {"b": 2}


def test_a_pipe_without_a_reader_stays(holdfast, make_manager, path, tmp_path, soon):
    os.mkfifo(pipe := tmp_path / "pipe")
    done = holdfast("get", path, "-o", pipe)
    assert (done.status, "Start its reader first" in done.complaints) == (Status.MISUSE, True)
    with pytest.warns(HoldfastWarning, match="nothing was written"):
        make_manager().download(path, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_into(holdfast, path):
    assert holdfast("get", path, "-o", "/dev/null").status == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert holdfast("get", path, "-o", "/dev/stdout").raw == DATA


def unsuitable(place, kind):
    """Make something at a path that is not a plain file; return a check that it is unchanged."""
    if kind == "link":
        (place.parent / "target").write_bytes(b"mine")
        place.symlink_to("target")
        return lambda: place.is_symlink() and place.read_bytes() == b"mine"
    if kind == "dangling":
        place.symlink_to("nowhere")
        return lambda: place.is_symlink() and not place.exists()
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place))
        return place.is_socket
    (place / "checkpoint_epoch_0001.pt").mkdir(parents=True)
    return (place / "checkpoint_epoch_0001.pt").is_dir


@pytest.mark.parametrize("kind", ["link", "dangling", "socket", "folder"])
@pytest.mark.parametrize("part", [[], ["--only", "a"]], ids=["whole", "part"])
def test_what_is_neither_is_refused_and_stays(holdfast, make_manager, tmp_path, monkeypatch, kind, part):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    found = make_manager().save({"a": 1}, epoch=1)
    stays = unsuitable(Path("place"), kind)
    if not part:
        with pytest.raises(InvalidRequest, match="left unchanged"):
            make_manager().download(found, "place")
    done = holdfast("get", found, *part, "-o", "place")
    assert (done.status, done.raw) == (Status.MISUSE, b"")
    assert stays()
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_a_terminal_gets_no_raw_bytes(holdfast, path):
    outer, inner = os.openpty()
    try:
        done = holdfast("get", path, "-o", os.ttyname(inner))
    finally:
        os.close(outer)
        os.close(inner)
    assert (done.status, "is a terminal" in done.complaints) == (Status.MISUSE, True)


def test_a_plain_file_is_replaced(holdfast, path, tmp_path):
    (tmp_path / "out").write_bytes(b"before")
    assert holdfast("get", path, "-o", tmp_path / "out").status == 0
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize("to", ["s3://bucket/a.pt", "file:///a.pt", Path("gs://bucket")], ids=str)
def test_a_url_is_no_place_on_this_machine(holdfast, make_manager, path, to, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for refusing in (
        lambda: make_manager().download(path, to),
        lambda: make_manager(spool_dir=to),
        lambda: make_manager(cache_dir=to),
    ):
        with pytest.raises(InvalidRequest, match="is a URL"):
            refusing()
    for part in ([], ["--only", "a"]):
        done = holdfast("get", path, *part, "-o", to)
        assert (done.status, "is a URL" in done.complaints) == (Status.MISUSE, True)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_directory(holdfast, make_manager, path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_manager().download(path, "~/a.pt") == tmp_path / "a.pt"
    assert holdfast("get", path, "--output=~/b.pt").status == 0
    assert (tmp_path / "b.pt").read_bytes() == DATA


def test_a_path_that_ends_with_a_slash_is_a_folder(holdfast, server, directory, make_manager, path, tmp_path):
    server.save(directory, other := os.urandom(1000), epoch=2)
    out = tmp_path / "new" / "out"
    for ending in ("/", "/.", "/"):
        assert holdfast("get", path, "-o", f"{out}{ending}").said.strip() == str(out / "checkpoint_epoch_0001.pt")
    assert holdfast("get", path, "--file", "checkpoint_epoch_0001.pt", "-o", f"{out}/b/").status == 0
    second = make_manager().download("checkpoint_epoch_0002.pt", f"{out}/c/")
    assert (out / "checkpoint_epoch_0001.pt").read_bytes() == (out / "b/checkpoint_epoch_0001.pt").read_bytes() == DATA
    assert second == out / "c/checkpoint_epoch_0002.pt"
    assert second.read_bytes() == other


def test_a_file_stays_where_a_folder_is_named(holdfast, make_manager, path, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert holdfast("get", path, "-o", f"{tmp_path}/out/").status != 0
    with pytest.raises(OSError, match="out"):
        make_manager().download(path, f"{tmp_path}/out/")
    assert (tmp_path / "out").read_text() == "mine"
    assert holdfast("get", path, "--only", "a", "-o", f"{tmp_path}/part/").status == Status.MISUSE
    assert not (tmp_path / "part").exists()


def test_a_folder_of_files_takes_the_place_that_ends_with_a_slash(holdfast, directory, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/a.bin").write_bytes(DATA)
    assert holdfast("put", tmp_path / "model", directory).status == 0
    assert holdfast("get", f"{directory}/model", "-o", f"{tmp_path}/out/").said.strip() == str(tmp_path / "out")
    assert (tmp_path / "out/a.bin").read_bytes() == DATA
