"""Targets of folders: a folder is built beside its target and durable before it is renamed, so it appears whole."""

import ctypes
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..._api import digests
from ..._api.wire import Chunk
from ..._arguments.name_mapping import safe_components
from ..._runtime.file_attributes import FileAttributes
from ..._runtime.interruption import reraise, suppress
from ..._runtime.parallel import in_parallel
from ...errors import InvalidRequest
from .. import fsync

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NEW, _ATTEMPTS = ".new-", 3


def put_whole(
    to: Path,
    files: Mapping[str, Sequence[Chunk]],
    folders: Mapping[str, FileAttributes],
    fill: Callable[[Mapping[str, Path]], object],
    *,
    overwrite: bool = False,
    keep_replaced: bool = False,
) -> Path | None:
    """Put a folder at a path, where it appears as a whole or not at all. Does nothing if it is there already.

    Parameters
    ----------
    files : mapping
        The chunks of each file, by its path within the folder.
    folders : mapping
        The attributes of the folders in it, and of itself at the path ``""``.
    fill : callable
        Called with the new path of each file, to write it there with its attributes.
    overwrite : bool
        Whether a folder of other content is replaced.
    keep_replaced : bool
        Whether that is kept under a hidden name.

    Returns
    -------
    Path or None
        The path at which a folder is kept that was replaced.

    Raises
    ------
    FileExistsError
        A folder of other content is there, or a file.
    InvalidRequest
        A link is there.
    """
    if _is_there(to, files, overwrite=overwrite):
        return None
    places = {path: Path(*safe_components(path)) for path in files}
    inner = {Path(*safe_components(path)) if path else Path(): like for path, like in folders.items()}
    with new_folder(to.parent, to.name) as new, watched(new.path) as disk:
        aside = new.path
        made = sorted({Path(), *inner, *(place.parent for place in places.values())})
        for folder in made:
            (aside / folder).mkdir(parents=True, exist_ok=True)
        fill({path: aside / place for path, place in places.items()})
        for folder in sorted(inner, reverse=True):  # the innermost first, as a change of a folder touches the one above
            inner[folder].apply(aside / folder)
        disk.sync([aside / place for place in places.values()], folders_in(aside))
        return _renamed(new, to, files, overwrite=overwrite, keep_replaced=keep_replaced)


def _is_there(to: Path, files: Mapping[str, Sequence[Chunk]], *, overwrite: bool) -> bool:
    """Tell if a path holds these files; raise the error for what may not be replaced."""
    if to.is_symlink():
        why = f"is a link to {to.readlink()}: name that path, or remove the link"
        raise InvalidRequest(f"{to} {why}. It is left unchanged.", code="target_unsuitable")
    if not to.is_dir():
        if to.exists():
            raise FileExistsError(f"{to} is not a folder, but the checkpoint is one")
        return False
    if holds(to, files):
        return True
    if any(to.iterdir()) and not overwrite:
        raise _other_content(to)
    return False


def holds(folder: Path, files: Mapping[str, Sequence[Chunk]]) -> bool:
    """Tell if a folder holds files of this content, and no others."""
    found = {Path(where, name).relative_to(folder).as_posix() for where, _, names in os.walk(folder) for name in names}
    if found != files.keys():
        return False
    differing: list[str] = []

    def compare(path: str) -> None:
        if not differing and not _is_of(folder / path, files[path]):
            differing.append(path)

    in_parallel(files, compare, threads=digests.THREADS)
    return not differing


def _is_of(path: Path, chunks: Sequence[Chunk]) -> bool:
    with suppress(OSError), path.open("rb", buffering=0) as opened:
        if path.is_symlink() or os.fstat(opened.fileno()).st_size != sum(chunk.length for chunk in chunks):
            return False
        return all(digests.of_chunk(opened.read(chunk.length)) == chunk.digest for chunk in chunks)
    return False


class NewFolder:
    """A hidden folder that is being built, locked while its process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_ours = True
        """False once another folder may be at the path, which is not to be removed."""


@contextmanager
def new_folder(parent: Path, name: str) -> Iterator[NewFolder]:
    """Yield a new hidden folder; what is left of it at the end is removed, and what killed processes have left before.

    Its name is ``.NAME.new-`` and 16 hex digits.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent, name)
    path, descriptor = _made(parent, name)
    new = NewFolder(path)
    try:
        yield new
    finally:
        if new.is_ours:
            shutil.rmtree(new.path, ignore_errors=True)
        os.close(descriptor)


def _made(parent: Path, name: str) -> tuple[Path, int]:
    """Make a folder; returns it with a descriptor that holds its lock, if the file system has locks."""
    for _ in range(_ATTEMPTS):
        path = parent / f".{name}{_NEW}{secrets.token_hex(8)}"
        path.mkdir()
        with suppress(FileNotFoundError):  # another process found it before it was locked, and removed it
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _try_lock(descriptor)
            if path.is_dir():
                return path, descriptor
            os.close(descriptor)
    raise FileNotFoundError(f"{parent} loses what is made in it")


def _remove_abandoned(parent: Path, name: str) -> None:
    """Remove the folders that killed processes were building; on file systems without locks, none."""
    named = re.compile(rf"{re.escape(f'.{name}{_NEW}')}[0-9a-f]{{16}}")
    for entry in list(parent.iterdir()):
        if named.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            with suppress(OSError):
                descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if _try_lock(descriptor):
                        shutil.rmtree(entry, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        reraise(error)
        return False
    return True


@contextmanager
def watched(folder: Path) -> Iterator[fsync.FileSystem]:
    """Yield the file system of a folder in which files are about to be written."""
    disk = fsync.FileSystem(folder)
    try:
        yield disk
    finally:
        disk.close()


def folders_in(top: Path) -> list[Path]:
    """Return a folder and all below it, the innermost first."""
    return [Path(where) for where, _, _ in os.walk(top, topdown=False)]


def _renamed(
    new: NewFolder, to: Path, files: Mapping[str, Sequence[Chunk]], *, overwrite: bool, keep_replaced: bool
) -> Path | None:
    kept = None
    try:
        new.path.rename(to)  # also over an empty folder
    except OSError as error:
        reraise(error)
        if not to.is_dir() or to.is_symlink():
            raise
        if holds(to, files):  # another process was faster
            return None
        if not overwrite:
            raise _other_content(to) from None
        if keep_replaced:
            kept = to.with_name(f".{to.name}.replaced-{secrets.token_hex(4)}")
            new.path.rename(kept)  # under its name before it is the user's, so that no interruption can remove it
            new.path = kept
            new.is_ours = False
        _exchange(new.path, to)
    fsync.sync(to.parent)
    return kept


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders: at once if the system can, else by two renames."""
    with suppress(AttributeError, OSError):
        names = os.fsencode(one), os.fsencode(other)
        if not ctypes.CDLL(None).renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
            return
    between = other.with_name(f".{other.name}.{secrets.token_hex(4)}")
    other.rename(between)
    one.rename(other)
    between.rename(one)


def _other_content(to: Path) -> FileExistsError:
    return FileExistsError(f"{to} holds something else. Remove it, or give overwrite=True to replace the whole folder")
