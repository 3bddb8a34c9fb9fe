"""Rows of checkpoints: all changes, from the commit of a checkpoint until it is forgotten."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Dialect, Table, bindparam, delete, insert, select, update
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.checkpoint_loader import batches
from app.catalog.rows.checkpoint_queries import CheckpointQueries
from app.catalog.rows.counters import COUNTED, CounterRows
from app.catalog.rows.rollups import RollupRows
from app.catalog.tables import mapping, schema
from app.catalog.tables.times import to_text
from app.core.models import Checkpoint, Manifest, RemovedBecause

_table = schema.checkpoints
_files = schema.files
_COUNTED = (_table.c.directory, *(_table.c[name] for name in COUNTED))
_NEW = {"freed": False, "verified_at": None, "damage": None}
"""What is counted of a new row beside the values that it is inserted with."""
_MANY_ROWS = 100
"""From how many rows on they go to the driver without SQLAlchemy's work on each of them, which takes longest."""


class CheckpointRows(CheckpointQueries):
    """Checkpoints within one transaction: queries and changes. Each change is also one of their sums."""

    def __init__(self, connection: Connection, counters: CounterRows, rollups: RollupRows) -> None:
        super().__init__(connection)
        self._sums = (counters, rollups)

    def add(self, *manifests: Manifest) -> None:
        """Add new checkpoints."""
        rows = [mapping.row(manifest.checkpoint, manifest.writer) for manifest in manifests]
        self._insert(_table, rows)
        for row in rows:
            self._count({**_NEW, **row}, 1)
        self._insert(_files, [row for manifest in manifests for row in mapping.file_rows(manifest)])
        self._insert_searched(manifest.checkpoint for manifest in manifests)

    def change(self, checkpoint: Checkpoint) -> None:
        """Store changed facts or a changed position; the manifest is stale until `mark_manifest_written`."""
        values = {**mapping.fact_values(checkpoint.facts), **mapping.position_values(checkpoint)}
        self._update(checkpoint.id, **values, manifest_stale=True, unjudged=True)
        for table in (schema.numbers, schema.tags):
            self._connection.execute(delete(table).where(table.c.checkpoint_id == checkpoint.id))
        self._insert_searched([checkpoint])

    def save_again(self, checkpoint: Checkpoint, writer: str | None) -> None:
        """Store another save of the same content: facts, position, writer, and the modes and times of its files."""
        self.change(checkpoint)
        self._update(checkpoint.id, writer=writer, **mapping.folder_values(checkpoint))
        of_file = (_files.c.checkpoint_id == checkpoint.id, _files.c.path == bindparam("of_path"))
        rows = [{"of_path": each.path, "new_mode": each.mode, "new_ns": each.modified_ns} for each in checkpoint.files]
        attributes: dict[str, Any] = {"mode": bindparam("new_mode"), "modified_ns": bindparam("new_ns")}
        self._connection.execute(update(_files).where(*of_file).values(**attributes), rows)

    def repair(self, manifest: Manifest) -> None:
        """Rewrite a row that contradicts its manifest from the manifest."""
        checkpoint = manifest.checkpoint
        values = {
            "name": checkpoint.name,
            "digest": checkpoint.digest,
            "size_bytes": checkpoint.size_bytes,
            "created_at": to_text(checkpoint.created_at),
            **mapping.folder_values(checkpoint),
        }
        self.change(checkpoint)
        self._update(checkpoint.id, **values, manifest_stale=False)
        self._connection.execute(delete(_files).where(_files.c.checkpoint_id == checkpoint.id))
        self._insert(_files, list(mapping.file_rows(manifest)))

    def mark_manifest_written(self, checkpoint_id: str) -> None:
        """Record that the manifest agrees with the row."""
        self._update(checkpoint_id, manifest_stale=False)

    def mark_verified(self, checkpoint_id: str, at: datetime, damage: str | None) -> bool:
        """Record the result of reading a live checkpoint back; tell if it differs from the previous result."""
        is_live = (_table.c.id == checkpoint_id, _table.c.removed_at.is_(None))
        before = self._connection.execute(select(_table.c.damage).where(*is_live)).one_or_none()
        if before is None:
            return False
        self._update(checkpoint_id, verified_at=to_text(at), damage=damage)
        return bool(before.damage != damage)

    def put_verified(self, verified: Sequence[Mapping[str, Any]]) -> None:
        """Restore results of reading back, as `verified` returned them, for checkpoints with the same content."""
        same = (_table.c.id == bindparam("known_id"), _table.c.digest == bindparam("known_digest"))
        values: dict[str, Any] = {name: bindparam(f"known_{name}") for name in ("verified_at", "damage")}
        if verified:
            self._connection.execute(update(_table).where(*same).values(**values), list(verified))
            self.count_all_anew()

    def mark_removed(self, checkpoint: Checkpoint, because: RemovedBecause, at: datetime) -> Checkpoint:
        """Mark a checkpoint as removed; its bytes leave later."""
        self._update(checkpoint.id, removed_at=to_text(at), removed_because=because, unjudged=False)
        self._update_numbers(checkpoint.id, removed=True)
        return replace(checkpoint, removed_at=at, removed_because=because)

    def mark_judged(self, directory: str) -> None:
        """Record that every live checkpoint of a directory has a reason to stay."""
        marked = update(_table).where(_table.c.directory == directory, schema.UNJUDGED)
        self._connection.execute(marked.values(unjudged=False))

    def mark_trashed(self, checkpoint_id: str) -> None:
        """Record that the bytes of a removed checkpoint have left its directory."""
        self._update(checkpoint_id, trashed=True)

    def mark_gone(self, checkpoint_id: str) -> None:
        """Record that the bytes of a removed checkpoint have left its directory and are gone."""
        self._update(checkpoint_id, trashed=True, freed=True)

    def mark_restored(self, checkpoint: Checkpoint) -> None:
        """Make a removed checkpoint live again; its manifest is stale until `mark_manifest_written`."""
        values = {"removed_at": None, "removed_because": None, "trashed": False, "pinned": checkpoint.facts.pinned}
        self._update(checkpoint.id, **values, manifest_stale=True, unjudged=True)
        self._update_numbers(checkpoint.id, removed=False)

    def mark_freed(self, checkpoint_id: str) -> None:
        """Record that the bytes of a removed checkpoint are gone."""
        self._update(checkpoint_id, freed=True)

    def delete_orphans(self, checkpoint_id: str) -> None:
        """Delete rows of other tables that belong to a checkpoint without a row."""
        for table in (_files, schema.numbers, schema.tags):
            self._connection.execute(delete(table).where(table.c.checkpoint_id == checkpoint_id))

    def forget_live(self) -> None:
        """Delete all live checkpoints, before they are read anew from the files."""
        self._connection.execute(delete(_table).where(_table.c.removed_at.is_(None)))
        self.count_all_anew()

    def forget_removed(self, ids: Iterable[str]) -> None:
        """Delete those of the checkpoints that were removed, whether or not their bytes are freed."""
        self._delete(ids, _table.c.removed_at.is_not(None))

    def forget_freed(self, ids: Iterable[str]) -> set[str]:
        """Delete those of the checkpoints that were removed and whose bytes are freed; return their ids."""
        return self._delete(ids, _table.c.removed_at.is_not(None), _table.c.freed)

    def count_all_anew(self) -> None:
        """Count all rows before the commit; for a change of most of them."""
        for sums in self._sums:
            sums.count_all_anew()

    def _count(self, row: Any, times: int) -> None:
        for sums in self._sums:
            sums.count(row, times)

    def _delete(self, ids: Iterable[str], *conditions: ColumnElement[bool]) -> set[str]:
        found: set[str] = set()
        for batch in batches(ids):
            gone = delete(_table).where(_table.c.id.in_(batch), *conditions)
            for row in self._connection.execute(gone.returning(_table.c.id, *_COUNTED)).mappings():
                self._count(row, -1)
                found.add(row["id"])
        return found

    def _update(self, checkpoint_id: str, **values: Any) -> None:
        """Update a row. All updates of columns that are counted go through here."""
        if not values.keys().isdisjoint(COUNTED):
            query = select(*_COUNTED).where(_table.c.id == checkpoint_id)
            for row in self._connection.execute(query).mappings():
                self._count(row, -1)
                self._count({**row, **values}, 1)
        self._connection.execute(update(_table).where(_table.c.id == checkpoint_id).values(**values))

    def _update_numbers(self, checkpoint_id: str, *, removed: bool) -> None:
        numbers = schema.numbers
        self._connection.execute(
            update(numbers).where(numbers.c.checkpoint_id == checkpoint_id).values(removed=removed)
        )

    def _insert_searched(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Insert the facts that are searched by value into their own tables."""
        numbers: list[Mapping[str, Any]] = []
        tags: list[Mapping[str, Any]] = []
        for checkpoint in checkpoints:
            numbers += mapping.number_rows(checkpoint)
            tags += [{"checkpoint_id": checkpoint.id, "tag": tag} for tag in checkpoint.facts.tags]
        self._insert(schema.numbers, numbers)
        self._insert(schema.tags, tags)

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        statement, dialect = insert(table), self._connection.dialect
        if len(rows) < _MANY_ROWS or any(column.default is not None for column in table.c):
            self._connection.execute(statement, rows)
            return
        compiled = statement.compile(dialect=dialect, column_keys=sorted(rows[0]))
        converters = _converters(table, dialect, rows[0])
        values = [{**row, **{key: bind(row[key]) for key, bind in converters.items()}} for row in rows]
        order = getattr(compiled, "positiontup", None)
        given: Any = values if order is None else [tuple(row[key] for key in order) for row in values]
        self._connection.exec_driver_sql(str(compiled), given)


def _converters(table: Table, dialect: Dialect, row: Mapping[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """Return the functions that turn values into those of the driver, by the keys of the columns that need one."""
    types = {column.key: column.type.dialect_impl(dialect) for column in table.c if column.key in row}
    return {key: bind for key, each in types.items() if (bind := each.bind_processor(dialect)) is not None}
