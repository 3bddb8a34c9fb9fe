"""The files below a folder of this machine: each is found, or named in a refusal; none is left out silently."""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from . import _grammar

MOST_ENTRIES = 1_000_000
"""Links to folders may multiply what is found without end."""


class Found(NamedTuple):
    """What is below a folder, by paths within it; the folders with that folder itself, whose path is empty."""

    files: dict[str, Path]
    folders: dict[str, Path]


def found(folder: Path) -> Found:
    """The files and folders below a folder, sorted. Links count as what they lead to, also to folders.

    Raises
    ------
    ValueError
        Something is neither a file nor a folder, or a link that leads nowhere or to a folder that it is in; or cannot
        be read; or there is far too much.
    InvalidRequest
        Something has a name that the server does not take.
    """
    seen = Found({}, {})
    _walk(folder, "", (), seen)
    return Found(dict(sorted(seen.files.items())), dict(sorted(seen.folders.items())))


def _walk(folder: Path, path: str, above: tuple[tuple[int, int], ...], seen: Found) -> None:
    here = folder.stat()
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise ValueError(f"{folder} is a link to a folder that it is in")
    seen.folders[path.rstrip("/")] = folder
    try:
        names = sorted(place.name for place in folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error
    for name in names:
        place, inner = folder / name, f"{path}{name}"
        _grammar.check_file(inner)
        match _kind(place):
            case "folder":
                _walk(place, f"{inner}/", (*above, identity), seen)
            case "file":
                seen.files[inner] = place
            case fault:
                raise ValueError(f"{place} {fault}")
        if len(seen.files) + len(seen.folders) > MOST_ENTRIES:
            raise ValueError(f"{folder} and what its links lead to hold more than {MOST_ENTRIES} files")


def _kind(place: Path) -> str:
    """Whether a path leads to a file or to a folder, or else what is wrong with it."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return "is a link that leads nowhere" if place.is_symlink() else "went away while it was looked at"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads nowhere"
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        return "is neither a file nor a folder"
    return "file" if os.access(place, os.R_OK) else "cannot be read: permission denied"
