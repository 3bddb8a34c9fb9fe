"""The SQLite dialect: files that only their owner reads, addresses, and errors of the disk as refusals."""

import itertools
import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from app.catalog import Catalog, default_url
from app.catalog.sqlite import Sqlite, url_of
from app.core.errors import CatalogUnusable, DiskFailed, NoSpace
from tests.data.histories import keep
from tests.data.samples import checkpoint


def test_only_the_owner_reads_the_database_and_its_logs(tmp_path):
    catalog = Catalog(default_url(tmp_path))
    catalog.mark_complete()
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    catalog.close()
    assert found == dict.fromkeys(["catalog.db", "catalog.db-wal", "catalog.db-shm"], 0o600)


def test_files_that_others_could_read_are_closed_to_them(tmp_path):
    Catalog(default_url(tmp_path)).close()
    (tmp_path / "catalog.db").chmod(0o644)
    Catalog(default_url(tmp_path)).close()
    assert (tmp_path / "catalog.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["a folder", "what?", "100%20", "größe", "a#b", "a:b@c"])
def test_a_folder_of_any_name_holds_the_database(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    catalog = Catalog(default_url(folder))
    assert catalog.location == str(folder / "catalog.db")
    assert catalog.is_inside(folder)
    assert not catalog.is_inside(folder / "below")
    catalog.close()
    assert (folder / "catalog.db").is_file()


def test_a_database_that_is_missing_is_not_made_for_a_reader(tmp_path):
    with pytest.raises(CatalogUnusable, match="no catalog"):
        Catalog(default_url(tmp_path), read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (sqlite3.SQLITE_FULL, NoSpace),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskFailed),
        (sqlite3.SQLITE_CORRUPT, DiskFailed),
        (sqlite3.SQLITE_READONLY, DiskFailed),
        (sqlite3.SQLITE_CONSTRAINT, None),
        (sqlite3.SQLITE_BUSY, None),
    ],
)
def test_errors_of_the_disk_become_refusals_and_others_stay(tmp_path, code, refusal):
    error = sqlite3.OperationalError("an error")
    error.sqlite_errorcode = code
    found = Sqlite(url_of(tmp_path / "x.db")).refusal(OperationalError("SELECT 1", {}, error))
    assert type(found) is (refusal or type(None))


def pragma(database, name):
    connection = sqlite3.connect(database)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


def mostly_unused(database):
    """Open a catalog, and delete almost all of many rows."""
    catalog = Catalog(url_of(database))
    kept = keep(catalog, [checkpoint(number) for number in range(1, 10_001)], "runs/a")
    with catalog.writing() as session:
        session.connection.exec_driver_sql("DELETE FROM checkpoints WHERE sequence > 10")
    return catalog, kept[:10]


def test_a_new_database_gives_unused_space_back_in_steps(tmp_path):
    database = tmp_path / "catalog.db"
    catalog, kept = mostly_unused(database)
    pages, sizes = pragma(database, "page_count"), []
    while catalog.release_space():
        sizes.append(pragma(database, "page_count"))
    steps = [before - after for before, after in itertools.pairwise([pages, *sizes])]
    assert {250} <= set(steps) <= {250, 251, 252}, "a page of the map of all pages goes with some"
    assert 1000 <= pragma(database, "freelist_count") < 1250, "the next rows have room"
    assert catalog.faults() == []
    with catalog.reading() as session:
        assert [one.id for one in session.checkpoints.live("runs/a")] == [one.id for one in kept]
    catalog.close()
    assert database.stat().st_size == sizes[-1] * 4096


def test_a_database_of_an_earlier_version_gives_space_back_once_it_is_compacted(tmp_path):
    database = tmp_path / "catalog.db"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    catalog, kept = mostly_unused(database)
    assert pragma(database, "auto_vacuum") == 0
    assert not catalog.release_space()
    before, after = catalog.compact()
    assert after == database.stat().st_size < before / 5
    assert pragma(database, "auto_vacuum") == 2
    assert pragma(database, "freelist_count") == 0
    with catalog.reading() as session:
        assert [one.id for one in session.checkpoints.live("runs/a")] == [one.id for one in kept]
    assert catalog.faults() == []
    catalog.close()


def test_only_a_transaction_that_need_not_be_durable_waits_for_no_sync(tmp_path):
    full, normal = 2, 1
    catalog = Catalog(default_url(tmp_path))
    found = []
    for is_durable in (True, False, False, True):
        with catalog.writing(is_durable=is_durable) as session:
            found.append(session.connection.exec_driver_sql("PRAGMA synchronous").scalar())
    found.append(catalog.write_together(lambda one: one.connection.exec_driver_sql("PRAGMA synchronous").scalar()))
    with catalog.reading() as session:
        assert session.connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
    catalog.close()
    assert found == [full, normal, normal, full, full]
