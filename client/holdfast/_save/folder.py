"""Folders to be saved: their names, what they may hold, and how their files are held during a background save."""

from collections.abc import Iterable
from pathlib import Path

from .._arguments.name_grammar import check_checkpoint
from .._runtime.interruption import reraise
from .._spool.holding import Held, hold
from .._transfer.folders.local_files import LocalFiles
from ..errors import HoldfastError


def name_of(folder: Path) -> str:
    """Return the name of a folder as a checkpoint: a link's own name, or that of what ``.`` or ``..`` means.

    Raises
    ------
    InvalidRequest
        No checkpoint may have that name.
    """
    return check_checkpoint(folder.name if folder.name not in ("", "..") else folder.resolve().name)


def folder_to_save(folder: Path, name: str) -> LocalFiles:
    """Return the files of a folder, as they are now.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such folder, or it is none.
    ValueError
        It holds no file, or something that cannot be sent; see `LocalFiles`.
    """
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: save() takes a state, and 'holdfast put' takes a file")
    return LocalFiles(folder, name)


def held_folder(files: LocalFiles, places: Iterable[Path]) -> Held | None:
    """Hold the files of a folder; None if no place can hold them."""
    try:
        return hold(files, places)
    except OSError as error:
        reraise(error)
        if isinstance(error, HoldfastError):
            raise
        return None
