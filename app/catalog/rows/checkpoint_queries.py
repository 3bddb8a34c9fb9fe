"""Queries of checkpoints: one by its id or name, the live ones of a directory, pages, and work that is due."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, and_, bindparam, func, not_, or_, select, true
from sqlalchemy.sql import ColumnElement

from app.catalog.rows import checkpoint_loader as loader
from app.catalog.rows.listing import all_entries, entries
from app.catalog.tables import mapping, schema
from app.catalog.tables.filters import ListFilter, Page
from app.catalog.tables.times import to_text
from app.core import ranking
from app.core.errors import DiskFailed, RecordUnreadable
from app.core.models import Checkpoint, File, FileMap, Mode

T = TypeVar("T")

NEW_FOR = timedelta(minutes=10)
"""The time before a new checkpoint is read back: its first readers shall find it in memory."""
DAMAGED_EVERY = timedelta(hours=1)

_table = schema.checkpoints
_files = schema.files
_LIVE = _table.c.removed_at.is_(None)
_BY_ID = select(_table).where(_table.c.id == bindparam("id"))
_NAMED = select(_table).where(_table.c.directory == bindparam("directory"), _LIVE, _table.c.name == bindparam("name"))
_UNFREED = (_table.c.removed_at.is_not(None), schema.UNFREED)


class CheckpointIdentity(NamedTuple):
    """The identity of a checkpoint, which can be read even if the rest of its row is corrupt."""

    id: str
    directory: str
    name: str


class CheckpointQueries:
    """Checkpoints, as one transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # one checkpoint

    def get(self, checkpoint_id: str) -> Checkpoint | None:
        """Return the checkpoint of this id, removed or not.

        Raises
        ------
        RecordUnreadable
            Its row is corrupt.
        """
        return loader.one(self._connection, _BY_ID, id=checkpoint_id)

    def with_file(self, checkpoint_id: str, path: str | None) -> Checkpoint | None:
        """Return the checkpoint with the file of this path, if it has it; the cost is the same for any number of files.

        Without a path, it comes with its first two files. A file that has the checkpoint's own name comes with another
        one, if there is one, so that `Checkpoint.is_folder` is right in any case.
        """
        chosen = and_(_files.c.checkpoint_id == _table.c.id, _files.c.path == path if path is not None else true())
        columns = [column.label(f"file_{column.name}") for column in loader.FILE_COLUMNS]
        query = select(_table, *columns).join_from(_table, _files, chosen, isouter=True)
        query = query.where(_table.c.id == checkpoint_id).order_by(_files.c.path).limit(2)
        rows = self._connection.execute(query).mappings().all()
        if not rows:
            return None
        found = [File(*(row[column.name] for column in columns)) for row in rows if row["file_path"] is not None]
        if path == rows[0]["name"]:  # alone it would pass for a checkpoint of one file
            others = select(*loader.FILE_COLUMNS).where(_files.c.checkpoint_id == checkpoint_id, _files.c.path != path)
            found += [File(*values) for values in self._connection.execute(others.limit(1))]
        with loader.readable(rows[0]):
            return mapping.checkpoint(rows[0], tuple(found))

    def with_files_at(self, checkpoint_id: str, first: int, stop: int) -> Checkpoint | None:
        """Return the checkpoint with a slice of its files, which are sorted by path."""
        query = select(_table).where(_table.c.id == checkpoint_id)
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        files = select(*loader.FILE_COLUMNS).where(_files.c.checkpoint_id == checkpoint_id).order_by(_files.c.path)
        found = [File(*values) for values in self._connection.execute(files.limit(stop - first).offset(first))]
        with loader.readable(row):
            return mapping.checkpoint(row, tuple(found))

    def named(self, directory: str, name: str) -> Checkpoint | None:
        """Return the live checkpoint of this name.

        Raises
        ------
        DiskFailed
            Its row is corrupt. The client may repeat a save of that name once the row is repaired.
        """
        try:
            return loader.one(self._connection, _NAMED, directory=directory, name=name)
        except RecordUnreadable as error:
            raise DiskFailed(error.detail) from error

    def latest(self, directory: str) -> Checkpoint | None:
        """Return the newest live checkpoint by position."""
        query = select(_table).where(*_live(directory))
        return loader.first(self._connection, query.order_by(_table.c.saved_after.desc(), _table.c.sequence.desc()))

    def best(self, directory: str, mode: Mode, by: str | None = None) -> Checkpoint | None:
        """Return the live checkpoint that ranks first."""
        wanted, key = ListFilter(directory, order_by="best", mode=mode, by=by), None
        while True:
            page = self.page(wanted, after=key, limit=1)
            key = page.next_key
            if page.checkpoints or key is None:
                return next(iter(page.checkpoints), None)

    def leading(self, wanted: ListFilter) -> Checkpoint | None:
        """Return the first checkpoint of a listing, without its files: the cost is the same for any number of them."""
        for entry in all_entries(self._connection, wanted):
            row = self._connection.execute(_BY_ID, {"id": entry.id}).mappings().one()
            with suppress(RecordUnreadable), loader.readable(row):
                return mapping.checkpoint(row, ())
        return None

    def maps(self, checkpoint_id: str) -> dict[str, FileMap]:
        """Return the chunks and tensors of each file."""
        query = select(_files.c.path, _files.c.map).where(_files.c.checkpoint_id == checkpoint_id)
        return {path: mapping.file_map(text) for path, text in self._connection.execute(query)}

    def file_map(self, checkpoint_id: str, path: str) -> FileMap | None:
        """Return the chunks and tensors of one file."""
        query = select(_files.c.map).where(_files.c.checkpoint_id == checkpoint_id, _files.c.path == path)
        text = self._connection.execute(query).scalar()
        return mapping.file_map(text) if text is not None else None

    # single values, which can be read even if the rest of the row is corrupt

    def directory_of(self, checkpoint_id: str) -> str | None:
        """Return the directory of a checkpoint, removed or not."""
        return self._value(_table.c.directory, checkpoint_id)

    def sequence_of(self, checkpoint_id: str) -> int | None:
        """Return the sequence number of a checkpoint, removed or not."""
        return self._value(_table.c.sequence, checkpoint_id)

    def writer_of(self, checkpoint_id: str) -> str | None:
        """Return the writer that saved a checkpoint last, if the client named one."""
        return self._value(_table.c.writer, checkpoint_id)

    def is_manifest_stale(self, checkpoint_id: str) -> bool:
        """Tell if the facts of a checkpoint have changed since its manifest was written."""
        return bool(self._value(_table.c.manifest_stale, checkpoint_id))

    def is_searched_as(self, checkpoint: Checkpoint) -> bool:
        """Tell if the values that are searched and summed agree with the checkpoint."""
        numbers, tags = schema.numbers.c, schema.tags.c
        pairs = select(schema.numbers).where(numbers.checkpoint_id == checkpoint.id)
        found_tags = select(tags.tag).where(tags.checkpoint_id == checkpoint.id)
        found = [dict(row) for row in self._connection.execute(pairs).mappings() if ranking.is_key(row["key"])]
        return (
            self._value(_table.c.size_bytes, checkpoint.id) == checkpoint.size_bytes
            and sorted(found, key=itemgetter("key")) == sorted(mapping.number_rows(checkpoint), key=itemgetter("key"))
            and set(self._connection.execute(found_tags).scalars()) == set(checkpoint.facts.tags)
        )

    # the checkpoints of a directory

    def live(self, directory: str) -> Sequence[Checkpoint]:
        """Return all live checkpoints of a directory, oldest first."""
        query = select(_table).where(*_live(directory)).order_by(_table.c.saved_after, _table.c.sequence)
        return loader.every(self._connection, query)

    def live_names(self, directory: str) -> Sequence[tuple[str, str]]:
        """Return id and name of all live checkpoints of a directory, also of those whose rows are corrupt."""
        query = select(_table.c.id, _table.c.name).where(*_live(directory)).order_by(_table.c.sequence)
        return [(found, name) for found, name in self._connection.execute(query)]

    def largest_sequence(self, directory: str) -> int:
        """Return the largest sequence number of all checkpoints of a directory, removed or not; 0 if it has none."""
        query = select(func.max(_table.c.sequence)).where(_table.c.directory == directory)
        return self._connection.execute(query).scalar() or 0

    def any_bytes(self, directory: str) -> bool:
        """Tell if a directory has a checkpoint that is live, or whose bytes have not been freed."""
        here = select(_table.c.id).where(_table.c.directory == directory).limit(1)
        queries = (here.where(_LIVE), here.where(*_UNFREED))
        return any(self._connection.execute(query).first() is not None for query in queries)

    def page(self, wanted: ListFilter, *, after: tuple[Any, ...] | None, limit: int) -> Page:
        """Return the checkpoints of a listing that come after a key, as many as fit into one answer."""
        found = entries(self._connection, wanted, after=after, limit=limit + 1)
        ids = loader.fitting(self._connection, [entry.id for entry in found[:limit]])
        key = found[len(ids) - 1].key if len(found) > len(ids) else None
        return Page(self.some(ids), key)

    def some(self, ids: Sequence[str]) -> Sequence[Checkpoint]:
        """Return checkpoints by their ids, in the order of the ids; without those whose rows are corrupt."""
        return loader.some(self._connection, ids)

    def fitting(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the leading ids whose checkpoints fit into one answer; at least one of them."""
        return loader.fitting(self._connection, ids)

    # all directories

    def any_live(self) -> bool:
        """Tell if there is a live checkpoint."""
        return self._connection.execute(select(_table.c.id).where(_LIVE).limit(1)).first() is not None

    def numbers(self) -> dict[str, tuple[str, int]]:
        """Return the directory and the sequence number of every checkpoint, removed or not, by id."""
        columns = (_table.c.id, _table.c.directory, _table.c.sequence)
        return {owner: (directory, number) for owner, directory, number in self._connection.execute(select(*columns))}

    def live_names_by_id(self) -> dict[str, tuple[str, str]]:
        """Return directory and name of every live checkpoint, by id."""
        rows = self._connection.execute(select(_table.c.id, _table.c.directory, _table.c.name).where(_LIVE))
        return {row.id: (row.directory, row.name) for row in rows}

    def live_names_by_directory(self) -> dict[str, set[str]]:
        """Return the names of all live checkpoints, by directory."""
        found: dict[str, set[str]] = {}
        for directory, name in self._connection.execute(select(_table.c.directory, _table.c.name).where(_LIVE)):
            found.setdefault(directory, set()).add(name)
        return found

    def folder_paths(self) -> frozenset[str]:
        """Return the paths of the live checkpoints that are folders: they have a file below their own name."""
        inner = select(_files.c.checkpoint_id).where(
            _files.c.checkpoint_id == _table.c.id, _files.c.path != _table.c.name
        )
        query = select(_table.c.directory, _table.c.name).where(_LIVE, inner.exists())
        return frozenset(f"{directory}/{name}" for directory, name in self._connection.execute(query))

    def directories(self) -> set[str]:
        """Return the names of the directories that have live checkpoints."""
        return set(self._connection.execute(select(_table.c.directory).where(_LIVE).distinct()).scalars())

    # work that is due

    def to_move_to_trash(self, directory: str | None = None, name: str | None = None) -> Sequence[Checkpoint]:
        """Return removed checkpoints whose bytes have not left their directory."""
        query = select(_table).where(*_UNFREED, _table.c.trashed.is_(False))
        if directory is not None:
            query = query.where(_table.c.directory == directory, _table.c.name == name)
        return loader.every(self._connection, query)

    def in_trash(self, *, removed_before: datetime | None = None) -> Sequence[Checkpoint]:
        """Return removed checkpoints whose bytes lie in the trash, in the order of their removal."""
        query = select(_table).where(*_UNFREED, _table.c.trashed.is_(True))
        if removed_before is not None:
            query = query.where(_table.c.removed_at <= to_text(removed_before))
        return loader.every(self._connection, query.order_by(_table.c.removed_at))

    def ids_with_bytes(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids whose checkpoints still occupy bytes, removed or not."""
        found: set[str] = set()
        for batch in loader.batches(ids):
            query = select(_table.c.id).where(_table.c.id.in_(batch), not_(_table.c.freed))
            found |= set(self._connection.execute(query).scalars())
        return found

    def to_verify(self, now: datetime, every: timedelta) -> CheckpointIdentity | None:
        """Return the live checkpoint that was read back the longest time ago, if that is due.

        A new one is due after `NEW_FOR`, a damaged one each `DAMAGED_EVERY`, any other after ``every``.
        """
        at, damaged = _table.c.verified_at, _table.c.damage.is_not(None)
        due = or_(
            and_(at.is_(None), _table.c.created_at < to_text(now - min(every, NEW_FOR))),
            at < to_text(now - every),
            and_(damaged, at < to_text(now - min(every, DAMAGED_EVERY))),
        )
        query = select(*(_table.c[name] for name in CheckpointIdentity._fields)).where(_LIVE, due)
        row = self._connection.execute(query.order_by(at.asc().nulls_first()).limit(1)).one_or_none()
        return None if row is None else CheckpointIdentity(*row)

    def verified(self) -> Sequence[Mapping[str, Any]]:
        """Return the results of reading live checkpoints back, for `CheckpointRows.put_verified`."""
        columns = (_table.c.id, _table.c.digest, _table.c.verified_at, _table.c.damage)
        rows = self._connection.execute(select(*columns).where(_LIVE, _table.c.verified_at.is_not(None))).mappings()
        return [{f"known_{name}": value for name, value in row.items()} for row in rows]

    def with_stale_manifest(self) -> Sequence[Checkpoint]:
        """Return live checkpoints whose facts have changed since their manifest was written."""
        return loader.every(self._connection, select(_table).where(_LIVE, schema.MANIFEST_STALE))

    def _value(self, column: ColumnElement[T], checkpoint_id: str) -> T | None:
        return self._connection.execute(select(column).where(_table.c.id == checkpoint_id)).scalar()


def _live(directory: str) -> tuple[ColumnElement[bool], ...]:
    return _table.c.directory == directory, _LIVE
