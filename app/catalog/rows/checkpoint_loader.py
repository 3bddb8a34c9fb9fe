"""Loading of checkpoints: rows and their files as models, in batches; corrupt rows are skipped and logged."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.sql import Select

from app.catalog.tables import mapping, schema
from app.catalog.tables.portable import total
from app.core.errors import RecordUnreadable
from app.core.models import Checkpoint, File

logger = logging.getLogger("holdfast")

ANSWER_BYTES = 4 * 2**20
"""The approximate size of a page of checkpoints as JSON; a single checkpoint may be larger."""
CHECKPOINT_BYTES, FILE_BYTES, PATH_TIMES = 800, 300, 4
"""The share of a checkpoint without files and metadata, of each file, and how often a file repeats its path."""
IDS_AT_ONCE = 500
"""The most ids that one statement names."""

_table = schema.checkpoints
_files = schema.files
FILE_COLUMNS = (
    *(_files.c.path, _files.c.size_bytes, _files.c.digest),
    *(_files.c.version, _files.c.mode, _files.c.modified_ns),
)
"""The columns of a `File`, in its order."""
_logged: set[str] = set()
"""The ids of corrupt rows that the log has named lately."""
_MOST_LOGGED = 10_000


def one(connection: Connection, query: Select[Any], **values: str) -> Checkpoint | None:
    """Return the only checkpoint that the query finds; None if it finds none.

    Raises
    ------
    RecordUnreadable
        Its row is corrupt.
    """
    row = connection.execute(query, values).mappings().one_or_none()
    if row is None:
        return None
    with readable(row):
        return _with_files(connection, [row])[0]


def first(connection: Connection, query: Select[Any]) -> Checkpoint | None:
    """Return the first checkpoint whose row is not corrupt."""
    start, count = 0, 1
    while True:
        rows = query.limit(count).offset(start)
        if found := every(connection, rows):
            return found[0]
        if connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one() < count:
            return None
        start, count = start + count, IDS_AT_ONCE


def every(connection: Connection, query: Select[Any]) -> Sequence[Checkpoint]:
    """Return every checkpoint that the query finds and whose row is not corrupt.

    A corrupt row must not keep the server from starting, or a list from continuing: the log names it once, and the
    scrub reports it as damage.
    """
    rows = connection.execute(query).mappings().all()
    with suppress(ValueError, TypeError, KeyError):
        return _with_files(connection, rows)
    found: list[Checkpoint] = []
    for row in rows:
        try:
            found += _with_files(connection, [row])
        except (ValueError, TypeError, KeyError):
            _log_corrupt(row)
    return found


def some(connection: Connection, ids: Sequence[str]) -> Sequence[Checkpoint]:
    """Return checkpoints by their ids, in the order of the ids."""
    found = [
        checkpoint
        for batch in batches(ids)
        for checkpoint in every(connection, select(_table).where(_table.c.id.in_(batch)))
    ]
    positions = {checkpoint_id: number for number, checkpoint_id in enumerate(ids)}
    return sorted(found, key=lambda checkpoint: positions[checkpoint.id])


def fitting(connection: Connection, ids: Sequence[str]) -> Sequence[str]:
    """Return the leading ids whose checkpoints fit into one answer; at least one of them."""
    total_bytes = 0
    for start in range(0, len(ids) if len(ids) > 1 else 0, IDS_AT_ONCE):
        batch = ids[start : start + IDS_AT_ONCE]
        sizes = _sizes_in_answers(connection, batch)
        for number, checkpoint_id in enumerate(batch, start):
            total_bytes += sizes.get(checkpoint_id, 0)
            if total_bytes > ANSWER_BYTES and number:
                return ids[:number]
    return ids


@contextmanager
def readable(row: Any) -> Iterator[None]:
    """Turn errors of parsing a row into `RecordUnreadable`, and log them."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        _log_corrupt(row)
        raise RecordUnreadable(
            f"The catalog's record of {row['directory']}/{row['name']} cannot be read; "
            "`holdfast-server fsck` repairs it from the manifest."
        ) from error


def batches(ids: Iterable[str]) -> Iterable[list[str]]:
    """Split ids into lists that one statement can name."""
    every_id = list(ids)
    return (every_id[start : start + IDS_AT_ONCE] for start in range(0, len(every_id), IDS_AT_ONCE))


def _sizes_in_answers(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Estimate the bytes of JSON that describe each checkpoint."""
    facts = func.length(_table.c.metadata) + func.length(_table.c.tags)
    files = total(PATH_TIMES * func.length(_files.c.path) + FILE_BYTES)
    rows = connection.execute(select(_table.c.id, facts).where(_table.c.id.in_(ids)))
    found = {owner: CHECKPOINT_BYTES + size_bytes for owner, size_bytes in rows}
    query = select(_files.c.checkpoint_id, files).where(_files.c.checkpoint_id.in_(ids))
    for owner, size_bytes in connection.execute(query.group_by(_files.c.checkpoint_id)):
        found[owner] = found.get(owner, 0) + size_bytes
    return found


def _with_files(connection: Connection, rows: Sequence[Any]) -> Sequence[Checkpoint]:
    files: dict[str, list[File]] = {row["id"]: [] for row in rows}
    for ids in batches(files):
        query = select(_files.c.checkpoint_id, *FILE_COLUMNS).where(_files.c.checkpoint_id.in_(ids))
        for owner, *values in connection.execute(query.order_by(_files.c.path)):
            files[owner].append(File(*values))
    return [mapping.checkpoint(row, tuple(files[row["id"]])) for row in rows]


def _log_corrupt(row: Any) -> None:
    if row["id"] not in _logged:
        if len(_logged) >= _MOST_LOGGED:
            _logged.clear()  # they are named once more
        _logged.add(row["id"])
        text = "the catalog's row of %s/%s (%s) cannot be read and is left as it is: run holdfast-server fsck"
        logger.error(text, row["directory"], row["name"], row["id"])
