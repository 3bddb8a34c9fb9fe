"""The promises of the storage ports when something is lost, damaged or in the way."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.core.errors import NameTaken
from app.core.models import Directory, Policy
from tests.data.samples import published, sealed, upload
from tests.support.live import eventually

ONE = {"model.pt": b"weights"}
RUNS_A = Directory("runs/a", datetime(2026, 11, 23, tzinfo=UTC), 3, Policy("min", 1))


@pytest.fixture
def kept(storage, records):
    """The keys of the records of a directory and of a checkpoint in it."""
    records.make_directory(RUNS_A)
    records.write_directory(RUNS_A)
    published(storage, ONE)
    return records.directory_key("runs/a"), records.manifest_key("runs/a", "model.pt")


# uploads


def test_an_upload_that_was_never_begun_takes_nothing(content):
    promised = upload(ONE)
    for create in (True, False):
        with pytest.raises(FileNotFoundError), content.partial(promised, "model.pt", create=create):
            pass
    with pytest.raises(FileNotFoundError):
        content.write_files(promised, ONE)
    with pytest.raises(FileNotFoundError):
        content.finalize(promised)
    assert content.arrived(promised) == {}
    content.discard(promised.id)
    assert content.uploads() == set()


def test_a_write_after_finalize_changes_the_version_of_that_file_alone(content):
    files = {"model.bin": b"weights", "optimizer.bin": b"momenta"}
    promised = upload(files, name="checkpoint-500")
    content.begin(promised)
    content.write_files(promised, files)
    before = content.finalize(promised)

    def changed():  # a clock may stand still for a few ms
        with content.partial(promised, "model.bin") as partial:
            partial.write(0, b"W")
        return content.finalize(promised)["model.bin"] != before["model.bin"]

    assert eventually(changed)
    assert content.finalize(promised)["optimizer.bin"] == before["optimizer.bin"]
    with content.partial(promised, "model.bin", create=False) as partial:
        assert partial.read(0, 9) == b"Weights"


def test_what_a_failed_discard_leaves_is_swept(server, content, monkeypatch):
    promised = upload(ONE)
    content.begin(promised)
    content.write_files(promised, ONE)
    with server.store.failing(monkeypatch):
        with pytest.raises(OSError, match=r"fail|removes nothing"):
            content.discard(promised.id)
        content.sweep()
        assert content.uploads() == {promised.id}
    content.sweep()
    assert content.uploads() == set()


# reading


def test_threads_read_one_open_file_at_once(storage, content):
    data = bytes(range(256)) * 4096
    made = published(storage, {"model.pt": data})
    places = [(start, start % 4099 + 1) for start in range(0, len(data), 1021)]
    with closing(content.open(made, made.files[0])) as opened, ThreadPoolExecutor(8) as threads:
        for (start, length), found in zip(places, threads.map(lambda at: opened.read(*at), places), strict=True):
            assert found == data[start : start + length]


def test_a_file_that_other_bytes_replaced_is_not_the_version_that_was_saved(server, storage, content, records):
    made = published(storage, ONE)

    def replaced():  # a clock may stand still for a few ms
        server.store.overwrite(records.content_key(made, made.files[0]), b"WEIGHTS")
        with closing(content.open(made, made.files[0])) as opened:
            assert opened.read(0, 9) == b"WEIGHTS"
            return not opened.is_version_of(made.files[0])

    assert eventually(replaced)


# records


def test_the_place_of_a_checkpoint_cannot_be_a_directory(storage, records):
    published(storage, ONE)
    with pytest.raises(NameTaken):
        records.make_directory(replace(RUNS_A, name="runs/a/model.pt"))
    assert records.read("runs/a", "model.pt").manifest


def test_a_record_that_was_changed_by_hand_is_read_with_a_warning(server, records, kept):
    for key in kept:
        said = json.loads(records.read_record(key))
        said.get("checkpoint", said)["sequence"] = 7
        server.store.overwrite(key, json.dumps(said).encode())
    found = {each.key: each for each in records.survey()}
    assert found.keys() == set(kept)
    for each, name in zip((found[key] for key in kept), (None, "model.pt"), strict=True):
        assert each.warning
        assert each.fault is None
        assert (each.directory or each.manifest.checkpoint).sequence == 7
        assert records.read("runs/a", name) == each


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"format": 99}'])
def test_a_damaged_record_is_a_fault_wherever_it_is_read(server, records, kept, data):
    for key in kept:
        server.store.overwrite(key, data)
    found = {each.key: each for each in records.survey()}
    assert found.keys() == set(kept)
    for key, name in zip(kept, (None, "model.pt"), strict=True):
        assert found[key].fault
        assert (found[key].directory, found[key].manifest) == (None, None)
        assert records.read("runs/a", name) == found[key]
        assert records.read_record(key) == data


def test_a_record_of_another_place_is_a_fault(server, records, kept):
    _, key = kept
    other = records.read_record(key)
    records.make_directory(replace(RUNS_A, name="runs/b"))
    published(server.now, ONE, directory="runs/b", upload_id="other")
    elsewhere = records.manifest_key("runs/b", "model.pt")
    server.store.overwrite(elsewhere, other)
    assert records.read("runs/b", "model.pt").fault


def test_what_a_crash_leaves_of_a_record_is_temporary(server, records, kept):
    left = [key for key in map(server.store.interrupt_record, kept) if key is not None]
    records = server.restart().records
    assert {item.key for item in records.inventory() if records.is_temporary(item.key)} == set(left)
    assert all(records.is_record(key) for key in left)
    assert {each.key for each in records.survey()} == set(kept)
    (times,) = records.times(frozenset())
    assert set(times.manifests) == {"model.pt"}
    for key in left:
        records.drop(key)
    assert not any(records.is_temporary(item.key) for item in records.inventory())


def test_an_interrupted_commit_is_finished_by_the_next_server(server):
    made = sealed(server.now, ONE)
    content = server.restart().content
    ((upload_id, found),) = content.sealed()
    assert (upload_id, found) == (made.checkpoint.id, made)
    content.publish(upload_id, found)
    with closing(content.open(made.checkpoint, made.checkpoint.files[0])) as opened:
        assert opened.read(0, 9) == b"weights"
