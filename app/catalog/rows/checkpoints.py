"""Rows of checkpoints: their facts, files and order."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql import ColumnElement, Select

from app.catalog.tables import mapping, schema
from app.catalog.tables.filters import Page, Query, conditions
from app.catalog.tables.times import to_text
from app.core.errors import DiskFailed, RecordUnreadable
from app.core.models import Checkpoint, File, FileMap, Manifest, Mode, RemovedBecause

_table = schema.checkpoints
_files = schema.files
_FILE = (_files.c.path, _files.c.size_bytes, _files.c.digest, _files.c.version, _files.c.mode, _files.c.modified_ns)
"""The columns of a `File`, in its order."""
NEW_FOR = timedelta(minutes=10)
DAMAGED_EVERY = timedelta(hours=1)
ANSWER_BYTES = 4 * 2**20
"""About how many bytes of checkpoints, as JSON, a page holds; one alone may be larger."""
CHECKPOINT_BYTES, FILE_BYTES, PATH_TIMES = 800, 300, 4
"""How much of that a checkpoint takes without its files and metadata, and each file, which says its path so often."""
_IDS_AT_ONCE = 500
_MANY_ROWS = 100
"""From how many rows on they are handed to the database as they are."""
_named: set[str] = set()
logger = logging.getLogger("holdfast")
_UNFREED = (_table.c.removed_at.is_not(None), schema.UNFREED)


class Named(NamedTuple):
    """Which checkpoint a row is of: as much of it as can be read where the rest cannot."""

    id: str
    directory: str
    name: str


class CheckpointRows:
    """Checkpoints within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # reading

    def get(self, checkpoint_id: str) -> Checkpoint | None:
        """The checkpoint of this id, removed or not."""
        return self._one(select(_table).where(_table.c.id == checkpoint_id))

    def with_file(self, checkpoint_id: str, path: str | None) -> Checkpoint | None:
        """The checkpoint with only the file of this path, if it has that; in one query, however many files it has.

        Without a path, it comes with its first two files. `Checkpoint.is_folder` is right in either case.
        """
        chosen = and_(_files.c.checkpoint_id == _table.c.id, _files.c.path == path if path is not None else true())
        columns = [column.label(f"file_{column.name}") for column in _FILE]
        query = select(_table, *columns).join_from(_table, _files, chosen, isouter=True)
        query = query.where(_table.c.id == checkpoint_id).order_by(_files.c.path).limit(2)
        rows = self._connection.execute(query).mappings().all()
        if not rows:
            return None
        if path == rows[0]["name"]:  # alone it would pass for a checkpoint of one file
            return self.get(checkpoint_id)
        found = (File(*(row[column.name] for column in columns)) for row in rows if row["file_path"] is not None)
        with _readable(rows[0]):
            return mapping.checkpoint(rows[0], tuple(found))

    def with_files_at(self, checkpoint_id: str, first: int, stop: int) -> Checkpoint | None:
        """The checkpoint with only the files from one place on up to another, in the order of their paths."""
        query = select(_table).where(_table.c.id == checkpoint_id)
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        some = select(*_FILE).where(_files.c.checkpoint_id == checkpoint_id).order_by(_files.c.path)
        found = [File(*values) for values in self._connection.execute(some.limit(stop - first).offset(first))]
        with _readable(row):
            return mapping.checkpoint(row, tuple(found))

    def directory_of(self, checkpoint_id: str) -> str | None:
        """The directory of a checkpoint, removed or not; also of one whose row cannot be read otherwise."""
        return self._connection.execute(select(_table.c.directory).where(_table.c.id == checkpoint_id)).scalar()

    def named(self, directory: str, name: str) -> Checkpoint | None:
        """The live checkpoint of this name.

        Raises
        ------
        DiskFailed
            Its row cannot be read. A save of that name may be taken once the row is repaired.
        """
        try:
            return self._one(select(_table).where(*_live(directory), _table.c.name == name))
        except RecordUnreadable as error:
            raise DiskFailed(error.detail) from error

    def numbers(self) -> dict[str, tuple[str, int]]:
        """The directory and the sequence of every checkpoint, removed or not, by id."""
        columns = (_table.c.id, _table.c.directory, _table.c.sequence)
        return {owner: (directory, number) for owner, directory, number in self._connection.execute(select(*columns))}

    def sequence_of(self, checkpoint_id: str) -> int | None:
        """The number of a checkpoint, removed or not; None for one that has no row."""
        return self._connection.execute(select(_table.c.sequence).where(_table.c.id == checkpoint_id)).scalar()

    def live(self, directory: str) -> Sequence[Checkpoint]:
        """All live checkpoints of a directory, oldest first."""
        query = select(_table).where(*_live(directory)).order_by(_table.c.saved_after, _table.c.sequence)
        return self._readable(query)

    def live_names(self, directory: str) -> Sequence[tuple[str, str]]:
        """Id and name of all live checkpoints of a directory, which can be read where the rest cannot."""
        query = select(_table.c.id, _table.c.name).where(*_live(directory)).order_by(_table.c.sequence)
        return [(found, name) for found, name in self._connection.execute(query)]

    def any_live(self) -> bool:
        """Whether there is a live checkpoint."""
        query = select(_table.c.id).where(_table.c.removed_at.is_(None)).limit(1)
        return self._connection.execute(query).first() is not None

    def live_places(self) -> dict[str, set[str]]:
        """The names of all live checkpoints, by directory."""
        found: dict[str, set[str]] = {}
        query = select(_table.c.directory, _table.c.name).where(_table.c.removed_at.is_(None))
        for directory, name in self._connection.execute(query):
            found.setdefault(directory, set()).add(name)
        return found

    def folder_places(self) -> frozenset[str]:
        """Where the live checkpoints lie that are folders, as paths; those of several files or of a file below them."""
        inner = select(_files.c.checkpoint_id).where(
            _files.c.checkpoint_id == _table.c.id, _files.c.path != _table.c.name
        )
        query = select(_table.c.directory, _table.c.name).where(_table.c.removed_at.is_(None), inner.exists())
        return frozenset(f"{directory}/{name}" for directory, name in self._connection.execute(query))

    def directories(self) -> set[str]:
        """The names of the directories that have live checkpoints."""
        query = select(_table.c.directory).where(_table.c.removed_at.is_(None)).distinct()
        return set(self._connection.execute(query).scalars())

    def largest_sequence(self, directory: str) -> int:
        """The largest number of all checkpoints of a directory, removed or not; 0 where there are none."""
        query = select(func.max(_table.c.sequence)).where(_table.c.directory == directory)
        return self._connection.execute(query).scalar() or 0

    def is_dirty(self, checkpoint_id: str) -> bool:
        """Whether the facts of a checkpoint have changed since its manifest was written."""
        return bool(self._connection.execute(select(_table.c.dirty).where(_table.c.id == checkpoint_id)).scalar())

    def is_searched_as(self, checkpoint: Checkpoint) -> bool:
        """Whether what is searched and added up says the same of a checkpoint as its row."""
        numbers, tags = schema.numbers.c, schema.tags.c
        size = select(_table.c.size_bytes).where(_table.c.id == checkpoint.id)
        pairs = select(numbers.key, numbers.value).where(numbers.checkpoint_id == checkpoint.id)
        found_tags = select(tags.tag).where(tags.checkpoint_id == checkpoint.id)
        return (
            self._connection.execute(size).scalar() == checkpoint.size_bytes
            and {row.key: row.value for row in self._connection.execute(pairs)} == mapping.numbers(checkpoint.facts)
            and set(self._connection.execute(found_tags).scalars()) == set(checkpoint.facts.tags)
        )

    def latest(self, directory: str) -> Checkpoint | None:
        """The newest live checkpoint by position."""
        query = select(_table).where(*_live(directory))
        return self._first(query.order_by(_table.c.saved_after.desc(), _table.c.sequence.desc()))

    def last_sequence(self, directory: str) -> int:
        """The last number that was given in a directory, as far as its checkpoints tell, removed ones among them."""
        query = select(func.coalesce(func.max(_table.c.sequence), 0)).where(_table.c.directory == directory)
        return int(self._connection.execute(query).scalar_one())

    def any_bytes(self, directory: str) -> bool:
        """Tell if a directory has a checkpoint that is live, or whose bytes have not been freed."""
        query = select(_table.c.id).where(_table.c.directory == directory, not_(_table.c.freed)).limit(1)
        return self._connection.execute(query).first() is not None

    def best(self, directory: str, mode: Mode, by: str | None = None) -> Checkpoint | None:
        """The live checkpoint that ranks first."""
        query, key = Query(directory, order_by="best", mode=mode, by=by), None
        while True:
            page = self.page(query, after=key, limit=1)
            key = page.next_key
            if page.checkpoints or key is None:
                return next(iter(page.checkpoints), None)

    def page(self, query: Query, *, after: tuple[Any, ...] | None, limit: int) -> Page:
        """The next checkpoints of a listing."""
        order = query.ordering
        columns = [expression.label(f"key_{place}") for place, expression in enumerate(order.expressions)]
        statement = order.joined(select(_table.c.id, *columns)).where(*conditions(query))
        if after is not None:
            statement = statement.where(order.comes_after(after))
        rows = self._connection.execute(statement.order_by(*order.by).limit(limit + 1)).all()
        ids = self.fitting([row.id for row in rows[:limit]])
        key = tuple(rows[len(ids) - 1][1:]) if len(rows) > len(ids) else None
        return Page(self.some(ids), key)

    def some(self, ids: Sequence[str]) -> Sequence[Checkpoint]:
        """Checkpoints by their ids, in the order of these."""
        found = [
            one for some in _batches(list(ids)) for one in self._readable(select(_table).where(_table.c.id.in_(some)))
        ]
        place = {checkpoint_id: number for number, checkpoint_id in enumerate(ids)}
        return sorted(found, key=lambda checkpoint: place[checkpoint.id])

    def fitting(self, ids: Sequence[str]) -> Sequence[str]:
        """The first of some checkpoints that fit into one answer, at least one of them."""
        total_bytes = 0
        for start in range(0, len(ids) if len(ids) > 1 else 0, _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            sizes = self._sizes_in_answers(some)
            for number, checkpoint_id in enumerate(some, start):
                total_bytes += sizes.get(checkpoint_id, 0)
                if total_bytes > ANSWER_BYTES and number:
                    return ids[:number]
        return ids

    def _sizes_in_answers(self, ids: Sequence[str]) -> dict[str, int]:
        """About how many bytes of JSON say all of each checkpoint."""
        facts = func.length(_table.c.metadata) + func.length(_table.c.tags)
        files = func.sum(PATH_TIMES * func.length(_files.c.path) + FILE_BYTES)
        rows = self._connection.execute(select(_table.c.id, facts).where(_table.c.id.in_(ids)))
        found = {owner: CHECKPOINT_BYTES + size_bytes for owner, size_bytes in rows}
        query = select(_files.c.checkpoint_id, files).where(_files.c.checkpoint_id.in_(ids))
        for owner, size_bytes in self._connection.execute(query.group_by(_files.c.checkpoint_id)):
            found[owner] = found.get(owner, 0) + size_bytes
        return found

    def maps(self, checkpoint_id: str) -> dict[str, FileMap]:
        """The chunks and tensors of each file."""
        rows = self._connection.execute(
            select(_files.c.path, _files.c.map).where(_files.c.checkpoint_id == checkpoint_id)
        )
        return {path: mapping.file_map(text) for path, text in rows}

    def file_map(self, checkpoint_id: str, path: str) -> FileMap | None:
        """The chunks and tensors of one file."""
        query = select(_files.c.map).where(_files.c.checkpoint_id == checkpoint_id, _files.c.path == path)
        text = self._connection.execute(query).scalar()
        return mapping.file_map(text) if text is not None else None

    def to_withdraw(self, directory: str | None = None, name: str | None = None) -> Sequence[Checkpoint]:
        """Removed checkpoints whose bytes have not left their directory."""
        query = select(_table).where(*_UNFREED, _table.c.trashed.is_(False))
        if directory is not None:
            query = query.where(_table.c.directory == directory, _table.c.name == name)
        return self._readable(query)

    def in_trash(self, *, removed_before: datetime | None = None) -> Sequence[Checkpoint]:
        """Removed checkpoints whose bytes lie in the trash, the first to go first."""
        query = select(_table).where(*_UNFREED, _table.c.trashed.is_(True))
        if removed_before is not None:
            query = query.where(_table.c.removed_at <= to_text(removed_before))
        return self._readable(query.order_by(_table.c.removed_at))

    def ids_with_bytes(self, ids: Iterable[str]) -> set[str]:
        """Those of some checkpoints whose bytes have not been given back, removed or not."""
        found: set[str] = set()
        for some in _batches(list(ids)):
            query = select(_table.c.id).where(_table.c.id.in_(some), not_(_table.c.freed))
            found |= set(self._connection.execute(query).scalars())
        return found

    def to_verify(self, now: datetime, every: timedelta) -> Named | None:
        """The live checkpoint that was not read back for the longest time, if that was long ago.

        A new one has a little time in which those who want it find it in memory; a damaged one is looked at more often.
        """
        at, damaged = _table.c.verified_at, _table.c.damage.is_not(None)
        due = or_(
            and_(at.is_(None), _table.c.created_at < to_text(now - min(every, NEW_FOR))),
            at < to_text(now - every),
            and_(damaged, at < to_text(now - min(every, DAMAGED_EVERY))),
        )
        query = select(*(_table.c[name] for name in Named._fields)).where(_table.c.removed_at.is_(None), due)
        row = self._connection.execute(query.order_by(at.asc().nulls_first()).limit(1)).one_or_none()
        return None if row is None else Named(*row)

    def dirty(self) -> Sequence[Checkpoint]:
        """Live checkpoints whose facts have changed since their manifest was written."""
        return self._readable(select(_table).where(_table.c.removed_at.is_(None), schema.DIRTY))

    # changing

    def add(self, *manifests: Manifest) -> None:
        """Keep new checkpoints."""
        self._insert(_table, [mapping.row(manifest.checkpoint, manifest.writer) for manifest in manifests])
        self._insert(_files, [row for manifest in manifests for row in mapping.file_rows(manifest)])
        self._put_searchable(manifest.checkpoint for manifest in manifests)

    def change(self, checkpoint: Checkpoint) -> None:
        """Keep changed facts or a changed place in the order; the manifest is dirty until `mark_clean`."""
        values = {**mapping.fact_values(checkpoint.facts), **mapping.place_values(checkpoint)}
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values, dirty=True))
        for table in (schema.numbers, schema.tags):
            self._connection.execute(delete(table).where(table.c.checkpoint_id == checkpoint.id))
        self._put_searchable([checkpoint])

    def save_again(self, checkpoint: Checkpoint, writer: str | None) -> None:
        """Keep what another save of the same content says: facts, place, writer, and what its files are like."""
        self.change(checkpoint)
        values = {"writer": writer, **mapping.folder_values(checkpoint)}
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values))
        of_file = (_files.c.checkpoint_id == checkpoint.id, _files.c.path == bindparam("of_path"))
        rows = [{"of_path": each.path, "new_mode": each.mode, "new_ns": each.modified_ns} for each in checkpoint.files]
        likeness: dict[str, Any] = {"mode": bindparam("new_mode"), "modified_ns": bindparam("new_ns")}
        self._connection.execute(update(_files).where(*of_file).values(**likeness), rows)

    def writer_of(self, checkpoint_id: str) -> str | None:
        """The writer that saved a checkpoint last, if that was said."""
        return self._connection.execute(select(_table.c.writer).where(_table.c.id == checkpoint_id)).scalar()

    def put_right(self, manifest: Manifest) -> None:
        """Let a row say what a manifest says, where it contradicts itself."""
        checkpoint = manifest.checkpoint
        values = {
            "name": checkpoint.name,
            "digest": checkpoint.digest,
            "size_bytes": checkpoint.size_bytes,
            "created_at": to_text(checkpoint.created_at),
            **mapping.folder_values(checkpoint),
        }
        self.change(checkpoint)
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values, dirty=False))
        self._connection.execute(delete(_files).where(_files.c.checkpoint_id == checkpoint.id))
        self._insert(_files, list(mapping.file_rows(manifest)))

    def clear_remains(self, checkpoint_id: str) -> None:
        """Drop what other tables still say of a checkpoint that has no row any more."""
        for table in (_files, schema.numbers, schema.tags):
            self._connection.execute(delete(table).where(table.c.checkpoint_id == checkpoint_id))

    def mark_clean(self, checkpoint_id: str) -> None:
        """The manifest says what the row says."""
        self._connection.execute(update(_table).where(_table.c.id == checkpoint_id).values(dirty=False))

    def mark_verified(self, checkpoint_id: str, at: datetime, damage: str | None) -> bool:
        """All bytes of a live checkpoint were read back, and this was wrong with them; whether that is news."""
        is_live = (_table.c.id == checkpoint_id, _table.c.removed_at.is_(None))
        known = self._connection.execute(select(_table.c.damage).where(*is_live)).one_or_none()
        values = {"verified_at": to_text(at), "damage": damage}
        self._connection.execute(update(_table).where(*is_live).values(**values))
        return known is not None and known.damage != damage

    def verified(self) -> Sequence[Mapping[str, Any]]:
        """What reading live checkpoints back has shown, for `put_verified`."""
        columns = (_table.c.id, _table.c.digest, _table.c.verified_at, _table.c.damage)
        query = select(*columns).where(_table.c.removed_at.is_(None), _table.c.verified_at.is_not(None))
        return [
            {f"known_{name}": value for name, value in row.items()}
            for row in self._connection.execute(query).mappings()
        ]

    def put_verified(self, verified: Sequence[Mapping[str, Any]]) -> None:
        """Keep what is known of checkpoints whose content is still the same."""
        same = (_table.c.id == bindparam("known_id"), _table.c.digest == bindparam("known_digest"))
        values: dict[str, Any] = {name: bindparam(f"known_{name}") for name in ("verified_at", "damage")}
        if verified:
            self._connection.execute(update(_table).where(*same).values(**values), list(verified))

    def mark_removed(self, checkpoint: Checkpoint, because: RemovedBecause, at: datetime) -> Checkpoint:
        """Mark a checkpoint as removed; its bytes go later."""
        values = {"removed_at": to_text(at), "removed_because": because}
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values))
        return replace(checkpoint, removed_at=at, removed_because=because)

    def mark_trashed(self, checkpoint_id: str) -> None:
        """The bytes of a removed checkpoint have left its directory."""
        self._connection.execute(update(_table).where(_table.c.id == checkpoint_id).values(trashed=True))

    def mark_restored(self, checkpoint: Checkpoint) -> None:
        """A removed checkpoint is live again; its manifest is dirty until `mark_clean`."""
        values = {"removed_at": None, "removed_because": None, "trashed": False, "pinned": checkpoint.facts.pinned}
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values, dirty=True))

    def mark_freed(self, checkpoint_id: str) -> None:
        """The bytes of a removed checkpoint are gone."""
        self._connection.execute(update(_table).where(_table.c.id == checkpoint_id).values(freed=True))

    def live_names_by_id(self) -> dict[str, tuple[str, str]]:
        """Directory and name of every live checkpoint."""
        rows = self._connection.execute(
            select(_table.c.id, _table.c.directory, _table.c.name).where(_table.c.removed_at.is_(None))
        )
        return {row.id: (row.directory, row.name) for row in rows}

    def forget_live(self) -> None:
        """Forget all live checkpoints, so that the files can say anew which there are."""
        self._connection.execute(delete(_table).where(_table.c.removed_at.is_(None)))

    def forget_removed(self, ids: Iterable[str]) -> None:
        """Forget those of some checkpoints that were removed, whatever became of their bytes."""
        for some in _batches(list(ids)):
            self._connection.execute(delete(_table).where(_table.c.id.in_(some), _table.c.removed_at.is_not(None)))

    def forget_freed(self, ids: Iterable[str]) -> set[str]:
        """Forget those of some checkpoints that were removed and whose bytes were given back; which these are."""
        found: set[str] = set()
        for some in _batches(list(ids)):
            gone = delete(_table).where(_table.c.id.in_(some), _table.c.removed_at.is_not(None), _table.c.freed)
            found |= set(self._connection.execute(gone.returning(_table.c.id)).scalars())
        return found

    # below

    def _put_searchable(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Keep the facts that are asked for by their values in tables of their own."""
        numbers, tags = [], []
        for checkpoint in checkpoints:
            for key, value in mapping.numbers(checkpoint.facts).items():
                numbers.append({"checkpoint_id": checkpoint.id, "key": key, "value": value})
            tags += [{"checkpoint_id": checkpoint.id, "tag": tag} for tag in checkpoint.facts.tags]
        self._insert(schema.numbers, numbers)
        self._insert(schema.tags, tags)

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        statement = insert(table)
        names = sorted(rows[0])
        plain = [column.type for column in table.c if column.name in rows[0]]
        if len(rows) < _MANY_ROWS or not all(isinstance(each, String | Integer) for each in plain):
            self._connection.execute(statement, rows)
            return
        # What SQLAlchemy does for each row takes longer than all the rest of it.
        compiled = statement.compile(dialect=self._connection.dialect, column_keys=names)
        order = getattr(compiled, "positiontup", None)
        given: Any = rows if order is None else [tuple(row[name] for name in order) for row in rows]
        self._connection.exec_driver_sql(str(compiled), given)

    def _one(self, query: Select[Any]) -> Checkpoint | None:
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        with _readable(row):
            return self._with_files([row])[0]

    def _first(self, query: Select[Any]) -> Checkpoint | None:
        """The first whose row can be read."""
        start, count = 0, 1
        while True:
            rows = query.limit(count).offset(start)
            if found := self._readable(rows):
                return found[0]
            if self._connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one() < count:
                return None
            start, count = start + count, _IDS_AT_ONCE

    def _readable(self, query: Select[Any]) -> Sequence[Checkpoint]:
        """Those whose rows can be read: another one must keep neither the server from starting nor a list
        from going on. The log names it once, and the scrub reports it as damage."""
        rows = self._connection.execute(query).mappings().all()
        with suppress(ValueError, TypeError, KeyError):
            return self._with_files(rows)
        found: list[Checkpoint] = []
        for row in rows:
            try:
                found += self._with_files([row])
            except (ValueError, TypeError, KeyError):
                _log_unreadable(row)
        return found

    def _with_files(self, rows: Sequence[Any]) -> Sequence[Checkpoint]:
        files: dict[str, list[File]] = {row["id"]: [] for row in rows}
        for ids in _batches(list(files)):
            query = (
                select(_files.c.checkpoint_id, *_FILE).where(_files.c.checkpoint_id.in_(ids)).order_by(_files.c.path)
            )
            for owner, *values in self._connection.execute(query):
                files[owner].append(File(*values))
        return [mapping.checkpoint(row, tuple(files[row["id"]])) for row in rows]


@contextmanager
def _readable(row: Any) -> Iterator[None]:
    """Read a row that was asked for; `RecordUnreadable`, and a line of the log, where it holds no checkpoint."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        _log_unreadable(row)
        raise RecordUnreadable(
            f"What the catalog knows of {row['directory']}/{row['name']} cannot be read; "
            "`holdfast-server fsck` repairs it from the manifest."
        ) from error


def _log_unreadable(row: Any) -> None:
    """Name a row in the log, once."""
    if row["id"] not in _named:
        _named.add(row["id"])
        said = "the catalog's row of %s/%s (%s) cannot be read and is left as it is: run holdfast-server fsck"
        logger.error(said, row["directory"], row["name"], row["id"])


def _batches(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE))


def _live(directory: str) -> tuple[ColumnElement[bool], ...]:
    return _table.c.directory == directory, _table.c.removed_at.is_(None)
