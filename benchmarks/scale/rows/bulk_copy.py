"""Rows in bulk: copies the rows that commits have left in a catalog, in all tables, while no server has it open.

The columns are read from the catalog itself, so that new ones are copied like the others.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from benchmarks.scale.rows.planned import COLUMNS, PlannedRow, Target, Templates, planned_rows

BATCH_ROWS = 50_000
CACHE_KIB = 512 * 1024
MONITORED = "loss"

OVERRIDES: Mapping[str, str] = {
    "checkpoint_id": "plan.id",
    "directory": "plan.directory",
    "name": "plan.name",
    "save_id": "plan.save_id",
    "upload_id": "plan.id",
    "sequence": "base.sequence + plan.number + 1",
    "saved_after": "base.sequence + plan.number",
    "epoch": "plan.epoch",
    "metric": "plan.metric",
    "digest": "plan.id || plan.save_id",
    "size_bytes": "old.size_bytes + plan.grown_bytes",
    "created_at": "plan.created_at",
    "at": "plan.created_at",
    "removed_at": "iif(old.removed_at IS NULL, NULL, plan.removed_at)",
    "metadata": f"json_set(old.metadata, '$.{MONITORED}', plan.metric)",
    "value": f"iif(old.key = '{MONITORED}', plan.metric, old.value)",
    "path": "iif(old.path = template.name, plan.name, old.path)",
}
"""Values of the columns that differ from the template's row, in whatever table they are; ``old`` is that row."""
FIRST = "checkpoints"
OF_DIRECTORY = {"directories": "name"}
NEVER = {FIRST, "uploads"}


def fill(catalog: Path, targets: Sequence[Target]) -> None:
    """Add the rows of all targets to a catalog, and the directories that it does not have.

    Neither durable nor atomic: a catalog that was not filled to the end is useless.
    """
    with _opened(catalog) as connection:
        templates = {name: _templates(connection, name) for name in {target.template for target in targets}}
        indexes = _drop_indexes(connection)
        _add_directories(connection, targets)
        connection.execute(f"CREATE TEMP TABLE plan ({', '.join(COLUMNS)})")
        connection.execute("CREATE TEMP TABLE base AS SELECT name, sequence FROM main.directories")
        connection.execute("CREATE UNIQUE INDEX temp.base_by_name ON base (name)")
        copies = _copies(connection)
        for batch in _batches(planned_rows(targets, templates)):
            _copy(connection, copies, batch)
        _advance_counters(connection, targets)
        for statement in indexes:
            connection.execute(statement)
    _use_wal_again(catalog)


@contextmanager
def _opened(catalog: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")


def _use_wal_again(catalog: Path) -> None:
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _templates(connection: sqlite3.Connection, directory: str) -> Templates:
    def ids(condition: str) -> list[str]:
        query = f"SELECT id FROM checkpoints WHERE directory = ? AND {condition}"
        return [found for (found,) in connection.execute(query, [directory])]

    return Templates(ids("removed_at IS NULL"), ids("removed_at IS NOT NULL AND freed"))


def _drop_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop the indexes that are not part of a table; return the statements that make them again."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    found = connection.execute(query).fetchall()
    for name, _ in found:
        connection.execute(f'DROP INDEX "{name}"')
    return [statement for _, statement in found]


def _add_directories(connection: sqlite3.Connection, targets: Iterable[Target]) -> None:
    """Copy the rows of the templates in all tables that have a row for each directory."""
    query = "SELECT name FROM directories"
    known = {name for (name,) in connection.execute(query)}
    new = [(target.directory, target.template) for target in targets if target.directory not in known]
    for table in _tables(connection):
        columns = _columns(connection, table)
        key = OF_DIRECTORY.get(table, "directory")
        if table in NEVER or key not in columns or "checkpoint_id" in columns:
            continue
        replaced = {key: "?1", "last_writer": "NULL"}  # or the first save would warn of another job
        values = ", ".join(replaced.get(name, f'"{name}"') for name in columns)
        connection.executemany(
            f'INSERT INTO "{table}" ({_quoted(columns)}) SELECT {values} FROM "{table}" WHERE "{key}" = ?2', new
        )


def _copies(connection: sqlite3.Connection) -> list[str]:
    """Return a statement for each table that has rows of checkpoints, that of the checkpoints first."""
    found = [_copy_of(connection, FIRST, "id")]
    for table in _tables(connection):
        if table not in NEVER and "checkpoint_id" in _columns(connection, table):
            found.append(_copy_of(connection, table, "checkpoint_id"))
    return found


def _copy_of(connection: sqlite3.Connection, table: str, key: str) -> str:
    columns = _columns(connection, table)
    overrides = {**OVERRIDES, "id": "plan.id"} if table == FIRST else OVERRIDES
    values = ", ".join(overrides.get(name, f'old."{name}"') for name in columns)
    return (
        f'INSERT INTO main."{table}" ({_quoted(columns)}) SELECT {values} FROM temp.plan AS plan '
        f"CROSS JOIN temp.base AS base ON base.name = plan.directory "
        f"CROSS JOIN main.checkpoints AS template ON template.id = plan.template "
        f'CROSS JOIN main."{table}" AS old ON old."{key}" = plan.template ORDER BY plan.rowid'
    )


def _copy(connection: sqlite3.Connection, copies: Iterable[str], batch: Sequence[PlannedRow]) -> None:
    connection.execute("DELETE FROM temp.plan")
    connection.executemany(f"INSERT INTO temp.plan VALUES ({', '.join('?' * len(COLUMNS))})", batch)
    for statement in copies:
        connection.execute(statement)


def _advance_counters(connection: sqlite3.Connection, targets: Iterable[Target]) -> None:
    """Move the counters of the directories behind their rows."""
    statement = "UPDATE directories SET sequence = sequence + ? WHERE name = ?"
    connection.executemany(statement, [(target.saves, target.directory) for target in targets])


def _tables(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return [name for (name,) in connection.execute(query)]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table that are stored, without a number that the database gives."""
    found = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    keys = [name for _, name, _, _, _, part in found if part]
    numbered = {name for _, name, kind, _, _, part in found if part and len(keys) == 1 and kind == "INTEGER"}
    return [name for _, name, *_ in found if name not in numbered]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _batches(rows: Iterator[PlannedRow]) -> Iterator[list[PlannedRow]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
