"""Uploads on disk, up to their commit point."""

import os

import pytest

from app.storage.local.store import LocalStorage
from tests.data.samples import changes, sealed, upload

ONE = {"model.pt": b"weights"}
SEVERAL = {"model.bin": b"weights", "shard/0": b"", "shard/.metadata": b"{}"}


@pytest.fixture
def storage(tmp_path):
    made = LocalStorage(tmp_path / "root", version="1")
    yield made
    made.close()


def test_an_upload_begins_without_files_and_keeps_what_it_has_when_begun_again(storage):
    promised = upload(SEVERAL, name="checkpoint-500")
    storage.begin(promised)
    assert storage.tree.names((".holdfast", "incoming", "upload1", "files")) == []
    for path in SEVERAL:
        with pytest.raises(FileNotFoundError), storage.partial(promised, path, create=False):
            pass
        with storage.partial(promised, path) as partial:
            assert partial.size_bytes() == 0
    with storage.partial(promised, "shard/0") as partial:
        partial.write(2, b"cd")
        partial.write(0, memoryview(b"ab"))
    storage.begin(promised)
    with storage.partial(promised, "shard/0") as partial:
        assert (partial.size_bytes(), partial.read(0, 9), partial.read(1, 2)) == (4, b"abcd", b"bc")
    assert storage.uploads() == {"upload1"}


def test_the_bytes_of_an_upload_that_is_gone_are_not_found(storage):
    promised = upload(ONE)
    storage.begin(promised)
    storage.discard(promised.id)
    storage.discard(promised.id)
    assert storage.uploads() == set()
    with pytest.raises(FileNotFoundError), storage.partial(promised, "model.pt"):
        pass
    with pytest.raises(FileNotFoundError):
        storage.write_files(promised, {"model.pt": b"late"})
    with pytest.raises(FileNotFoundError):
        storage.settle(promised)
    assert storage.uploads() == set()


def test_settling_tells_when_each_file_was_last_changed(storage):
    promised = upload(SEVERAL, name="checkpoint-500")
    storage.begin(promised)
    files = storage.tree.root / ".holdfast" / "incoming" / "upload1" / "files" / "checkpoint-500"
    storage.write_files(promised, {path: data for path, data in SEVERAL.items() if data})
    storage.settle(promised)
    for number, path in enumerate(SEVERAL):
        os.utime(files / path, ns=(number, 10**18 + number))
    assert storage.settle(promised) == {path: 10**18 + number for number, path in enumerate(SEVERAL)}
    (files / "model.bin").unlink()
    with pytest.raises(FileNotFoundError):
        storage.settle(promised)


def test_bytes_are_durable_once_settled_and_the_way_to_the_seal_once_sealed(storage):
    made = sealed(storage, SEVERAL, name="checkpoint-500")
    files_and_folders = 3 + 3  # files/, its checkpoint-500/, that one's shard/
    steps = changes(storage.settle, upload(SEVERAL, name="checkpoint-500"))
    assert [step for step in steps if step != "mkdir"] == ["fsync"] * files_and_folders
    steps = [step for step in changes(storage.seal, "upload1", made) if step != "mkdir"]
    assert steps == ["fsync", "flush", "fsync", "rename", "fsync"]


def test_a_seal_can_be_taken_back(storage):
    made = sealed(storage, ONE)
    assert storage.is_sealed("upload1")
    assert storage.sealed() == [("upload1", made)]
    storage.unseal("upload1")
    storage.unseal("upload1")
    assert not storage.is_sealed("upload1")
    assert storage.sealed() == []
    assert storage.uploads() == {"upload1"}


def test_sealed_uploads_come_in_the_order_of_their_commits_and_a_damaged_seal_is_left_alone(storage, caplog):
    for sequence, upload_id in ((2, "a"), (3, "b"), (1, "c"), (4, "d")):
        sealed(storage, ONE, upload_id=upload_id, sequence=sequence)
    seal = storage.tree.root / ".holdfast" / "incoming" / "d" / "manifest.json"
    seal.write_bytes(b"{")
    assert [upload_id for upload_id, _ in storage.sealed()] == ["c", "a", "b"]
    assert "the seal of upload d is left alone" in caplog.text
    assert seal.read_bytes() == b"{"
