"""Checkpoints as plain files in a place where anyone can read them, and never over what is not ours."""

import os
import shutil
from contextlib import closing
from dataclasses import replace

import pytest

from app.core.errors import ForeignFile
from app.core.models import Facts, Manifest
from app.storage import manifest as manifests
from app.storage.local.store import LocalStorage
from tests.data.samples import below, published, sealed

ONE = {"model.pt": b"weights"}
SEVERAL = {"model.bin": b"weights", "shard/0": b"", "shard/.metadata": b"{}"}
KINDS = [
    pytest.param("model.pt", ONE, id="one file"),
    pytest.param("checkpoint-500", SEVERAL, id="a folder"),
    pytest.param("model.pt", {"other.pt": b"weights"}, id="a folder of one file"),
]


@pytest.fixture
def storage(tmp_path):
    made = LocalStorage(tmp_path / "root", version="1")
    yield made
    made.close()


def place_of(storage, name, directory="runs/a"):
    return storage.tree.root / directory / name


@pytest.mark.parametrize(("name", "files"), KINDS)
def test_a_published_checkpoint_is_plain_files_and_a_manifest(storage, name, files):
    made = sealed(storage, files, name=name)
    storage.content.publish("upload1", made)
    storage.content.discard("upload1")
    for file in made.checkpoint.files:
        place = storage.tree.root / made.checkpoint.stored_at(file)
        assert (place.read_bytes(), str(place.stat().st_mtime_ns)) == (files[file.path], file.version)
        assert place.stat().st_nlink == 1
    assert place_of(storage, name).is_dir() == (files is not ONE)
    assert manifests.load(place_of(storage, f".holdfast/{name}.json").read_bytes()) == made
    assert storage.content.uploads() == storage.content.trash() == set()


OCCUPY = [
    pytest.param(lambda place, outside: place.write_bytes(b"weights"), id="a file of the same bytes"),
    pytest.param(lambda place, outside: place.mkdir(), id="an empty folder"),
    pytest.param(lambda place, outside: shutil.copytree(outside, place), id="a folder"),
    pytest.param(lambda place, outside: place.symlink_to(outside), id="a link"),
    pytest.param(lambda place, outside: place.symlink_to(outside / "not-there"), id="a dangling link"),
    pytest.param(lambda place, outside: os.mkfifo(place), id="a pipe"),
]


@pytest.mark.parametrize("occupy", OCCUPY)
@pytest.mark.parametrize(("name", "files"), KINDS)
def test_what_is_not_ours_is_never_overwritten(storage, tmp_path, name, files, occupy):
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (tmp_path / "outside" / "inner" / "theirs").write_bytes(b"theirs")
    made = sealed(storage, files, name=name)
    place_of(storage, "").mkdir(parents=True)
    occupy(place_of(storage, name), tmp_path / "outside")
    before = below(tmp_path)
    assert storage.content.conflict("runs/a", name, None) == f"runs/a/{name}"
    with pytest.raises(ForeignFile):
        storage.content.publish("upload1", made)
    assert below(tmp_path) == before
    place_of(storage, name).rename(tmp_path / "moved-away")
    assert storage.content.conflict("runs/a", name, None) is None
    storage.content.publish("upload1", made)
    with closing(storage.content.open(made.checkpoint, made.checkpoint.files[0])) as found:
        assert found.read(0, 9) == b"weights"


def test_nothing_is_published_through_a_link(storage, tmp_path):
    (tmp_path / "outside").mkdir()
    (storage.tree.root / "runs").symlink_to(tmp_path / "outside")
    made = sealed(storage, ONE)
    with pytest.raises(ForeignFile):
        storage.content.publish("upload1", made)
    assert below(tmp_path / "outside") == {}


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        pytest.param(lambda place: None, None, id="as it was published"),
        pytest.param(lambda place: (place / "log").write_bytes(b""), "runs/a/checkpoint-500/log", id="a file more"),
        pytest.param(lambda place: (place / "log").symlink_to("."), "runs/a/checkpoint-500/log", id="a link more"),
        pytest.param(lambda place: (place / "model.bin").unlink(), None, id="a file less"),
        pytest.param(lambda place: shutil.rmtree(place), None, id="all gone"),
        pytest.param(
            lambda place: (shutil.rmtree(place), place.write_bytes(b"")), "runs/a/checkpoint-500", id="a file instead"
        ),
    ],
)
def test_a_folder_that_is_to_be_replaced_is_in_the_way_where_others_added_to_it(storage, change, obstacle):
    old = published(storage, SEVERAL, name="checkpoint-500")
    change(place_of(storage, "checkpoint-500"))
    assert storage.content.conflict("runs/a", "checkpoint-500", old) == obstacle


def test_a_folder_in_place_of_the_file_that_is_to_be_replaced_is_in_the_way(storage):
    old = published(storage, ONE)
    place_of(storage, "model.pt").unlink()
    place_of(storage, "model.pt").mkdir()
    assert storage.content.conflict("runs/a", "model.pt", old) == "runs/a/model.pt"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda storage, record: record.write_text("{"), id="damaged"),
        pytest.param(lambda storage, record: record.unlink(), id="gone"),
        pytest.param(
            lambda storage, record: storage.records.write_manifest(sealed(storage, ONE, upload_id="other")),
            id="of another checkpoint",
        ),
    ],
)
def test_a_file_is_ours_only_while_its_manifest_says_so(storage, change):
    old = published(storage, ONE)
    change(storage, place_of(storage, ".holdfast/model.pt.json"))
    assert storage.content.conflict("runs/a", "model.pt", old) == "runs/a/model.pt"


def test_a_manifest_can_be_put_anew(storage):
    made = sealed(storage, ONE)
    storage.content.publish("upload1", made)
    changed = Manifest(replace(made.checkpoint, facts=Facts(pinned=True)), made.maps)
    storage.records.write_manifest(changed)
    assert manifests.load(place_of(storage, ".holdfast/model.pt.json").read_bytes()) == changed


def test_a_file_is_read_at_any_offset_and_only_if_it_is_a_plain_file(storage, tmp_path):
    made = published(storage, ONE)
    with closing(storage.content.open(made, made.files[0])) as found:
        assert (found.size_bytes, found.version) == (7, made.files[0].version)
        assert (found.read(0, 3), found.read(3, 99), found.read(7, 1)) == (b"wei", b"ghts", b"")
    place = place_of(storage, "model.pt")
    place.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        storage.content.open(made, made.files[0])
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ForeignFile):
        storage.content.open(made, made.files[0])
