"""The promises of the storage ports, held by every store: the local one, and one in memory that has no file system.

A new store adds a line to `STORES` in `tests.support.stores`. `test_conformance_is_complete` finds a member without a
case.
"""

from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta

import pytest

from app.core.errors import ForeignFile
from app.core.models import Directory, Facts, Manifest, Policy, RootMark
from app.core.spans import Span
from app.storage import manifest as manifests
from tests.data.samples import AT, published, sealed, sealed_whole, upload
from tests.support.live import eventually

ONE = {"model.pt": b"weights"}
NEWER = {"model.pt": b"newer weights"}
SEVERAL = {"model.bin": b"weights", "shard/0": b"", "shard/.metadata": b"{}"}
KINDS = [
    pytest.param("model.pt", ONE, id="one file"),
    pytest.param("checkpoint-500", SEVERAL, id="a folder"),
]
RUNS_A = Directory("runs/a", AT, 3, Policy("min", 1))


def read(content, checkpoint):
    """The bytes of each file of a checkpoint, by path."""
    with ExitStack() as stack:
        files = {file.path: stack.enter_context(closing(content.open(checkpoint, file))) for file in checkpoint.files}
        return {path: file.read(0, file.size_bytes + 1) for path, file in files.items()}


def removed(checkpoint, because="deleted"):
    return replace(checkpoint, removed_at=AT + timedelta(hours=1), removed_because=because)


# uploads


def test_an_upload_begins_empty_and_keeps_its_bytes_when_it_begins_again(content):
    promised = upload(SEVERAL, name="checkpoint-500")
    content.begin(promised)
    for path in SEVERAL:
        with pytest.raises(FileNotFoundError), content.partial(promised, path, create=False):
            pass
    with content.partial(promised, "shard/0") as partial:
        assert (partial.size_bytes(), list(partial.written())) == (0, [])
        partial.write(2, b"cd")
        partial.write(0, memoryview(b"ab"))
    content.begin(promised)
    with content.partial(promised, "shard/0", create=False) as partial:
        assert (partial.size_bytes(), partial.read(0, 9), partial.read(1, 2)) == (4, b"abcd", b"bc")
    assert content.uploads() == {"upload1"}


def test_bytes_are_written_where_they_belong_in_any_order(content):
    promised = upload(ONE)
    content.begin(promised)
    with content.partial(promised, "model.pt") as partial:
        partial.allocate(Span(0, 7))
        partial.write(4, bytearray(b"hts"))
        partial.write(0, b"weig")
        assert partial.read(0, 99) == b"weights"
        assert partial.allocated_bytes() >= 0
        spans = list(partial.written())
    assert spans[0].start == 0
    assert spans[-1].stop >= 7


def test_no_byte_counts_as_written_beyond_the_end(content):
    promised = upload(ONE)
    content.begin(promised)
    with content.partial(promised, "model.pt") as partial:
        partial.write(0, b"wei")
        assert all(span.stop <= partial.size_bytes() for span in partial.written())


def test_whole_files_are_written_at_once(content):
    promised = upload(SEVERAL, name="checkpoint-500")
    content.begin(promised)
    content.write_files(promised, {"model.bin": b"weights", "shard/.metadata": memoryview(b"{}")})
    with content.partial(promised, "shard/.metadata", create=False) as partial:
        assert partial.read(0, 9) == b"{}"


def test_a_store_that_copies_a_span_itself_copies_just_that_span(content):
    source = published(content_of(content), ONE)
    promised = upload(NEWER, upload_id="other", name="other.pt")
    content.begin(promised)
    with closing(content.open(source, source.files[0])) as opened, content.partial(promised, "model.pt") as partial:
        partial.write(0, b"0123456")
        if partial.share(opened, 0, Span(0, 4)):
            assert partial.read(0, 9) == b"weig456"
        else:
            assert partial.read(0, 9) == b"0123456"


def content_of(content):
    """The parts of a storage that the helpers of `samples` need."""

    class Only:
        pass

    only = Only()
    only.content = content
    return only


def test_a_file_of_an_upload_is_removed_renamed_or_left_out(content):
    several = {"a/b/c": b"one", "a/d": b"two", "e": b"three", "f": b"four"}
    promised = upload(several, name="checkpoint-500")
    content.begin(promised)
    content.write_files(promised, several)
    content.remove_file(promised, "a/b/c")
    content.remove_file(promised, "a/b/c")
    content.rename_file(promised, "e", "a/b")
    content.rename_file(promised, "e", "a/b")
    content.rename_file(promised, "a/b", "a/d")
    kept = replace(promised, files=tuple(replace(file, path="a/d") for file in promised.files if file.path == "e"))
    content.keep_only(kept)
    for path in ("a/b/c", "a/b", "e", "f"):
        with pytest.raises(FileNotFoundError), content.partial(promised, path, create=False):
            pass
    with content.partial(promised, "a/d", create=False) as partial:
        assert partial.read(0, 9) == b"three"
    content.write_files(promised, {"e/g": b"a folder where a file was"})
    assert content.finalize(kept).keys() == {"a/d"}
    content.keep_only(kept)
    content.keep_only(promised)


def test_a_discarded_upload_takes_nothing_more(content):
    promised = upload(ONE)
    content.begin(promised)
    content.discard(promised.id)
    content.discard(promised.id)
    content.sweep()
    assert content.uploads() == set()
    with pytest.raises(FileNotFoundError), content.partial(promised, "model.pt"):
        pass
    with pytest.raises(FileNotFoundError):
        content.write_files(promised, {"model.pt": b"late"})
    with pytest.raises(FileNotFoundError):
        content.finalize(promised)
    assert content.uploads() == set()


def test_finalizing_makes_empty_files_and_gives_a_version_of_each(content):
    promised = upload(SEVERAL, name="checkpoint-500")
    content.begin(promised)
    content.write_files(promised, {path: data for path, data in SEVERAL.items() if data})
    versions = content.finalize(promised)
    assert versions.keys() == SEVERAL.keys()
    assert all(isinstance(version, str) and version for version in versions.values())
    assert content.finalize(promised) == versions


def test_an_upload_that_lacks_a_file_cannot_be_finalized(content):
    promised = upload(SEVERAL, name="checkpoint-500")
    content.begin(promised)
    with pytest.raises(FileNotFoundError):
        content.finalize(promised)


def test_an_upload_survives_a_restart(server):
    promised = upload(ONE)
    server.now.content.begin(promised)
    server.now.content.write_files(promised, ONE)
    content = server.restart().content
    assert content.uploads() == {"upload1"}
    content.begin(promised)
    with content.partial(promised, "model.pt", create=False) as partial:
        assert partial.read(0, 9) == b"weights"


# commit


def test_a_seal_can_be_taken_back_and_repeated(storage, content):
    made = sealed(storage, ONE)
    content.seal("upload1", made)
    assert content.is_sealed("upload1")
    assert list(content.sealed()) == [("upload1", made)]
    content.unseal("upload1")
    content.unseal("upload1")
    assert not content.is_sealed("upload1")
    assert list(content.sealed()) == []
    assert content.uploads() == {"upload1"}


def test_seals_come_in_the_order_of_their_sequences_also_after_a_restart(server):
    for sequence, upload_id in ((2, "a"), (3, "b"), (1, "c")):
        sealed(server.now, ONE, upload_id=upload_id, sequence=sequence)
    assert [upload_id for upload_id, _ in server.restart().content.sealed()] == ["c", "a", "b"]


def test_a_discarded_upload_has_no_seal(storage, content):
    sealed(storage, ONE)
    content.discard("upload1")
    assert not content.is_sealed("upload1")
    assert list(content.sealed()) == []


@pytest.mark.parametrize("seal", [sealed, sealed_whole])
@pytest.mark.parametrize(("name", "files"), KINDS)
def test_publishing_is_idempotent_and_survives_a_restart(server, name, files, seal):
    made = seal(server.now, files, name=name)
    assert list(server.restart().content.sealed()) == [("upload1", made)]
    for _ in range(2):
        server.now.content.publish("upload1", made)
        content = server.restart().content
        assert read(content, made.checkpoint) == files
        assert content.is_sealed("upload1")
    content.publish("upload1", made)
    content.discard("upload1")
    content.publish("upload1", made)
    assert read(content, made.checkpoint) == files
    assert content.uploads() == content.trash() == set()


@pytest.mark.parametrize(("name", "files"), KINDS)
def test_an_upload_that_is_written_whole_can_be_read_unsealed_and_discarded(storage, content, name, files):
    promised = upload(files, name=name)
    assert content.write_whole(promised, files).keys() == files.keys()
    content.discard("upload1")
    assert content.uploads() == set()
    made = sealed_whole(storage, files, name=name)
    for path, data in files.items():
        with content.partial(promised, path, create=False) as partial:
            assert partial.read(0, 99) == data
    content.unseal("upload1")
    assert not content.is_sealed("upload1")
    content.seal("upload1", made)
    content.publish("upload1", made)
    content.discard("upload1")
    assert content.uploads() == set()
    for file in made.checkpoint.files:
        with closing(content.open(made.checkpoint, file)) as opened:
            assert opened.is_version_of(file)


def test_a_manifest_that_was_a_seal_is_replaced_by_one_with_other_facts(storage, content, records):
    made = sealed_whole(storage, ONE)
    content.publish("upload1", made)
    changed = replace(made, checkpoint=replace(made.checkpoint, facts=Facts(epoch=7)))
    records.write_manifest(changed)
    assert list(content.sealed()) == [("upload1", made)]
    content.discard("upload1")
    (found,) = [record.manifest for record in records.survey() if record.manifest is not None]
    assert found == changed


def test_a_checkpoint_without_its_bytes_is_not_published(storage, content, records):
    made = sealed(storage, ONE)
    content.discard("upload1")
    with pytest.raises(FileNotFoundError):
        content.publish("upload1", made)
    assert list(records.survey()) == []


def test_the_version_at_finalize_is_that_of_the_published_file(storage, content):
    made = published(storage, SEVERAL, name="checkpoint-500")
    for file in made.files:
        with closing(content.open(made, file)) as opened:
            assert opened.version == file.version
            assert opened.is_version_of(file)
            assert opened.is_as_opened()
            assert not opened.is_version_of(replace(file, version="another"))
            assert not opened.is_version_of(replace(file, size_bytes=file.size_bytes + 1))


def test_versions_survive_a_restart_a_removal_and_a_restoration(server):
    made = published(server.now, ONE)
    content = server.restart().content
    content.move_to_trash(made)
    content.restore(made)
    with closing(content.open(made, made.files[0])) as opened:
        assert opened.is_version_of(made.files[0])


def test_a_file_of_other_bytes_has_another_version(storage, content):
    old = published(storage, ONE)
    new = published(storage, {"model.pt": b"WEIGHTS"}, upload_id="new", sequence=2, replaces=old.id)
    with closing(content.open(new, new.files[0])) as opened:
        assert not opened.is_version_of(old.files[0])


@pytest.mark.parametrize(("name", "files"), KINDS)
def test_a_replaced_checkpoint_is_in_the_trash(storage, content, name, files):
    old = published(storage, files, name=name)
    new = published(storage, {path: data + b"+" for path, data in files.items()}, name=name, upload_id="new",
                    sequence=2, replaces=old.id)  # fmt: skip
    assert read(content, new) == {path: data + b"+" for path, data in files.items()}
    assert content.trash() == {old.id}
    assert content.is_in_trash(old)
    assert [found.because for found in content.trashed()] == ["replaced"]


def test_another_checkpoint_is_in_the_way_unless_it_is_to_be_replaced(storage, content):
    assert content.conflict("runs/a", "model.pt", None) is None
    old = published(storage, ONE)
    assert content.conflict("runs/a", "model.pt", None)
    assert content.conflict("runs/a", "model.pt", old) is None
    assert content.conflict("runs/a", "model.pt", replace(old, id="another"))
    made = sealed(storage, NEWER, upload_id="new", sequence=2)
    with pytest.raises(ForeignFile):
        content.publish("new", made)
    assert read(content, old) == ONE
    content.move_to_trash(old)
    assert content.conflict("runs/a", "model.pt", None) is None
    content.publish("new", made)
    assert read(content, made.checkpoint) == NEWER


# reading


def test_a_file_is_read_at_any_offset(storage, content):
    made = published(storage, ONE)
    with closing(content.open(made, made.files[0])) as found:
        assert found.size_bytes == 7
        found.evict(0, 7)
        assert (found.read(0, 3), found.read(3, 99), found.read(7, 1)) == (b"wei", b"ghts", b"")


def test_a_file_that_is_open_can_be_read_to_its_end_although_it_is_purged(storage, content):
    made = published(storage, ONE)
    with closing(content.open(made, made.files[0])) as found:
        content.move_to_trash(made)
        content.purge(made.id)
        assert found.read(0, 9) == b"weights"
    with pytest.raises(FileNotFoundError):
        content.open(made, made.files[0])


def test_a_removed_checkpoint_cannot_be_opened(storage, content):
    made = published(storage, ONE)
    content.move_to_trash(made)
    with pytest.raises(FileNotFoundError):
        content.open(made, made.files[0])


# removal


@pytest.mark.parametrize(("name", "files"), KINDS)
def test_removal_and_restoration_are_idempotent(server, name, files):
    made = published(server.now, files, name=name)
    content = server.now.content
    assert not content.is_in_trash(made)
    for _ in range(2):
        content.move_to_trash(removed(made), note=True)
        assert content.is_in_trash(made)
        assert content.trash() == {made.id}
    content = server.restart().content
    assert content.is_in_trash(made)
    for _ in range(2):
        content.restore(made)
        assert not content.is_in_trash(made)
        assert content.trash() == set()
        assert read(content, made) == files
    assert read(server.restart().content, made) == files


@pytest.mark.parametrize(("name", "files"), KINDS)
def test_purging_is_idempotent_and_final(server, name, files):
    made = published(server.now, files, name=name)
    content = server.now.content
    content.move_to_trash(made)
    content.purge(made.id)
    content.purge(made.id)
    content.restore(made)
    assert content.trash() == set()
    assert not content.is_in_trash(made)
    storage = server.restart()
    assert list(storage.content.trashed()) == []
    assert list(storage.records.survey()) == []


def test_purging_leaves_what_is_in_its_place(storage, content):
    made = published(storage, ONE)
    content.purge("another")
    content.move_to_trash(replace(made, id="another"))
    assert read(content, made) == ONE


def test_the_trash_tells_when_and_why_after_a_restart(server):
    made = removed(published(server.now, ONE), because="pruned")
    server.now.content.move_to_trash(made, note=True)
    (found,) = server.restart().content.trashed()
    assert (found.manifest.checkpoint.id, found.removed_at, found.because) == (made.id, made.removed_at, "pruned")


def test_a_checkpoint_is_not_restored_over_another(storage, content):
    old = published(storage, ONE)
    content.move_to_trash(old)
    new = published(storage, NEWER, upload_id="new", sequence=2)
    with pytest.raises(ForeignFile):
        content.restore(old)
    assert read(content, new) == NEWER
    assert content.is_in_trash(old)
    content.move_to_trash(new)
    content.restore(old)
    assert read(content, old) == ONE


# records


def test_a_manifest_is_replaced_by_one_with_other_facts(server):
    made = sealed(server.now, ONE)
    server.now.content.publish("upload1", made)
    changed = Manifest(replace(made.checkpoint, facts=Facts(pinned=True)), made.maps)
    for _ in range(2):
        server.now.records.write_manifest(changed)
    assert server.restart().records.read("runs/a", "model.pt").manifest == changed


def test_a_directory_has_a_record_of_its_own(server):
    records = server.now.records
    records.make_directory(RUNS_A)
    records.make_directory(RUNS_A)
    assert records.read("runs/a", None).directory is None
    records.write_directory(RUNS_A)
    records.write_directory(replace(RUNS_A, sequence=4))
    records.drop_directory("runs/a")
    records = server.restart().records
    assert records.read("runs/a", None).directory == replace(RUNS_A, sequence=4)
    records.forget_directory("runs/a")
    records.forget_directory("runs/a")
    records.drop_directory("runs/a")
    assert list(records.survey()) == []


def test_a_directory_that_holds_a_checkpoint_is_not_dropped(storage, content, records):
    records.make_directory(RUNS_A)
    made = published(storage, ONE)
    records.drop_directory("runs/a")
    assert read(content, made) == ONE
    assert records.read("runs/a", "model.pt").manifest


def test_a_survey_after_a_restart_finds_everything_that_was_published(server):
    server.now.records.make_directory(RUNS_A)
    server.now.records.write_directory(RUNS_A)
    one = sealed(server.now, ONE, upload_id="one")
    several = sealed(server.now, SEVERAL, name="checkpoint-500", directory="runs/a/b", upload_id="several")
    for made in (one, several):
        server.now.content.publish(made.checkpoint.id, made)
    sealed(server.now, NEWER, name="not-published.pt", upload_id="third")
    found = list(server.restart().records.survey())
    assert [each.fault or each.warning for each in found] == [None] * 3
    assert [each.directory for each in found if each.directory] == [RUNS_A]
    assert sorted(each.manifest.checkpoint.id for each in found if each.manifest) == ["one", "several"]
    assert {each.key for each in found} == {
        server.now.records.directory_key("runs/a"),
        server.now.records.manifest_key("runs/a", "model.pt"),
        server.now.records.manifest_key("runs/a/b", "checkpoint-500"),
    }


def test_a_survey_reports_a_manifest_whose_bytes_are_gone(storage, records):
    made = published(storage, ONE)
    records.drop(records.content_key(made, made.files[0]))
    (found,) = records.survey()
    assert found.manifest is None
    assert found.fault
    assert records.read("runs/a", "model.pt") == found


def test_a_missing_record_is_a_fault(records):
    assert records.read("runs/a", "model.pt").fault
    assert records.read("runs/a", None).fault
    with pytest.raises(FileNotFoundError):
        records.read_record(records.manifest_key("runs/a", "model.pt"))


def test_the_times_of_records_grow_when_they_are_written(storage, records):
    assert list(records.times(frozenset())) == []
    records.make_directory(RUNS_A)
    records.write_directory(RUNS_A)
    made = sealed(storage, ONE)
    storage.content.publish("upload1", made)
    (before,) = records.times(frozenset())
    assert (before.directory, set(before.manifests)) == ("runs/a", {"model.pt"})
    records.write_manifest(made)
    records.write_directory(RUNS_A)
    (after,) = records.times(frozenset())
    assert after.manifests["model.pt"] >= before.manifests["model.pt"]
    assert after.record_ns >= before.record_ns

    def grown():  # a clock may stand still for a few ms
        records.write_manifest(made)
        records.write_directory(RUNS_A)
        (after,) = records.times(frozenset())
        return after.manifests["model.pt"] > before.manifests["model.pt"] and after.record_ns > before.record_ns

    assert eventually(grown)


def test_times_need_not_look_into_the_folders_of_checkpoints(storage, records):
    published(storage, SEVERAL, name="checkpoint-500")
    (found,) = records.times(frozenset({"runs/a/checkpoint-500"}))
    assert (found.record_ns, set(found.manifests)) == (None, {"checkpoint-500"})


# inventory


def files_of(records):
    return {item.key: item for item in records.inventory() if not item.is_folder}


@pytest.mark.parametrize(("name", "files"), KINDS)
def test_the_inventory_lists_files_and_records_by_their_keys(storage, records, name, files):
    assert files_of(records) == {}
    records.make_directory(RUNS_A)
    records.write_directory(RUNS_A)
    made = published(storage, files, name=name)
    found = files_of(records)
    contents = {records.content_key(made, file): file for file in made.files}
    record_keys = {records.manifest_key("runs/a", name), records.directory_key("runs/a")}
    assert found.keys() == contents.keys() | record_keys
    assert all(item.is_plain and item.hidden is None for item in found.values())
    assert {key for key in found if records.is_record(key)} == record_keys
    assert not any(records.is_temporary(key) for key in found)
    for key, file in contents.items():
        assert (found[key].size_bytes, found[key].version) == (file.size_bytes, file.version)
        with closing(records.open_item(key)) as opened:
            assert opened.read(0, 99) == files[file.path]


def test_the_folder_of_a_place_is_listed_while_it_is_there(storage, records):
    key = records.place_key("runs/a")
    assert key not in {item.key for item in records.inventory()}
    records.make_directory(RUNS_A)
    assert key is None or {item.key: item.is_folder for item in records.inventory()}[key]
    records.drop_directory("runs/a")
    assert key not in {item.key for item in records.inventory()}


def test_what_is_below_a_folder_has_a_key_below_its_key(storage, records):
    published(storage, SEVERAL, name="checkpoint-500")
    other = published(storage, ONE, name="checkpoint-5", upload_id="other", sequence=2)
    items = list(records.inventory())
    assert all(records.is_below(item.key, item.key) for item in items)
    folders = {item.key for item in items if item.is_folder}
    place = records.place_key("runs/a")
    if place is not None:
        assert records.is_below(records.manifest_key("runs/a", "checkpoint-5"), place)
        assert not records.is_below(records.content_key(other, other.files[0]), place)
    below = {folder: {item.key for item in items if records.is_below(item.key, folder)} for folder in folders}
    for folder, keys in below.items():
        assert {folder} < keys, "a folder without anything in it"
    for one in folders:
        for another in folders:
            assert below[one] <= below[another] or below[another] <= below[one] or not below[one] & below[another]


def test_the_inventory_says_nothing_of_uploads_and_trash(storage, records):
    made = published(storage, ONE)
    sealed(storage, NEWER, upload_id="new", sequence=2)
    storage.content.move_to_trash(made)
    assert files_of(records) == {}


def test_a_record_is_read_as_it_was_written(storage, records):
    made = sealed(storage, ONE)
    storage.content.publish("upload1", made)
    data = records.read_record(records.manifest_key("runs/a", "model.pt"))
    assert manifests.load(data) == made
    assert manifests.is_as_written(data)


def test_a_file_can_have_its_key_back(storage, content, records):
    made = published(storage, ONE)
    other = published(storage, NEWER, name="other.pt", upload_id="other", sequence=2)
    key, elsewhere = (records.content_key(each, each.files[0]) for each in (made, other))
    with pytest.raises(FileExistsError):
        records.put_back(elsewhere, key)
    records.drop(key)
    records.drop(key)
    with pytest.raises(FileNotFoundError):
        content.open(made, made.files[0])
    records.put_back(elsewhere, key)
    assert read(content, made) == NEWER
    with pytest.raises(FileNotFoundError):
        records.open_item(elsewhere)


# marks


def test_a_store_is_new_until_it_was_opened_once(server):
    assert server.now.marks.is_new
    assert not server.restart().marks.is_new


def test_marks_outlive_a_restart(server):
    marks = server.now.marks
    assert (marks.last_opening(), marks.is_protected, marks.revoked) == (None, False, frozenset())
    opened = RootMark("0" * 32, "1" * 32)
    for _ in range(2):
        marks.note_opening(RootMark("0" * 32, "2" * 32))
        marks.note_opening(opened)
        marks.protect()
        marks.revoke("one")
        marks.revoke("two")
        marks.upgrade()
    marks = server.restart().marks
    assert (marks.last_opening(), marks.is_protected, marks.revoked) == (opened, True, {"one", "two"})
