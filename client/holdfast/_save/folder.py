"""Local files and folders to be saved: their names, what they may be, and how a background save holds them."""

import os
from collections.abc import Iterable
from pathlib import Path

from .._arguments.name_grammar import check_checkpoint
from .._runtime.interruption import reraise
from .._spool.held import Held, hold
from .._transfer.folders.local_files import LocalFiles
from ..errors import HoldfastError


def name_of(path: Path) -> str:
    """Return the name of a file or folder as a checkpoint: a link's own name, or that of what ``.`` or ``..`` means.

    Raises
    ------
    InvalidRequest
        No checkpoint may have that name.
    """
    return check_checkpoint(path.name if path.name not in ("", "..") else path.resolve().name)


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
        raise NotADirectoryError(f"{folder} is not a folder: save_file() takes a file, and save() a state")
    return LocalFiles(folder, name)


def file_to_save(file: Path, name: str) -> LocalFiles:
    """Return a file, as it is now.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        There is no such file, or it is a folder.
    ValueError
        It is empty, unreadable, or a pipe or another special file.
    """
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}")
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder: save_folder() takes it")
    files = LocalFiles(file, name)
    if not os.access(file, os.R_OK):
        raise ValueError(f"{file} cannot be read: permission denied")
    if not files.size_bytes:
        raise ValueError(f"{file} is empty: there is nothing to save")
    return files


def held_files(files: LocalFiles, places: Iterable[Path]) -> Held | None:
    """Hold a file, or the files of a folder; None if no place can hold them."""
    try:
        return hold(files, places)
    except OSError as error:
        reraise(error)
        if isinstance(error, HoldfastError):
            raise
        return None
