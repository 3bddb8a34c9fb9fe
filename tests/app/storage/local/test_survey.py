"""Surveys: records that are found and records that are refused; directories come and go without harm to others."""

import os
import shutil
from dataclasses import replace

import pytest

from app.core.errors import NameTaken
from app.core.models import Directory, Policy
from app.storage.local.store import LocalStorage
from app.storage.local.survey import MANIFEST_MAX_BYTES
from tests.data.samples import AT, below, published, sealed

FILES = {"bin": b"weights", "shard/0": b"0"}
RUNS_A = Directory("runs/a", AT, 7, Policy("max", 3))


@pytest.fixture
def storage(tmp_path):
    made = LocalStorage(tmp_path / "root", version="1")
    yield made
    made.close()


@pytest.fixture
def kept(storage):
    """A checkpoint that was published, in a directory with a policy."""
    storage.records.make_directory(RUNS_A)
    storage.records.write_directory(RUNS_A)
    return published(storage, FILES, name="model")


def test_a_survey_finds_every_directory_and_manifest(storage, kept):
    inner = replace(RUNS_A, name="runs/a/deeper")
    storage.records.write_directory(inner)
    made = sealed(storage, {"x.pt": b"x"}, directory="runs/a/deeper", name="x.pt", upload_id="other")
    storage.content.publish("other", made)
    (storage.tree.root / "theirs").mkdir()
    found = {one.key: one.directory or one.manifest for one in storage.records.survey()}
    assert list(found) == [
        "runs/a/.holdfast/directory.json",
        "runs/a/.holdfast/model.json",
        "runs/a/deeper/.holdfast/directory.json",
        "runs/a/deeper/.holdfast/x.pt.json",
    ]
    assert found["runs/a/.holdfast/directory.json"] == RUNS_A
    assert found["runs/a/.holdfast/model.json"].checkpoint == kept
    assert found["runs/a/deeper/.holdfast/directory.json"] == inner
    assert found["runs/a/deeper/.holdfast/x.pt.json"] == made


def make_huge(record):
    with record.open("wb") as file:
        file.truncate(MANIFEST_MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        pytest.param(lambda place, record: record.write_bytes(b"{"), "not readable", id="damaged"),
        pytest.param(lambda place, record: record.write_bytes(b"[]"), "not readable", id="no object"),
        pytest.param(lambda place, record: record.write_bytes(b'{"format": 2}'), "format 2", id="newer"),
        pytest.param(
            lambda place, record: record.write_bytes(record.read_bytes().replace(b'"digest": "', b'"digest": "x')),
            "digest",
            id="digests that are not hexadecimal",
        ),
        pytest.param(lambda place, record: make_huge(record), "too large", id="huge"),
        pytest.param(lambda place, record: (record.unlink(), record.mkdir()), "plain file", id="a folder"),
        pytest.param(lambda place, record: (record.unlink(), os.mkfifo(record)), "plain file", id="a pipe"),
        pytest.param(
            lambda place, record: record.rename(record.with_name("m")).with_name("model.json").symlink_to("m"),
            "plain file",
            id="a link",
        ),
        pytest.param(lambda place, record: (place / "bin").unlink(), "model/bin is missing", id="a file gone"),
        pytest.param(lambda place, record: shutil.rmtree(place), "model/bin is missing", id="all files gone"),
        pytest.param(
            lambda place, record: (place / "bin").write_bytes(b"we"), "2 bytes long instead of 7", id="a file cut short"
        ),
        pytest.param(
            lambda place, record: place.rename(place.with_name("x")).with_name("model").symlink_to("x"),
            "a file or a link",
            id="a link in place of the folder",
        ),
    ],
)
def test_a_survey_reports_what_cannot_be_believed_and_goes_on(storage, kept, damage, fault):
    other = published(storage, {"z.pt": b"z"}, name="z.pt", upload_id="other")
    damage(storage.tree.root / "runs/a/model", storage.tree.root / "runs/a/.holdfast/model.json")
    found = {one.key: one for one in storage.records.survey()}
    faulty = found["runs/a/.holdfast/model.json"]
    assert fault in faulty.fault
    assert faulty.manifest is None
    assert found["runs/a/.holdfast/z.pt.json"].manifest.checkpoint == other
    assert found["runs/a/.holdfast/directory.json"].directory == RUNS_A


@pytest.mark.parametrize("copy", ["runs/b", "runs/a/model2"])
def test_a_manifest_that_lies_elsewhere_is_not_believed(storage, kept, copy):
    root = storage.tree.root
    if copy == "runs/b":
        shutil.copytree(root / "runs/a", root / copy)
        where = "runs/b/.holdfast/model.json"
    else:
        shutil.copyfile(root / "runs/a/.holdfast/model.json", root / "runs/a/.holdfast/model2.json")
        where = "runs/a/.holdfast/model2.json"
    found = {one.key: one for one in storage.records.survey()}
    assert found[where].fault == "it speaks of runs/a/model"
    assert found["runs/a/.holdfast/model.json"].manifest.checkpoint == kept


@pytest.mark.parametrize("name", ["bad;name", ".hidden", os.fsdecode(b"\xff")], ids=ascii)
def test_a_directory_outside_the_grammar_is_a_fault_however_it_came_there(storage, kept, name):
    shutil.copytree(storage.tree.root / "runs/a", storage.tree.root / name)
    faults = [one for one in storage.records.survey() if one.fault]
    assert [one.key for one in faults] == [name]
    assert "directory name" in faults[0].fault


def test_a_survey_does_not_leave_the_root_nor_read_what_was_half_written(storage, kept, tmp_path):
    shutil.copytree(storage.tree.root / "runs", tmp_path / "outside")
    (storage.tree.root / "link").symlink_to(tmp_path / "outside")
    (storage.tree.root / "runs/a/.holdfast/.model.json.new").write_bytes(b"{")
    (storage.tree.root / "runs/a/.holdfast/notes.txt").write_bytes(b"")
    assert [one.key for one in storage.records.survey()] == [
        "runs/a/.holdfast/directory.json",
        "runs/a/.holdfast/model.json",
    ]


def test_a_directory_is_made_and_dropped_again(storage):
    before = below(storage.tree.root)
    storage.records.make_directory(RUNS_A)
    storage.records.make_directory(RUNS_A)
    assert (storage.tree.root / "runs/a/.holdfast").is_dir()
    storage.records.drop_directory("runs/a")
    storage.records.drop_directory("runs/a")
    assert below(storage.tree.root) == before


@pytest.mark.parametrize("place", ["runs/a/theirs", "runs/theirs", "runs/a/.holdfast/directory.json"])
def test_dropping_a_directory_leaves_what_came_to_lie_there(storage, place):
    storage.records.make_directory(RUNS_A)
    (storage.tree.root / place).write_bytes(b"theirs")
    storage.records.drop_directory("runs/a")
    assert (storage.tree.root / place).read_bytes() == b"theirs"


@pytest.mark.parametrize("place", ["runs", "runs/a"])
@pytest.mark.parametrize("link", [True, False], ids=["a link", "a file"])
def test_a_directory_cannot_be_made_where_something_else_is(storage, tmp_path, place, link):
    taken = storage.tree.root / place
    taken.parent.mkdir(exist_ok=True)
    taken.symlink_to(tmp_path) if link else taken.write_bytes(b"theirs")
    before = below(tmp_path)
    with pytest.raises(NameTaken):
        storage.records.make_directory(RUNS_A)
    assert below(tmp_path) == before
