"""Catalogs and roots of every released version become those of this version; those of newer ones are refused."""

import json
import sqlite3
import tarfile
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from app.catalog import Catalog
from app.catalog.tables import schema
from app.core.errors import CatalogUnusable
from tests.support.live import LiveServer

RELEASED = sorted((Path(__file__).parent / "released").glob("*.tar.gz"))
"""For each released version a root that it wrote, and beside it what it answered about that root."""


def unpacked(archive, place):
    with tarfile.open(archive) as found:
        found.extractall(place, filter="data")
    return place / "root"


def last_change(archive):
    """When a root was last written to, in seconds since 1970."""
    with tarfile.open(archive) as found:
        return max(member.mtime for member in found)


def tables(database):
    """What a database consists of, but for the space that statements are written with."""
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute("SELECT type, name, tbl_name FROM sqlite_master WHERE name != 'alembic_version'")
        found = {row: [] for row in rows}
        for kind, name, table in found:
            pragma = {"table": "table_xinfo", "index": "index_xinfo"}[kind]
            columns = connection.execute(f"PRAGMA {pragma}('{name}')").fetchall()
            found[kind, name, table] = sorted(tuple(map(str, column[1:])) for column in columns)
    finally:
        connection.close()
    return found


def test_there_is_a_root_of_every_released_version():
    changes = (Path(__file__).parents[3] / "CHANGELOG.md").read_text().split("\n## ")
    released = {change.split()[0] for change in changes[1:]} - {"Unreleased"}
    assert {path.name.removesuffix(".tar.gz") for path in RELEASED} == released


def test_the_migrations_make_the_tables_that_the_code_expects(tmp_path):
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    with catalog.reading() as session:
        assert compare_metadata(MigrationContext.configure(session.connection), schema.metadata) == []
    catalog.close()


@pytest.mark.parametrize("archive", RELEASED, ids=lambda path: path.name)
def test_a_migrated_catalog_has_the_tables_of_a_new_one(tmp_path, archive):
    root = unpacked(archive, tmp_path)
    for url in (f"sqlite:///{root}/.holdfast/catalog.db", f"sqlite:///{tmp_path}/new.db"):
        Catalog(url).close()
    assert tables(root / ".holdfast" / "catalog.db") == tables(tmp_path / "new.db")


@pytest.mark.parametrize("archive", RELEASED, ids=lambda path: path.name)
def test_a_root_of_a_released_version_answers_as_it_did(tmp_path, archive):
    root = unpacked(archive, tmp_path)
    clock = tmp_path / "clock"
    clock.write_text(str(last_change(archive) + 3600 - time.time()))  # the unfinished upload's lease has not ended yet
    answers = json.loads(Path(str(archive).replace(".tar.gz", ".json")).read_text())
    with LiveServer(root, clock=clock) as server:
        for address, before in answers.items():
            assert covers(server.http.get(address).json(), before), address
        listed = server.http.get("/v1/checkpoints?directory=runs/digits").json()["checkpoints"]
        for checkpoint in listed:
            content = server.http.get(f"/v1/checkpoints/{checkpoint['id']}/content").content
            assert content == bytes([checkpoint["epoch"]]) * (1000 + checkpoint["epoch"])
        assert server.save("runs/digits", name="seventh.pt", epoch=7)["sequence"] == 7
        assert len(server.incoming()) == 1, "an unfinished upload stays"
        assert json.loads((root / ".holdfast" / "format.json").read_text())["format"] == 2
        server.restart()
        assert "seventh.pt" in server.names("runs/digits")


def covers(after, before):
    """Whether an answer says all that one of an older version said; it may say more."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(key in after and covers(after[key], before[key]) for key in before)
    if isinstance(before, list):
        return len(after) == len(before) and all(map(covers, after, before))
    return after == before


def test_a_catalog_of_a_newer_version_is_refused(tmp_path):
    Catalog(f"sqlite:///{tmp_path}/catalog.db").close()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(CatalogUnusable, match="newer version"):
        Catalog(f"sqlite:///{tmp_path}/catalog.db")


def test_an_interrupted_migration_leaves_the_old_catalog(tmp_path):
    root = unpacked(RELEASED[0], tmp_path)
    database = root / ".holdfast" / "catalog.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE INDEX by_verification ON checkpoints (name)")  # stands in the way of the second step
    connection.close()
    before = tables(database)
    with pytest.raises(CatalogUnusable, match="by_verification"):
        Catalog(f"sqlite:///{database}")
    assert tables(database) == before
