"""The tree: directories, checkpoints and files as one namespace of paths, one level at a time.

Directories without a live checkpoint at or below them are not there, as in an object store. A checkpoint and a
directory never have the same path, so a path leads to one thing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from app.catalog import ListFilter, Session
from app.catalog.reports.levels import FileSize, NamedCheckpoint
from app.core.access import Access
from app.core.errors import InvalidRequest, PathNotFound
from app.core.names import is_within
from app.service.query.lookup import best_of
from app.service.state.context import Context, Rules

Alias = Literal["@best", "@latest"]
ALIASES: tuple[str, ...] = get_args(Alias)
"""Components that stand for the name of the best and of the latest checkpoint of the directory before them."""
EntryType = Literal["directory", "checkpoint", "folder", "file"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something at a path: a directory, a folder checkpoint, a folder in one, or a file.

    What is not known, or not without effort, is None. The times of a checkpoint and its files are that of its commit;
    those of a directory its first and its last save. ``file`` is the path of a file within its checkpoint.
    """

    path: str
    type: EntryType
    size_bytes: int | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    checkpoint_id: str | None = None
    digest: str | None = None
    file: str | None = None

    @property
    def name(self) -> str:
        """The last component of the path; empty for the root."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class TreePage:
    """What is at a path, the first of its entries after a key, and the key of the next page; None on the last one."""

    entry: Entry
    entries: Sequence[Entry] = ()
    next_key: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A live checkpoint, and a path within it; empty for the checkpoint itself."""

    checkpoint: NamedCheckpoint
    inner: str

    @property
    def path(self) -> str:
        return _joined(f"{self.checkpoint.directory}/{self.checkpoint.name}", self.inner)


class Trees:
    """Answers from rows of the catalog alone, and within what a token reaches. Changes nothing."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    def page(self, access: Access, path: str, *, after: tuple[str, str] | None, limit: int) -> TreePage:
        """Describe what is at a path, and list the level below it, by name; bounded.

        An entry of its exact name comes before an alias. On the levels above the prefix of a token, only the component
        that leads there is listed.

        Raises
        ------
        PathNotFound
            Nothing is there, or the token does not reach it.
        NoBest
            The path has ``@best``, and no checkpoint of the directory can be ranked.
        InvalidRequest
            The page before was of another checkpoint.
        RecordUnreadable
            The rows of the files of the checkpoint are corrupt. A corrupt checkpoint itself is not there.
        """
        limit = min(limit, self._rules.limits.page_size)
        with self._context.catalog.reading() as session:
            if _is_directory(session, access, path):
                return _page_of_directory(session, access, path, after=after, limit=limit)
            place = _place(session, access, path)
            page = _page_within(session, place, after=after, limit=limit)
        if page is None:
            raise _not_found(path)
        return page


def _is_directory(session: Session, access: Access, path: str) -> bool:
    if not path:
        return True
    if access.reaches(path):
        return session.levels.is_directory(path)
    return is_within(access.prefix, path) and session.levels.is_directory(access.prefix)


def _place(session: Session, access: Access, path: str) -> _Place:
    """Find the checkpoint on a path: by its name, or else by an alias."""
    splits = [split for split in _splits(path) if access.reaches(split[0])]
    for directory, name, inner in splits:
        if (found := session.levels.checkpoint(directory, name)) is not None:
            return _Place(found, inner)
    for directory, name, inner in splits:
        if name not in ALIASES or session.levels.is_directory(f"{directory}/{name}"):
            continue
        if (found := _aliased(session, directory, name)) is not None:
            return _Place(found, inner)
    raise _not_found(path)


def _splits(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield the directory, the checkpoint's name and the path within it that a path may consist of."""
    parts = path.split("/")
    for length in range(1, len(parts)):
        yield "/".join(parts[:length]), parts[length], "/".join(parts[length + 1 :])


def _aliased(session: Session, directory: str, alias: str) -> NamedCheckpoint | None:
    known = session.directories.get(directory)
    if known is None or not session.levels.holds_checkpoint(directory):
        return None
    if alias == "@best":
        found = best_of(session, directory, known.policy.ranks_by)
    else:
        latest = session.checkpoints.leading(ListFilter(directory, order_by="-position"))
        if latest is None:
            return None
        found = latest
    return session.levels.checkpoint(directory, found.name)


def _page_of_directory(
    session: Session, access: Access, path: str, *, after: tuple[str, str] | None, limit: int
) -> TreePage:
    name = _name_after(after, "")
    if access.reaches(path):
        found = _in_directory(session, path, after=name, limit=limit + 1)
        entry = _directories(session, [path])[0]
    else:
        found = _towards(session, access.prefix, path, after=name)
        entry = Entry(path, "directory")
    return _page(entry, found, "", limit)


def _towards(session: Session, prefix: str, path: str, *, after: str) -> list[Entry]:
    """List a directory above the prefix of a token: the next component of the prefix, of which nothing is told."""
    component = prefix[len(path) :].lstrip("/").partition("/")[0]
    if component <= after or not session.levels.is_directory(prefix):
        return []
    path = _joined(path, component)
    return _directories(session, [path]) if path == prefix else [Entry(path, "directory")]


def _in_directory(session: Session, path: str, *, after: str, limit: int) -> list[Entry]:
    names = session.levels.directories(path, after=after, limit=limit)
    checkpoints = session.levels.checkpoints(path, after=after, limit=limit) if path else []
    below = {name: _joined(path, name) for name in names}
    first = sorted([*names, *(checkpoint.name for checkpoint in checkpoints)])[:limit]
    listed = {entry.name: entry for entry in _directories(session, [below[name] for name in first if name in below])}
    listed |= {checkpoint.name: _checkpoint(checkpoint) for checkpoint in checkpoints}
    return [listed[name] for name in first]


def _directories(session: Session, paths: Sequence[str]) -> list[Entry]:
    known = {directory.name: directory for directory in session.directories.some(paths)}
    entries = []
    for path in paths:
        directory = known.get(path)
        created_at = directory.created_at if directory is not None else None
        modified_at = directory.last_write_at if directory is not None else None
        entries.append(Entry(path, "directory", created_at=created_at, modified_at=modified_at))
    return entries


def _checkpoint(found: NamedCheckpoint) -> Entry:
    path = f"{found.directory}/{found.name}"
    at = found.created_at
    if found.file_digest is not None:
        return Entry(path, "file", found.size_bytes, at, at, found.id, found.file_digest, found.name)
    return Entry(path, "checkpoint", found.size_bytes, at, at, found.id, found.digest)


def _page_within(session: Session, place: _Place, *, after: tuple[str, str] | None, limit: int) -> TreePage | None:
    """List the level below a path within a checkpoint; None if nothing is there."""
    checkpoint, inner = place.checkpoint, place.inner
    name = _name_after(after, checkpoint.id)
    if checkpoint.file_digest is not None:
        return TreePage(_checkpoint(checkpoint)) if not inner else None
    if inner and (file := session.levels.files(checkpoint.id, [inner]).get(inner)) is not None:
        return TreePage(_inner(checkpoint, inner, file))
    declared = session.levels.declared_folders(checkpoint.id)
    found = _in_folder(session, place, declared, after=name, limit=limit + 1)
    if not inner:
        return _page(_checkpoint(checkpoint), found, checkpoint.id, limit)
    is_there = found or inner in declared or session.levels.within_checkpoint(checkpoint.id, inner, after="", limit=1)
    return _page(_inner(checkpoint, inner, None), found, checkpoint.id, limit) if is_there else None


def _in_folder(session: Session, place: _Place, declared: Sequence[str], *, after: str, limit: int) -> list[Entry]:
    checkpoint, prefix = place.checkpoint, f"{place.inner}/" if place.inner else ""
    names = set(session.levels.within_checkpoint(checkpoint.id, place.inner, after=after, limit=limit))
    folders = (path[len(prefix) :].partition("/")[0] for path in declared if path.startswith(prefix))
    names.update(name for name in folders if name > after)
    paths = [f"{prefix}{name}" for name in sorted(names)[:limit]]
    files = session.levels.files(checkpoint.id, paths)
    return [_inner(checkpoint, path, files.get(path)) for path in paths]


def _inner(checkpoint: NamedCheckpoint, inner: str, file: FileSize | None) -> Entry:
    path, at = f"{checkpoint.directory}/{checkpoint.name}/{inner}", checkpoint.created_at
    if file is None:
        return Entry(path, "folder", None, at, at, checkpoint.id)
    return Entry(path, "file", file.size_bytes, at, at, checkpoint.id, file.digest, inner)


def _page(entry: Entry, found: Sequence[Entry], identity: str, limit: int) -> TreePage:
    next_key = (identity, found[limit - 1].name) if len(found) > limit else None
    return TreePage(entry, found[:limit], next_key)


def _name_after(after: tuple[str, str] | None, identity: str) -> str:
    """Return the name after which a page begins; the page before must be of the same checkpoint."""
    if after is None:
        return ""
    if after[0] != identity:
        raise InvalidRequest("page_token belongs to another checkpoint, whose path or alias this was; begin again.")
    return after[1]


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path and name else path or name


def _not_found(path: str) -> PathNotFound:
    """Make the refusal of a path with nothing there; the same for one that the token does not reach."""
    return PathNotFound(f"There is nothing at {path!r}.", path=path)
