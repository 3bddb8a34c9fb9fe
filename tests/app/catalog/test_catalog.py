"""The catalog keeps what it acknowledges, on every connection."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import event, text

from app.catalog import Catalog, ListFilter
from app.core.errors import CatalogUnusable
from app.core.models import Chunk, Directory, FileMap, Manifest, Tensor
from tests.data.samples import checkpoint, upload
from tests.support.deadlines import DEADLINE_S


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield made
    made.close()


@pytest.mark.parametrize(("pragma", "value"), [("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)])
def test_every_connection_is_set_to_survive_a_power_cut(catalog, pragma, value):
    together = Barrier(4)

    def ask(writes):
        with catalog.writing() if writes else catalog.reading() as session:
            if not writes:
                together.wait(timeout=DEADLINE_S)  # so that each has a connection of its own
            return session.connection.execute(text(f"PRAGMA {pragma}")).scalar()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, [False] * 4)) == {value}
    assert ask(True) == value


def test_an_exception_undoes_the_whole_transaction(catalog):
    def fail():
        with catalog.writing() as session:
            session.directories.put(Directory("runs/a", datetime.now(UTC), sequence=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with catalog.reading() as session:
        assert session.directories.get("runs/a") is None


def test_an_upload_of_many_tensors_is_parsed_once_and_never_stale(catalog):
    tensors = tuple(Tensor(f"layer.{number}", "float32", (64,), number, 256) for number in range(5_000))
    begun = upload({"model.pt": b"weights"})
    begun = replace(begun, files=(replace(begun.files[0], tensors=tensors),))
    with catalog.writing() as session:
        session.uploads.add(begun)
    with catalog.reading() as session:
        first, second = session.uploads.get(begun.id), session.uploads.get(begun.id)
    assert first == begun
    assert first.files is second.files
    changed = replace(begun, files=(replace(begun.files[0], tensors=tensors[:-1]),))
    later = begun.expires_at + timedelta(hours=1)
    with catalog.writing() as session:
        session.uploads.change(changed)
        session.uploads.renew(begun.id, later)
    with catalog.reading() as session:
        assert session.uploads.get(begun.id) == replace(changed, expires_at=later)
    with catalog.writing() as session:
        session.uploads.remove(begun.id)
    with catalog.reading() as session:
        assert session.uploads.get(begun.id) is None


def test_writers_come_one_after_the_other(catalog):
    with catalog.writing() as session:
        session.directories.put(Directory("runs/a", datetime.now(UTC)))

    def count(_):
        with catalog.writing() as session:
            found = session.directories.get("runs/a")
            session.directories.put(Directory("runs/a", found.created_at, sequence=found.sequence + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    with catalog.reading() as session:
        assert session.directories.get("runs/a").sequence == 40


def test_a_database_that_is_none_is_refused_in_words(tmp_path):
    (tmp_path / "catalog.db").write_bytes(b"this is no database, and never was one" * 100)
    with pytest.raises(CatalogUnusable, match="cannot be used"):
        Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")


@pytest.mark.parametrize("question", ["in_trash", "to_move_to_trash", "with_stale_manifest"])
def test_what_is_to_be_done_is_found_without_looking_at_everything(catalog, question):
    statements = []
    with catalog.reading() as session:
        engine = session.connection.engine
        listener = lambda *about: statements.append(about[2])  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        getattr(session.checkpoints, question)()
        event.remove(engine, "before_cursor_execute", listener)
        (asked, *_) = [statement for statement in statements if "FROM checkpoints" in statement]
        plan = session.connection.execute(text(f"EXPLAIN QUERY PLAN {asked.replace('?', '0')}")).all()
    assert not any(row.detail.startswith("SCAN checkpoints") and "INDEX" not in row.detail for row in plan), plan


def test_many_files_are_stored_as_few_are(catalog):
    few, many = (folder_of(count) for count in (3, 300))
    with catalog.writing() as session:
        for manifest in (few, many):
            session.checkpoints.add(manifest)
    with catalog.reading() as session:
        for manifest in (few, many):
            assert session.checkpoints.get(manifest.checkpoint.id) == manifest.checkpoint
            assert session.checkpoints.maps(manifest.checkpoint.id) == manifest.maps
        kinds = session.connection.execute(text("SELECT DISTINCT typeof(mtime_ns), typeof(map) FROM files")).all()
    assert [tuple(row) for row in kinds] == [("integer", "text")]


@pytest.mark.parametrize(
    "version", ["0", "12", "007", "12e3", "1_000", "-1", "v1", "v:1", '"abc"', "9" * 19, "9" * 23, "٣"]
)
@pytest.mark.parametrize("count", [99, 100])
def test_a_version_is_whatever_the_store_writes(catalog, version, count):
    manifest = folder_of(count, version)
    with catalog.writing() as session:
        session.checkpoints.add(manifest)
    with catalog.reading() as session:
        assert session.checkpoints.get(manifest.checkpoint.id) == manifest.checkpoint


def folder_of(count, version=None):
    """A checkpoint of so many files, with consecutive versions or all with one."""
    made = checkpoint(count)
    files = tuple(
        replace(made.files[0], path=f"part-{number:04}", version=version or str(number)) for number in range(count)
    )
    return Manifest(replace(made, files=files), {file.path: FileMap((Chunk(1, "0" * 64),)) for file in files})


@pytest.mark.parametrize("path", ["part-0007", "c100.pt", None], ids=["one", "one of the folder's name", "any"])
def test_one_file_of_a_folder_is_found_without_the_others(catalog, path):
    manifest = folder_of(100)
    files = (*manifest.checkpoint.files, replace(manifest.checkpoint.files[0], path="c100.pt"))
    made = replace(manifest.checkpoint, files=files)
    with catalog.writing() as session:
        session.checkpoints.add(Manifest(made, {file.path: FileMap(()) for file in files}))
        found = session.checkpoints.with_file(made.id, path)
        leading = session.checkpoints.leading(ListFilter(made.directory))
    assert found.is_folder
    assert len(found.files) <= 2
    assert path is None or path in {file.path for file in found.files}
    assert (leading.id, leading.files) == (made.id, ())


def test_numbers_that_an_earlier_version_indexed_by_long_keys_are_no_fault(catalog):
    made = checkpoint(metadata={"loss": 1, "k" * 201: 2, "a\0b": 3})
    with catalog.writing() as session:
        session.checkpoints.add(Manifest(made, {file.path: FileMap(()) for file in made.files}))
        assert session.checkpoints.is_searched_as(made)
        kept = session.connection.execute(text("SELECT key, value FROM numbers")).all()
        assert kept == [("loss", 1.0)]
        add = text("INSERT INTO numbers VALUES (:id, :key, :value, 'runs/a', 0, 1, 0)")
        for key, value in {"k" * 201: 2, "a\0b": 3}.items():
            session.connection.execute(add, {"id": made.id, "key": key, "value": value})
        assert session.checkpoints.is_searched_as(made)
        session.connection.execute(add, {"id": made.id, "key": "accuracy", "value": 1})
        assert not session.checkpoints.is_searched_as(made)


@pytest.mark.parametrize(
    "change", ["directory = 'runs/b'", "saved_after = 7", "sequence = 7", "removed = 1", "value = 2"], ids=str
)
def test_numbers_that_contradict_their_checkpoint_are_a_fault(catalog, change):
    made = checkpoint(metadata={"loss": 1})
    with catalog.writing() as session:
        session.checkpoints.add(Manifest(made, {file.path: FileMap(()) for file in made.files}))
        assert session.checkpoints.is_searched_as(made)
        session.connection.execute(text(f"UPDATE numbers SET {change}"))
        assert not session.checkpoints.is_searched_as(made)
        session.checkpoints.change(made)
        assert session.checkpoints.is_searched_as(made)
        for removed in (True, False):
            now = session.checkpoints.mark_removed(made, "deleted", made.created_at) if removed else made
            if not removed:
                session.checkpoints.mark_restored(made)
            assert session.checkpoints.is_searched_as(now)
