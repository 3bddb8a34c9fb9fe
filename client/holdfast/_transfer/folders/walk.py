"""The walk over a local folder: every file is found, or named in an error; none is skipped silently."""

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ..._arguments.name_grammar import check_file
from ..._runtime.interruption import reraise

MOST_ENTRIES = 1_000_000
"""The most entries of a walk: links to folders may multiply them without end."""


class Entry(NamedTuple):
    """A file or folder: its path, its attributes when it was found, and whether the path is a link to it."""

    path: str
    like: os.stat_result
    is_link: bool = False


class Found(NamedTuple):
    """The entries below a folder by their paths within it. The folder itself has an empty path."""

    files: dict[str, Entry]
    folders: dict[str, Entry]


def found(folder: Path, *, known: Collection[str | None] = ()) -> Found:
    """Return the files and folders below a folder, sorted. Links are followed, also to folders.

    Files at ``known`` paths were found before: neither their names nor their permissions are checked again.

    Raises
    ------
    ValueError
        Something is neither a file nor a folder, or a link that leads nowhere or to a folder that it is in; or cannot
        be read; or there is far too much.
    InvalidRequest
        Something has a name that the server does not take.
    """
    seen = Found({}, {})
    _walk(Entry(str(folder), folder.stat()), "", (), seen, known)
    return Found(dict(sorted(seen.files.items())), dict(sorted(seen.folders.items())))


def _walk(
    folder: Entry, path: str, above: tuple[tuple[int, int], ...], seen: Found, known: Collection[str | None]
) -> None:
    identity = (folder.like.st_dev, folder.like.st_ino)
    if identity in above:
        raise ValueError(f"{folder.path} is a link to a folder that it is in")
    seen.folders[path.rstrip("/")] = folder
    try:
        with os.scandir(folder.path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        reraise(error)
        raise ValueError(f"{folder.path} cannot be read: {error.strerror}") from error
    for entry in listed:
        inner = path + entry.name
        is_known = inner in known
        if not is_known:
            check_file(inner)
        found = Entry(entry.path, _like(entry), entry.is_symlink())
        if stat.S_ISDIR(found.like.st_mode):
            _walk(found, f"{inner}/", (*above, identity), seen, known)
        else:
            if not (is_known and stat.S_ISREG(found.like.st_mode)):
                _refuse_unreadable(found)
            seen.files[inner] = found
        if len(seen.files) + len(seen.folders) > MOST_ENTRIES:
            raise ValueError(f"{folder.path} and the targets of its links hold more than {MOST_ENTRIES} files")


def _like(entry: "os.DirEntry[str]") -> os.stat_result:
    """Return the attributes of what a path leads to."""
    try:
        return entry.stat()
    except FileNotFoundError as error:
        fault = "is a link that leads nowhere" if entry.is_symlink() else "was removed during the walk"
        raise ValueError(f"{entry.path} {fault}") from error
    except OSError as error:
        reraise(error)
        loops = error.errno == errno.ELOOP
        fault = "is a link that leads nowhere" if loops else f"cannot be read: {error.strerror}"
        raise ValueError(f"{entry.path} {fault}") from error


def _refuse_unreadable(found: Entry) -> None:
    if not stat.S_ISREG(found.like.st_mode):
        raise ValueError(f"{found.path} is neither a file nor a folder")
    if not os.access(found.path, os.R_OK):
        raise ValueError(f"{found.path} cannot be read: permission denied")
