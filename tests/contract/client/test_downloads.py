"""Downloads of a client: files and folders, verified, at the place that the user names."""

import os

import pytest

from holdfast import CheckpointNotFound, InvalidRequest
from tests.support.forwarder import Forwarder

DATA = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def path(server, directory):
    server.save(directory, DATA, name="a.pt", metric=0.5)
    return f"{directory}/a.pt"


@pytest.fixture
def folder(holdfast, directory, tmp_path):
    """A checkpoint of two files, one of them in a folder."""
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "model.bin").write_bytes(DATA)
    (made / "config.json").write_text("{}")
    assert holdfast("put", made, directory).status == 0
    return f"{directory}/made"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    (empty := tmp_path / "here").mkdir()
    monkeypatch.chdir(empty)
    return empty


def test_a_file_to_a_folder_a_new_folder_and_a_file(client, path, directory, here):
    assert client.download(path).read_bytes() == DATA
    assert client.download(client.best(directory), here / "b.pt") == here / "b.pt"
    assert client.download(f"{directory}/best", "new/").as_posix() == "new/a.pt"
    (here / "b.pt").write_bytes(b"before")
    client.download(client.checkpoint(path).id, here / "b.pt")
    assert (here / "b.pt").read_bytes() == (here / "a.pt").read_bytes() == (here / "new/a.pt").read_bytes() == DATA


def test_a_folder_and_one_of_its_files(client, folder, here):
    found = client.download(folder)
    assert found.as_posix() == "made"
    assert (found / "sub/model.bin").read_bytes() == DATA
    assert (found / "config.json").read_text() == "{}"
    assert client.download(folder, file="sub/model.bin").as_posix() == "model.bin"
    assert client.download(folder, "c.json", file="config.json").read_text() == "{}"
    assert client.download(folder, "some/", file="config.json").as_posix() == "some/config.json"
    with pytest.raises(CheckpointNotFound) as raised:
        client.download(folder, file="model.bin")
    assert raised.value.code == "file_not_found"


def test_a_target_that_cannot_be_replaced_stays(client, path, here):
    (here / "link").symlink_to("elsewhere")
    with pytest.raises(InvalidRequest, match="is a link"):
        client.download(path, "link")
    with pytest.raises(InvalidRequest, match="URL"):
        client.download(path, "s3://bucket/a.pt")
    assert [each.name for each in here.iterdir()] == ["link"]


def test_whole_checkpoints_go_through_the_cache(server, path, here, monkeypatch):
    from holdfast import Client

    monkeypatch.setenv("HOLDFAST_CACHE", str(here / "cache"))
    with Forwarder(server.url) as forwarder, Client(forwarder.url) as client:
        client.download(path, "first.pt")
        assert forwarder.down_bytes > len(DATA)
        forwarder.reset()
        assert client.download(path, "second.pt").read_bytes() == DATA
        assert forwarder.down_bytes < len(DATA) / 10


def test_a_removed_one_has_no_bytes(client, path, here):
    found = client.delete(path)
    with pytest.raises(CheckpointNotFound):
        client.download(found)
    assert list(here.iterdir()) == []
