"""The SQLite dialect: files that only their owner reads, addresses, and errors of the disk as refusals."""

import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from app.catalog import Catalog, default_url
from app.catalog.sqlite import Sqlite, url_of
from app.core.errors import CatalogUnusable, DiskFailed, NoSpace


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
