"""The tables are right on PostgreSQL too, as its compiler writes them; no server is needed."""

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import Boolean, String, create_mock_engine, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from app.catalog import Catalog, default_url
from app.catalog.reports import history, trash
from app.catalog.tables import portable, schema
from app.catalog.tables.file_version import FileVersion

POSTGRESQL, SQLITE = postgresql.dialect(), sqlite.dialect()
COLUMNS = [column for table in schema.metadata.sorted_tables for column in table.c]
INDEXES = {index.name: index for table in schema.metadata.sorted_tables for index in table.indexes}
SMALL = {"files.mode"}
"""Integers that 32 bits hold."""
TOTAL = r"CAST\(coalesce\(sum\(.*?, %\(\w+\)s(::INTEGER)?\) AS BIGINT\)"
LIVE_BY = ("position", "kind", "metric", "epoch", "step", "size", "time")
UNSORTED = {"directories.last_writer", "checkpoints.writer"}
"""Names that are neither compared nor sorted."""


def declared(table, dialect=POSTGRESQL):
    """The declarations of the columns in the DDL of a table, by name."""
    lines = str(CreateTable(table).compile(dialect=dialect)).splitlines()
    found = [re.fullmatch(r'"?(\w+)"? (.*?),?\s*', line.strip()) for line in lines[2:]]
    names = {column.name for column in table.c}
    return {each[1]: each[2] for each in found if each and each[1] in names}


def of(column):
    return declared(column.table)[column.name]


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_a_column_has_the_type_that_holds_all_its_values(column):
    said = of(column)
    if column.type.python_type is int:
        wanted = "INTEGER" if str(column) in SMALL else r"(BIGINT|BIGSERIAL)( NOT NULL)?"
        assert re.fullmatch(wanted, said)
    elif column.type.python_type is bool:
        assert re.fullmatch(r"BOOLEAN( DEFAULT false)? NOT NULL", said)
    elif column.type.python_type is float:
        assert re.match(r"FLOAT\b", said)
    elif isinstance(column.type, String | FileVersion) and said.startswith("VARCHAR") and str(column) not in UNSORTED:
        assert said.startswith('VARCHAR COLLATE "C"')
    else:
        assert re.match(r"TEXT\b|BYTEA\b|VARCHAR\b", said)


def test_ids_that_the_database_gives_count_beyond_32_bits():
    assert of(schema.events.c.id) == of(schema.audit.c.id) == "BIGSERIAL NOT NULL"
    for table in (schema.events, schema.audit):
        assert declared(table, SQLITE)["id"] == "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"


def test_maps_of_chunks_and_bodies_of_uploads_are_bytes():
    assert of(schema.files.c.map) == of(schema.uploads.c.body) == "BYTEA NOT NULL"
    text, of_type = '{"chunks": ["ü"]}', schema.files.c.map.type.dialect_impl(POSTGRESQL)
    sent = of_type.process_bind_param(text, POSTGRESQL)
    assert (sent, of_type.process_result_value(memoryview(sent), POSTGRESQL)) == (text.encode(), text)
    assert declared(schema.files, SQLITE)["map"] == "TEXT NOT NULL"


def test_every_partial_index_is_partial_on_both_databases():
    partial = {
        "live_flagged": "removed_at IS NULL AND metric IS NULL AND metric_text IS NULL AND is_best",
        "removed_by_position": "removed_at IS NOT NULL",
        "unfreed": "removed_at IS NOT NULL AND NOT freed",
        "unfreed_by_name": "removed_at IS NOT NULL AND NOT freed",
        "stale_manifests": "manifest_stale",
        "unjudged": "unjudged",
        "live_manual": "removed_at IS NULL AND retention = 'manual'",
        "freed_by_removal": "freed",
        "superseded_saves": "superseded_at IS NOT NULL",
        "numbers_by_value": "NOT removed",
    }
    live = ("one_live_name", "by_verification", *(f"live_by_{each}" for each in LIVE_BY))
    partial |= dict.fromkeys(live, "removed_at IS NULL")
    assert partial.keys() <= INDEXES.keys()
    for name, index in INDEXES.items():
        for dialect in (SQLITE, POSTGRESQL):
            _, where, condition = str(CreateIndex(index).compile(dialect=dialect)).partition(" WHERE ")
            assert (condition if where else None) == partial.get(name), (name, dialect.name)
    unique = str(CreateIndex(INDEXES["one_live_name"]).compile(dialect=POSTGRESQL))
    assert unique.startswith("CREATE UNIQUE INDEX one_live_name ON checkpoints (directory, name) WHERE")


@pytest.mark.parametrize("column", [c for c in COLUMNS if isinstance(c.type, Boolean)], ids=str)
def test_booleans_begin_as_false_in_the_words_of_each_database(column):
    if column.server_default is not None:
        assert of(column) == "BOOLEAN DEFAULT false NOT NULL"
        assert declared(column.table, SQLITE)[column.name] == "BOOLEAN DEFAULT 0 NOT NULL"


@pytest.fixture
def statements(tmp_path):
    """A session on SQLite, and each statement that it executes, as PostgreSQL would be given it."""
    catalog, seen = Catalog(default_url(tmp_path)), []
    with catalog.reading() as session:
        engine = session.connection.engine
        event.listen(
            engine, "before_execute", lambda _, clause, *__: seen.append(str(clause.compile(dialect=POSTGRESQL)))
        )
        yield session, seen
    catalog.close()


def test_sums_are_integers_on_postgresql_where_a_sum_of_bigints_is_numeric(statements):
    (session, seen), now = statements, datetime(2026, 11, 29, tzinfo=UTC)
    connection = session.connection
    session.counters.totals("runs/a")
    session.counters.usage("runs")
    session.statistics(now)
    for characters in (10, 19):
        history.changes(connection, "", now, ["runs/a"], characters)
    session.rollups.mismatches()
    sums = session.counters.sums("")
    history.removed(connection, sums, "", [now])
    trash.held(connection, {**sums, "unfreed_count": 1}, now, "")
    session.checkpoints.fitting(["a", "b"])
    sums = [statement for statement in seen if "sum(" in statement]
    assert len(sums) >= 8
    for statement in sums:
        selected = statement.partition("FROM")[0]
        assert selected.count("sum(") == len(re.findall(TOTAL, selected))


def test_sums_stay_integers_on_sqlite():
    query = str(select(portable.total(schema.checkpoints.c.size_bytes)).compile(dialect=SQLITE))
    assert query.startswith("SELECT CAST(coalesce(sum(checkpoints.size_bytes), ?) AS INTEGER)")


def test_an_empty_database_is_made_by_statements_that_postgresql_knows():
    made = []
    engine = create_mock_engine("postgresql://", lambda each, *_: made.append(str(each.compile(dialect=POSTGRESQL))))
    schema.metadata.create_all(engine, checkfirst=False)
    said = "\n".join(made)
    assert len(made) == len(schema.metadata.tables) + len(INDEXES)
    assert not re.search(r"AUTOINCREMENT|DEFAULT [01]\b|\bDATETIME\b|\bBLOB\b", said)
