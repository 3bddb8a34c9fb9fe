"""Levels: the names directly below a path, in order, by one seek for each however many names lie further below.

A name with slashes lies below each of its leading components. The directories of live checkpoints and the files of one
checkpoint are such names.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, ScalarSelect, Select, and_, bindparam, exists, literal, not_, select
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.checkpoint_loader import batches, readable
from app.catalog.tables import mapping, schema
from app.catalog.tables.times import to_time
from app.core.errors import RecordUnreadable

Names = Callable[[str, str, int], Sequence[str]]
"""Returns names in order: those at or after a text and before another one, up to a number."""

AFTER_ALL = "\U0010ffff"
"""Comes after every name."""
_FIRST_READ = 16

_table = schema.checkpoints
_files = schema.files
_LIVE = _table.c.removed_at.is_(None)


class NamedCheckpoint(NamedTuple):
    """A live checkpoint without its facts. ``file_digest`` is that of its only file; None if it is a folder."""

    id: str
    directory: str
    name: str
    size_bytes: int
    digest: str
    created_at: datetime
    file_digest: str | None


class FileSize(NamedTuple):
    """The size and the digest of a file."""

    size_bytes: int
    digest: str


class LevelRows:
    """The names of directories with live checkpoints, of these, and of their files, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def is_directory(self, name: str) -> bool:
        """Tell if a directory holds a live checkpoint, or one below it does; `""` is all of them."""
        if not name:
            return bool(self._directories("", AFTER_ALL, 1))
        return self.holds_checkpoint(name) or bool(self._directories(f"{name}/", f"{name}0", 1))

    def holds_checkpoint(self, directory: str) -> bool:
        """Tell if a directory itself holds a live checkpoint."""
        return bool(self._directories(directory, _next(directory), 1))

    def directories(self, parent: str, *, after: str, limit: int) -> list[str]:
        """Return the first components after ``parent`` that lead to a live checkpoint, in order."""
        return components(self._directories, f"{parent}/" if parent else "", after=after, limit=limit)

    def checkpoints(self, directory: str, *, after: str, limit: int) -> list[NamedCheckpoint]:
        """Return the first live checkpoints of a directory whose names come after one, by name; no corrupt ones."""
        here = _NAMED.where(_table.c.directory == directory).order_by(_table.c.name)
        listed: list[NamedCheckpoint] = []
        while True:
            count = limit - len(listed)
            rows = self._connection.execute(here.where(_table.c.name > after).limit(count)).mappings().all()
            listed += [found for row in rows if (found := _readable(row)) is not None]
            if len(rows) < count or len(listed) == limit:
                return listed
            after = rows[-1]["name"]

    def checkpoint(self, directory: str, name: str) -> NamedCheckpoint | None:
        """Return the live checkpoint of this name; None also if its row is corrupt."""
        query = _NAMED.where(_table.c.directory == directory, _table.c.name == name)
        row = self._connection.execute(query).mappings().one_or_none()
        return _readable(row) if row is not None else None

    def within_checkpoint(self, checkpoint_id: str, folder: str, *, after: str, limit: int) -> list[str]:
        """Return the first components after ``folder`` that lead to a file of a checkpoint, in order."""

        def names(least: str, before: str, count: int) -> Sequence[str]:
            path = _files.c.path
            query = select(path).where(_files.c.checkpoint_id == checkpoint_id, path >= least, path < before)
            return self._connection.execute(query.order_by(path).limit(count)).scalars().all()

        return components(names, f"{folder}/" if folder else "", after=after, limit=limit)

    def files(self, checkpoint_id: str, paths: Sequence[str]) -> Mapping[str, FileSize]:
        """Return those of the paths that are files of a checkpoint.

        Raises
        ------
        RecordUnreadable
            The row of one of them is corrupt.
        """
        query = select(_files.c.path, _files.c.size_bytes, _files.c.digest)
        query = query.where(_files.c.checkpoint_id == checkpoint_id)
        found: dict[str, FileSize] = {}
        for batch in batches(paths):
            for path, size_bytes, digest in self._connection.execute(query.where(_files.c.path.in_(batch))):
                if not (isinstance(size_bytes, int) and isinstance(digest, str)):
                    raise _unreadable(checkpoint_id)
                found[path] = FileSize(size_bytes, digest)
        return found

    def declared_folders(self, checkpoint_id: str) -> Sequence[str]:
        """Return the folders that were declared for a checkpoint, including empty ones.

        Raises
        ------
        RecordUnreadable
            The row of the checkpoint is corrupt.
        """
        text = self._connection.execute(select(_table.c.folders).where(_table.c.id == checkpoint_id)).scalar()
        try:
            return [folder.path for folder in mapping.folders(text)]
        except (ValueError, TypeError) as error:
            raise _unreadable(checkpoint_id) from error

    def _directories(self, least: str, before: str, count: int) -> Sequence[str]:
        values = {"least": least, "before": before, "count": count}
        return self._connection.execute(_DIRECTORIES, values).scalars().all()


def components(names: Names, prefix: str, *, after: str, limit: int) -> list[str]:
    """Return the first components of names after a prefix, in their own order, each once.

    The names are in another order: ``a-b`` is between ``a`` and ``a/c``. So what is found is not a component alone, but
    every beginning of it that may be one and would otherwise come too late.

    Parameters
    ----------
    prefix : str
        Empty, or it ends with a slash.
    after : str
        Only components after this one are returned.
    """
    end = f"{prefix[:-1]}0" if prefix else AFTER_ALL
    least, at_once = _next(prefix + after) if after else prefix, min(limit, _FIRST_READ)
    found: dict[str, None] = {}
    absent: set[str] = set()
    while len(found) < limit:
        batch, before = names(least, end, at_once), len(found)
        is_last = len(batch) < at_once
        for name in batch:
            component = name[len(prefix) :].partition("/")[0]
            for beginning in _beginnings(component):
                if beginning > after and beginning not in found and beginning not in absent:
                    is_there = _leads_on(names, batch, f"{prefix}{beginning}", is_last=is_last)
                    found.update({beginning: None} if is_there else {})
                    absent.update(() if is_there else {beginning})
            if component > after:
                found[component] = None
        if is_last:
            break
        least = _beyond(batch[-1], prefix)
        at_once = max(1, min(limit - len(found), 2 * (len(found) - before)))  # few, where many lie below each
    return list(found)[:limit]


def _leads_on(names: Names, batch: Sequence[str], path: str, *, is_last: bool) -> bool:
    """Tell if there are names below a path; most often a batch of consecutive names, which was read, says so."""
    first = f"{path}/"
    place = bisect_left(batch, first)
    following = batch[place : place + 1] if is_last or place < len(batch) else names(first, f"{path}0", 1)
    return bool(following) and following[0].startswith(first)


def _beginnings(component: str) -> Iterator[str]:
    """Yield what comes before a component, while the names below it come after those of the component."""
    return (component[:end] for end in range(1, len(component)) if component[end] < "/")


def _beyond(name: str, prefix: str) -> str:
    """Return the least text after a name, and after all names that share its component unless it is that alone."""
    component, slash, _ = name[len(prefix) :].partition("/")
    return f"{prefix}{component}0" if slash else _next(name)


def _next(name: str) -> str:
    """Return a text after a name and before all longer names: no name has a control character."""
    return f"{name}\x01"


def _readable(row: Any) -> NamedCheckpoint | None:
    try:
        with readable(row):
            texts = (row["name"], row["digest"], row["file_digest"] or "")
            if not (isinstance(row["size_bytes"], int) and all(isinstance(text, str) for text in texts)):
                raise ValueError("a column holds a value of a wrong type")
            digest = row["file_digest"] if row["is_alone"] else None
            values = {name: row[name] for name in ("id", "directory", "name", "size_bytes", "digest")}
            return NamedCheckpoint(**values, created_at=to_time(row["created_at"]), file_digest=digest)
    except RecordUnreadable:
        return None


def _unreadable(checkpoint_id: str) -> RecordUnreadable:
    return RecordUnreadable(
        f"The catalog's record of the checkpoint {checkpoint_id} cannot be read; "
        "`holdfast-server fsck` repairs it from the manifest."
    )


def _named() -> Select[Any]:
    """Return the query of live checkpoints, each with the file that has its own name, and if that is the only one."""
    other = schema.files.alias("other")
    is_other = exists().where(other.c.checkpoint_id == _table.c.id, other.c.path != _table.c.name)
    same_name = and_(_files.c.checkpoint_id == _table.c.id, _files.c.path == _table.c.name)
    names = ("id", "directory", "name", "size_bytes", "digest", "created_at")
    columns = (_files.c.digest.label("file_digest"), not_(is_other).label("is_alone"))
    return (
        select(*(_table.c[name] for name in names), *columns)
        .join_from(_table, _files, same_name, isouter=True)
        .where(_LIVE)
    )


def _walk() -> Select[Any]:
    """Return the query of directories with live checkpoints in order, by one seek for each."""
    least = _least(_table.c.directory >= bindparam("least"))
    walk = select(least.label("directory"), literal(1).label("number")).cte("walk", recursive=True)
    following = _least(_table.c.directory > walk.c.directory).correlate(walk)
    step = select(following, walk.c.number + 1).where(
        walk.c.directory.is_not(None), walk.c.number < bindparam("count", type_=walk.c.number.type)
    )
    walk = walk.union_all(step)
    return select(walk.c.directory).where(walk.c.directory.is_not(None)).order_by(walk.c.number)


def _least(condition: ColumnElement[bool]) -> ScalarSelect[Any]:
    found = _table.c.directory
    query = select(found).where(_LIVE, condition, found < bindparam("before"))
    return query.order_by(found).limit(1).scalar_subquery()


_NAMED = _named()
_DIRECTORIES = _walk()
