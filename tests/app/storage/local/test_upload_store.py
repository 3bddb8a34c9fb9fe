"""Uploads on disk, up to their commit point."""

import os

import pytest

from app.storage.local.store import LocalStorage
from app.storage.ports import NotDurable
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
    storage.content.begin(promised)
    assert storage.tree.names((".holdfast", "incoming", "upload1", "files")) == []
    for path in SEVERAL:
        with pytest.raises(FileNotFoundError), storage.content.partial(promised, path, create=False):
            pass
        with storage.content.partial(promised, path) as partial:
            assert partial.size_bytes() == 0
    with storage.content.partial(promised, "shard/0") as partial:
        partial.write(2, b"cd")
        partial.write(0, memoryview(b"ab"))
    storage.content.begin(promised)
    with storage.content.partial(promised, "shard/0") as partial:
        assert (partial.size_bytes(), partial.read(0, 9), partial.read(1, 2)) == (4, b"abcd", b"bc")
    assert storage.content.uploads() == {"upload1"}


def test_the_bytes_of_an_upload_that_is_gone_are_not_found(storage):
    promised = upload(ONE)
    storage.content.begin(promised)
    storage.content.discard(promised.id)
    storage.content.discard(promised.id)
    assert storage.content.uploads() == set()
    with pytest.raises(FileNotFoundError), storage.content.partial(promised, "model.pt"):
        pass
    with pytest.raises(FileNotFoundError):
        storage.content.write_files(promised, {"model.pt": b"late"})
    with pytest.raises(FileNotFoundError):
        storage.content.finalize(promised)
    assert storage.content.uploads() == set()


def test_settling_tells_when_each_file_was_last_changed(storage):
    promised = upload(SEVERAL, name="checkpoint-500")
    storage.content.begin(promised)
    files = storage.tree.root / ".holdfast" / "incoming" / "upload1" / "files" / "checkpoint-500"
    storage.content.write_files(promised, {path: data for path, data in SEVERAL.items() if data})
    storage.content.finalize(promised)
    for number, path in enumerate(SEVERAL):
        os.utime(files / path, ns=(number, 10**18 + number))
    assert storage.content.finalize(promised) == {path: str(10**18 + number) for number, path in enumerate(SEVERAL)}
    (files / "model.bin").unlink()
    with pytest.raises(FileNotFoundError):
        storage.content.finalize(promised)


def test_bytes_are_durable_once_settled_and_the_way_to_the_seal_once_sealed(storage):
    made = sealed(storage, SEVERAL, name="checkpoint-500")
    files_and_folders = 3 + 3  # files/, its checkpoint-500/, that one's shard/
    steps = changes(storage.content.finalize, upload(SEVERAL, name="checkpoint-500"))
    assert [step for step in steps if step != "mkdir"] == ["fsync"] * files_and_folders
    steps = [step for step in changes(storage.content.seal, "upload1", made) if step != "mkdir"]
    assert steps == ["fsync", "flush", "fsync", "rename", "fsync"]


def test_a_seal_can_be_taken_back(storage):
    made = sealed(storage, ONE)
    assert storage.content.is_sealed("upload1")
    assert storage.content.sealed() == [("upload1", made)]
    storage.content.unseal("upload1")
    storage.content.unseal("upload1")
    assert not storage.content.is_sealed("upload1")
    assert storage.content.sealed() == []
    assert storage.content.uploads() == {"upload1"}


def test_sealed_uploads_come_in_the_order_of_their_commits_and_a_damaged_seal_is_left_alone(storage, caplog):
    for sequence, upload_id in ((2, "a"), (3, "b"), (1, "c"), (4, "d")):
        sealed(storage, ONE, upload_id=upload_id, sequence=sequence)
    seal = storage.tree.root / ".holdfast" / "incoming" / "d" / "manifest.json"
    seal.write_bytes(b"{")
    assert [upload_id for upload_id, _ in storage.content.sealed()] == ["c", "a", "b"]
    assert "the seal of upload d is left alone" in caplog.text
    assert seal.read_bytes() == b"{"


def test_files_have_their_declared_size_once_they_are_final(storage):
    promised = upload(SEVERAL, name="checkpoint-500")
    storage.content.begin(promised)
    for path, data in SEVERAL.items():
        with storage.content.partial(promised, path) as partial:
            partial.write(0, data + b"remains")
    versions = storage.content.finalize(promised)
    for path, data in SEVERAL.items():
        with storage.content.partial(promised, path, create=False) as partial:
            assert partial.read(0, 100) == data
    assert storage.content.finalize(promised) == versions


def test_an_upload_that_has_lost_bytes_is_not_durable(storage):
    promised = upload(ONE)
    storage.content.begin(promised)
    with storage.content.partial(promised, "model.pt") as partial:
        partial.write(0, b"weigh")
    with pytest.raises(NotDurable, match="shorter"):
        storage.content.finalize(promised)
    with pytest.raises(FileNotFoundError), storage.content.partial(promised, "model.pt", create=False):
        pass
