"""Foreign files among those of a checkpoint: a removal deletes the server's files and none of the others."""

import pytest

from app.storage.local.store import LocalStorage
from tests.data.samples import below, files_in, published

OLD = {"model": b"old"}
OLD_SEVERAL = {"bin": b"old", "shard/0": b"0", "shard/1": b"1"}


@pytest.fixture
def storage(tmp_path):
    made = LocalStorage(tmp_path / "root", version="1")
    yield made
    made.close()


@pytest.mark.parametrize("files", [OLD, OLD_SEVERAL], ids=["a file", "a folder"])
def test_withdrawing_what_was_replaced_leaves_its_successor(storage, files):
    old = published(storage, files, name="model", upload_id="old")
    for path in files:
        if path == "shard/1":
            (storage.tree.root / "runs/a/model" / path).unlink()
    published(storage, dict.fromkeys(files, b"newer"), name="model", upload_id="new", sequence=2, replaces=old.id)
    before = below(storage.tree.root)
    storage.content.move_to_trash(old)
    assert below(storage.tree.root) == before
    storage.content.purge(old.id)
    assert set(files_in(below(storage.tree.root), "runs/a").values()) == {b"newer"}


@pytest.mark.parametrize("damage", ["{", None], ids=["damaged", "gone"])
def test_what_no_manifest_claims_is_not_withdrawn(storage, damage):
    made = published(storage, OLD, name="model")
    record = storage.tree.root / "runs/a/.holdfast/model.json"
    record.unlink() if damage is None else record.write_text(damage)
    before = below(storage.tree.root)
    storage.content.move_to_trash(made)
    assert below(storage.tree.root) == before


@pytest.mark.parametrize("files", [OLD, OLD_SEVERAL], ids=["a file", "a folder"])
def test_what_others_put_into_the_free_place_survives_another_withdrawal(storage, files):
    made = published(storage, files, name="model")
    storage.content.move_to_trash(made)
    (storage.tree.root / "runs/a/model").write_bytes(b"theirs")
    storage.content.move_to_trash(made)
    storage.content.purge(made.id)
    assert files_in(below(storage.tree.root), "runs/a") == {"model": b"theirs"}


def test_a_folder_that_others_put_in_place_of_the_file_survives(storage):
    made = published(storage, OLD, name="model")
    place = storage.tree.root / "runs/a/model"
    place.unlink()
    place.mkdir()
    (place / "log").write_bytes(b"theirs")
    storage.content.move_to_trash(made)
    storage.content.purge(made.id)
    assert files_in(below(storage.tree.root), "runs/a") == {"model/log": b"theirs"}


def test_a_link_that_others_put_into_the_folder_survives(storage, tmp_path):
    made = published(storage, OLD_SEVERAL, name="model")
    link = storage.tree.root / "runs/a/model/link"
    link.symlink_to(tmp_path)
    storage.content.move_to_trash(made)
    storage.content.purge(made.id)
    assert link.readlink() == tmp_path


def test_a_file_that_others_put_into_the_folder_again_survives_another_withdrawal(storage):
    made = published(storage, OLD_SEVERAL, name="model")
    place = storage.tree.root / "runs/a/model"
    (place / "log").write_bytes(b"theirs")
    storage.content.move_to_trash(made)
    (place / "bin").write_bytes(b"theirs")
    storage.content.move_to_trash(made)
    storage.content.purge(made.id)
    assert files_in(below(storage.tree.root), "runs/a") == {"model/bin": b"theirs", "model/log": b"theirs"}


def test_a_file_that_others_took_from_the_folder_does_not_hinder_a_withdrawal(storage):
    made = published(storage, OLD_SEVERAL, name="model")
    place = storage.tree.root / "runs/a/model"
    (place / "log").write_bytes(b"theirs")
    (place / "shard/0").unlink()
    storage.content.move_to_trash(made)
    assert files_in(below(storage.tree.root), "runs/a") == {"model/log": b"theirs"}
