"""A local file or folder as a checkpoint to be sent: its files by their paths, as they were when it was looked at."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from ..._runtime.file_attributes import FileAttributes
from ..._runtime.interruption import reraise
from ..._torchfile.reader import tensor_index
from ...errors import IntegrityError
from ..file_source import FileSource
from . import walk

KEPT_BYTES, KEPT_AT_MOST_BYTES = 64 * 1024, 32 * 1024 * 1024
"""The largest file whose bytes are kept, and the most bytes kept of a folder."""


class LocalFiles(dict[str | None, FileSource]):
    """A file, or the files of a folder by their paths within it.

    Parameters
    ----------
    path : Path
        A file or a folder. Links count as what they lead to.
    name : str
        The name of the checkpoint.

    Raises
    ------
    ValueError
        It is neither file nor folder, such as a pipe, whose length is unknown; or a folder without files, with
        something that cannot be sent (see `walk.found`), or with one file of the checkpoint's own name.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._folder = path if path.is_dir() else None
        self.entries = walk.Found({}, {})
        """What was found in the folder; or the single file, by its own name."""
        self.is_held = False
        """Whether the files are at paths that only this process knows."""
        self.guards_name = False
        """Whether the save replaces only what has its name when it is sent. In the spool, the order decides."""
        if path.is_file():
            entry = walk.Entry(str(path), path.stat(), path.is_symlink())
            self.entries = walk.Found({path.name: entry}, {})
            super().__init__({None: FileSource(path, is_indexed=True, found=entry.like)})
            return
        if self._folder is None:
            raise ValueError(f"{path} is neither a file nor a folder: save its output to a file first")
        self.entries = walk.found(path)
        if not self.entries.files:
            raise ValueError(f"{path} holds no file")
        if list(self.entries.files) == [name]:
            raise ValueError(f"a folder with one file of the checkpoint's own name, {name!r}, would become that file")
        super().__init__(_sources(self.entries.files))

    @property
    def size_bytes(self) -> int:
        """The size, in bytes, of all files."""
        return sum(source.size_bytes for source in self.values())

    @property
    def about_folders(self) -> dict[str, Any]:
        """The attributes of the folders, as a save is told of them; nothing for a single file."""
        listed = [
            {**({"path": path} if path else {}), **FileAttributes.of(folder.like).as_json()}
            for path, folder in self.entries.folders.items()
        ]
        return {"folders": listed} if listed else {}

    def moved_to(self, folder: Path) -> Self:
        """Return the same files, read at their paths in another folder that only this process knows."""
        other = copy.copy(self)
        other._folder, other.is_held = folder if self._folder is not None else None, True
        for (path, source), inner in zip(self.items(), self.entries.files, strict=True):
            other[path] = source.at(folder / inner)
        return other

    def stamp(self) -> None:
        """Take the files at their paths as they are now, if they are copies of the former ones."""
        for source in self.values():
            source.stamp()

    def refuse_changed(self) -> None:
        """Raise `IntegrityError` if a file was changed, removed or added since this was made."""
        if self._folder is None:
            for source in self.values():
                source.refuse_changed()
            return
        try:
            found = walk.found(self._folder, known=self.keys()).files
        except (ValueError, OSError) as error:
            reraise(error)
            for source in self.values():  # a removed file is reported as removed
                source.refuse_changed()
            raise IntegrityError(f"{self._folder} was changed while it was being sent: {error}") from error
        for path, source in self.items():
            if (entry := found.pop(path or "", None)) is None:
                raise IntegrityError(f"{source.what} was removed while it was being sent")
            source.refuse_another(entry.like)
        for entry in found.values():
            raise IntegrityError(f"{entry.path} appeared while the folder was being sent")


def _sources(found: Mapping[str, walk.Entry]) -> Iterator[tuple[str, FileSource]]:
    suffixes = tuple(tensor_index.SUFFIXES)
    left_bytes = KEPT_AT_MOST_BYTES
    for path, entry in found.items():
        is_kept = entry.like.st_size <= min(KEPT_BYTES, left_bytes)
        left_bytes -= entry.like.st_size if is_kept else 0
        is_indexed = path.endswith(suffixes)
        yield path, FileSource(entry.path, is_indexed=is_indexed, found=entry.like, is_kept=is_kept)
