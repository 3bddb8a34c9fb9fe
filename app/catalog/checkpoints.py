"""Rows of checkpoints: their facts, files and order."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, exists, insert, select, update
from sqlalchemy.sql import ColumnElement, Select

from app import ranking
from app.catalog import schema
from app.catalog.order import Order, Ordering, ordering, ranking_order
from app.catalog.times import to_text, to_time
from app.domain import Checkpoint, Facts, File, FileMap, Kind, Manifest, Mode, RemovedBecause

_table = schema.checkpoints
_files = schema.files
_MAP = TypeAdapter(FileMap)
_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Query:
    """Which checkpoints of a directory to list, and in which order; None asks nothing."""

    directory: str
    order_by: Order = "position"
    mode: Mode = "min"
    by: str | None = None
    name: str | None = None
    kind: Kind | None = None
    pinned: bool | None = None
    is_best: bool | None = None
    tag: str | None = None
    epoch_min: int | None = None
    epoch_max: int | None = None
    metric_min: float | None = None
    metric_max: float | None = None
    include_removed: bool = False

    @property
    def ordering(self) -> Ordering:
        return ranking_order(self.mode, self.by) if self.order_by == "best" else ordering(self.order_by)

    @property
    def key_length(self) -> int:
        """Of how many values the key of a page consists."""
        return len(self.ordering.expressions)


@dataclass(frozen=True, slots=True)
class Page:
    """Some checkpoints, and the key after which the next page begins; None where this is the last."""

    checkpoints: Sequence[Checkpoint]
    next_key: tuple[Any, ...] | None


class CheckpointRows:
    """Checkpoints within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # reading

    def get(self, checkpoint_id: str) -> Checkpoint | None:
        """The checkpoint of this id, removed or not."""
        return self._one(select(_table).where(_table.c.id == checkpoint_id))

    def named(self, directory: str, name: str) -> Checkpoint | None:
        """The live checkpoint of this name."""
        return self._one(select(_table).where(*_live(directory), _table.c.name == name))

    def sequence_taken(self, directory: str, sequence: int) -> bool:
        """Whether a checkpoint of this directory, removed or not, has this number."""
        query = select(_table.c.id).where(_table.c.directory == directory, _table.c.sequence == sequence)
        return self._connection.execute(query).first() is not None

    def live(self, directory: str) -> Sequence[Checkpoint]:
        """All live checkpoints of a directory, oldest first."""
        query = select(_table).where(*_live(directory)).order_by(_table.c.saved_after, _table.c.sequence)
        return self._many(query)

    def latest(self, directory: str) -> Checkpoint | None:
        """The newest live checkpoint by position."""
        query = select(_table).where(*_live(directory))
        return self._one(query.order_by(_table.c.saved_after.desc(), _table.c.sequence.desc()).limit(1))

    def best(self, directory: str, mode: Mode, by: str | None = None) -> Checkpoint | None:
        """The live checkpoint that ranks first."""
        page = self.page(Query(directory, order_by="best", mode=mode, by=by), after=None, limit=1)
        return next(iter(page.checkpoints), None)

    def page(self, query: Query, *, after: tuple[Any, ...] | None, limit: int) -> Page:
        """The next checkpoints of a listing."""
        order = query.ordering
        columns = [expression.label(f"key_{place}") for place, expression in enumerate(order.expressions)]
        statement = order.joined(select(_table, *columns)).where(*_conditions(query))
        if after is not None:
            statement = statement.where(order.comes_after(after))
        rows = self._connection.execute(statement.order_by(*order.by).limit(limit + 1)).mappings().all()
        shown = rows[:limit]
        more = len(rows) > limit
        key = tuple(shown[-1][f"key_{place}"] for place in range(len(columns))) if more else None
        return Page(self._with_files(shown), key)

    def maps(self, checkpoint_id: str) -> dict[str, FileMap]:
        """The chunks and tensors of each file."""
        rows = self._connection.execute(
            select(_files.c.path, _files.c.map).where(_files.c.checkpoint_id == checkpoint_id)
        )
        return {path: _MAP.validate_json(text) for path, text in rows}

    def unfreed(self, directory: str | None = None, name: str | None = None) -> Sequence[Checkpoint]:
        """Removed checkpoints whose bytes have not been given back."""
        query = select(_table).where(_table.c.removed_at.is_not(None), _table.c.freed.is_(False))
        if directory is not None:
            query = query.where(_table.c.directory == directory, _table.c.name == name)
        return self._many(query)

    def dirty(self) -> Sequence[Checkpoint]:
        """Live checkpoints whose facts have changed since their manifest was written."""
        return self._many(select(_table).where(_table.c.removed_at.is_(None), _table.c.dirty.is_(True)))

    # changing

    def add(self, manifest: Manifest) -> None:
        """Keep a new checkpoint."""
        checkpoint = manifest.checkpoint
        values = {**_fact_values(checkpoint.facts), **_place_values(checkpoint)}
        self._connection.execute(
            insert(_table).values(
                id=checkpoint.id,
                directory=checkpoint.directory,
                name=checkpoint.name,
                digest=checkpoint.digest,
                size_bytes=checkpoint.size_bytes,
                created_at=to_text(checkpoint.created_at),
                **values,
            )
        )
        self._connection.execute(
            insert(_files),
            [
                {
                    "checkpoint_id": checkpoint.id,
                    "path": file.path,
                    "size_bytes": file.size_bytes,
                    "digest": file.digest,
                    "mtime_ns": file.mtime_ns,
                    "map": _MAP.dump_json(manifest.maps[file.path]).decode(),
                }
                for file in checkpoint.files
            ],
        )
        self._put_searchable(checkpoint.id, checkpoint.facts)

    def change(self, checkpoint: Checkpoint) -> None:
        """Keep changed facts or a changed place in the order; the manifest is dirty until `mark_clean`."""
        values = {**_fact_values(checkpoint.facts), **_place_values(checkpoint)}
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values, dirty=True))
        for table in (schema.numbers, schema.tags):
            self._connection.execute(delete(table).where(table.c.checkpoint_id == checkpoint.id))
        self._put_searchable(checkpoint.id, checkpoint.facts)

    def mark_clean(self, checkpoint_id: str) -> None:
        """The manifest says what the row says."""
        self._connection.execute(update(_table).where(_table.c.id == checkpoint_id).values(dirty=False))

    def mark_removed(self, checkpoint: Checkpoint, because: RemovedBecause, at: datetime) -> Checkpoint:
        """Mark a checkpoint as removed; its bytes go later."""
        values = {"removed_at": to_text(at), "removed_because": because}
        self._connection.execute(update(_table).where(_table.c.id == checkpoint.id).values(**values))
        return replace(checkpoint, removed_at=at, removed_because=because)

    def mark_freed(self, checkpoint_id: str) -> None:
        """The bytes of a removed checkpoint are gone."""
        self._connection.execute(update(_table).where(_table.c.id == checkpoint_id).values(freed=True))

    def forget_live(self) -> None:
        """Forget all live checkpoints, so that the files can say anew which there are."""
        self._connection.execute(delete(_table).where(_table.c.removed_at.is_(None)))

    # below

    def _put_searchable(self, checkpoint_id: str, facts: Facts) -> None:
        """Keep the facts that are asked for by their values in tables of their own."""
        numbers = [
            {"checkpoint_id": checkpoint_id, "key": key, "value": value}
            for key, found in facts.metadata.items()
            if (value := ranking.finite(found)) is not None
        ]
        tags = [{"checkpoint_id": checkpoint_id, "tag": tag} for tag in facts.tags]
        for table, rows in ((schema.numbers, numbers), (schema.tags, tags)):
            if rows:
                self._connection.execute(insert(table), rows)

    def _one(self, query: Select[Any]) -> Checkpoint | None:
        return next(iter(self._many(query)), None)

    def _many(self, query: Select[Any]) -> Sequence[Checkpoint]:
        return self._with_files(self._connection.execute(query).mappings().all())

    def _with_files(self, rows: Sequence[Any]) -> Sequence[Checkpoint]:
        files: dict[str, list[File]] = {row["id"]: [] for row in rows}
        columns = (_files.c.checkpoint_id, _files.c.path, _files.c.size_bytes, _files.c.digest, _files.c.mtime_ns)
        for ids in _batches(list(files)):
            query = select(*columns).where(_files.c.checkpoint_id.in_(ids)).order_by(_files.c.path)
            for owner, *values in self._connection.execute(query):
                files[owner].append(File(*values))
        return [_checkpoint(row, tuple(files[row["id"]])) for row in rows]


def _batches(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE))


def _live(directory: str) -> tuple[ColumnElement[bool], ...]:
    return _table.c.directory == directory, _table.c.removed_at.is_(None)


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    conditions = [_table.c.directory == query.directory]
    if not query.include_removed:
        conditions.append(_table.c.removed_at.is_(None))
    for name in ("name", "kind", "pinned", "is_best"):
        if (wanted := getattr(query, name)) is not None:
            conditions.append(_table.c[name] == wanted)
    if query.tag is not None:
        tags = schema.tags.c
        conditions.append(exists().where(tags.checkpoint_id == _table.c.id, tags.tag == query.tag))
    for column, least, most in (
        ("epoch", query.epoch_min, query.epoch_max),
        ("metric", query.metric_min, query.metric_max),
    ):
        if least is not None:
            conditions.append(_table.c[column] >= least)
        if most is not None:
            conditions.append(_table.c[column] <= most)
    return conditions


def _fact_values(facts: Facts) -> Mapping[str, Any]:
    finite = ranking.finite(facts.metric)
    return {
        "kind": facts.kind,
        "epoch": facts.epoch,
        "metric": finite,
        "metric_text": None if facts.metric is None or finite is not None else repr(facts.metric),
        "is_best": facts.is_best,
        "pinned": facts.pinned,
        "tags": json.dumps(list(facts.tags), ensure_ascii=False),
        "metadata": json.dumps(dict(facts.metadata), ensure_ascii=False, allow_nan=False),
    }


def _place_values(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return {
        "save_id": checkpoint.save_id,
        "sequence": checkpoint.sequence,
        "saved_after": checkpoint.saved_after,
    }


def _checkpoint(row: Any, files: tuple[File, ...]) -> Checkpoint:
    facts = Facts(
        kind=row["kind"],
        epoch=row["epoch"],
        metric=float(row["metric_text"]) if row["metric_text"] is not None else row["metric"],
        is_best=row["is_best"],
        pinned=row["pinned"],
        tags=tuple(json.loads(row["tags"])),
        metadata=json.loads(row["metadata"]),
    )
    return Checkpoint(
        id=row["id"],
        directory=row["directory"],
        name=row["name"],
        save_id=row["save_id"],
        sequence=row["sequence"],
        saved_after=row["saved_after"],
        facts=facts,
        files=files,
        digest=row["digest"],
        created_at=to_time(row["created_at"]),
        removed_at=to_time(row["removed_at"]),
        removed_because=row["removed_because"],
    )
