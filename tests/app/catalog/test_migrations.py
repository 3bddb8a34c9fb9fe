"""Catalogs and roots of earlier versions are migrated without loss; those of newer versions are refused."""

import json
import sqlite3
import tarfile
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, func, select

from app.catalog import Catalog
from app.catalog.migrations import run
from app.catalog.tables import schema
from app.core.errors import CatalogUnusable
from tests.support.live import LiveServer

RELEASED = sorted((Path(__file__).parent / "released").glob("*.tar.gz"))
"""A root for each released version, which it wrote, and beside it the answers that it gave about that root."""
UNRELEASED = sorted((Path(__file__).parent / "unreleased").glob("*.tar.gz"))
"""The same for steps between releases, by the step that the tables were at: users run the main branch, too."""
ROOTS = RELEASED + UNRELEASED
STEPS = sorted((Path(run.__file__).parent / "versions").glob("v*.py"))
RENAMED = {"dirty": "manifest_stale", "place": "saved_after", "openings": "root_marks"}
"""Columns and tables that a step renames; `dirty` of a directory becomes `record_stale`."""


def unpacked(archive, place):
    with tarfile.open(archive) as found:
        found.extractall(place, filter="data")
    return place / "root"


def last_change(archive):
    """The time at which a root was last written to, in seconds since 1970."""
    with tarfile.open(archive) as found:
        return max(member.mtime for member in found)


def tables(database):
    """The tables and indexes of a database, with their columns."""
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


def rows(database):
    """Every row of a database as pairs of column and value, by table; under the names of this version."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    try:
        names = [row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            RENAMED.get(name, name): {
                frozenset((current(name, column), value) for column, value in zip(row.keys(), row, strict=True))
                for row in connection.execute(f"SELECT * FROM {name}")
            }
            for name in names
            if name != "alembic_version" and not name.startswith("sqlite_")
        }
    finally:
        connection.close()


def current(table, column):
    """The name of a column in this version."""
    return "record_stale" if (table, column) == ("directories", "dirty") else RENAMED.get(column, column)


def test_the_migrations_make_the_tables_that_the_code_expects(tmp_path):
    config = Config()
    config.set_main_option("script_location", str(Path(run.__file__).parent))
    engine = create_engine(f"sqlite:///{tmp_path}/steps.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()
    Catalog(f"sqlite:///{tmp_path}/new.db").close()
    assert tables(tmp_path / "steps.db") == tables(tmp_path / "new.db")


def test_an_empty_database_gets_the_tables_of_this_version_without_the_steps(tmp_path, caplog):
    caplog.set_level("INFO")
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    with catalog.reading() as session:
        found = MigrationContext.configure(session.connection)
        assert compare_metadata(found, schema.metadata) == []
        assert found.get_current_revision() == max(path.stem[1:] for path in STEPS)
    catalog.close()
    assert "Running upgrade" not in caplog.text
    Catalog(f"sqlite:///{tmp_path}/catalog.db", read_only=True).close()


@pytest.mark.parametrize("archive", ROOTS, ids=lambda path: path.name)
def test_a_migrated_catalog_has_the_tables_of_a_new_one(tmp_path, archive):
    root = unpacked(archive, tmp_path)
    for url in (f"sqlite:///{root}/.holdfast/catalog.db", f"sqlite:///{tmp_path}/new.db"):
        Catalog(url).close()
    assert tables(root / ".holdfast" / "catalog.db") == tables(tmp_path / "new.db")


@pytest.mark.parametrize("archive", ROOTS, ids=lambda path: path.name)
def test_a_root_of_an_earlier_version_answers_as_before(tmp_path, archive):
    root = unpacked(archive, tmp_path)
    clock = tmp_path / "clock"
    clock.write_text(str(last_change(archive) + 3600 - time.time()))  # the unfinished upload's lease has not ended yet
    answers = json.loads(Path(str(archive).replace(".tar.gz", ".json")).read_text())
    with LiveServer(root, clock=clock, undo_window="3650d", scrub_bytes_per_s="0") as server:
        for address, before in answers.items():
            assert covers(server.http.get(address).json(), before), address
        listed = server.http.get("/v1/checkpoints?directory=runs/digits").json()["checkpoints"]
        for checkpoint in listed:
            content = server.http.get(f"/v1/checkpoints/{checkpoint['id']}/content").content
            assert content == bytes([checkpoint["epoch"]]) * (1000 + checkpoint["epoch"])
        reserved = archive in UNRELEASED  # since step 5, an unfinished upload holds its position
        assert server.save("runs/digits", name="seventh.pt", epoch=7)["sequence"] == 7 + reserved
        assert len(server.incoming()) == 1, "an unfinished upload stays"
        assert json.loads((root / ".holdfast" / "format.json").read_text())["format"] == 2
        server.restart()
        assert "seventh.pt" in server.names("runs/digits")


@pytest.mark.parametrize("archive", ROOTS, ids=lambda path: path.name)
def test_a_migration_keeps_every_value_of_every_row(tmp_path, archive):
    database = unpacked(archive, tmp_path) / ".holdfast" / "catalog.db"
    before = rows(database)
    Catalog(f"sqlite:///{database}").close()
    after = rows(database)
    assert sum(map(len, before.values())) > 30
    for table, kept in before.items():
        assert len(after[table]) == len(kept)
        assert all(any(row <= found for found in after[table]) for row in kept), table


@pytest.mark.parametrize("archive", ROOTS, ids=lambda path: path.name)
def test_a_migration_counts_the_rows_that_there_are(tmp_path, archive):
    catalog = Catalog(f"sqlite:///{unpacked(archive, tmp_path) / '.holdfast' / 'catalog.db'}")
    with catalog.reading() as session:
        assert session.counters.mismatches() == session.rollups.mismatches() == []
        assert session.connection.execute(select(func.count()).select_from(schema.usage_rollups)).scalar_one() > 0
        found = session.counters.sums("")
        assert found["live_count"] == len(session.checkpoints.live_names_by_id()) > 0
        assert found["pruned_count"] + found["replaced_count"] + found["deleted_count"] > 0
    catalog.close()


def test_a_manifest_that_is_stale_is_still_stale_after_the_migration(tmp_path):
    database = unpacked(UNRELEASED[0], tmp_path) / ".holdfast" / "catalog.db"
    catalog = Catalog(f"sqlite:///{database}")
    with catalog.reading() as session:
        assert [found.facts.epoch for found in session.checkpoints.with_stale_manifest()] == [4]
        assert len(catalog.marks()) == 1
    catalog.close()


def covers(after, before):
    """Tell if an answer says all that one of an older version said; it may say more."""
    if isinstance(before, dict):
        compared = before.keys() - ({"title", "detail"} if "code" in before else set())  # prose of a refusal may change
        return isinstance(after, dict) and all(key in after and covers(after[key], before[key]) for key in compared)
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
        connection.execute("CREATE INDEX by_verification ON checkpoints (name)")  # makes the second step fail
    connection.close()
    before = tables(database)
    with pytest.raises(CatalogUnusable, match="by_verification"):
        Catalog(f"sqlite:///{database}")
    assert tables(database) == before
