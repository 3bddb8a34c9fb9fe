"""The port to checkpoints that other tools wrote, for a store that can see their files; an object store has none."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from app.core.models import Manifest, Version
from app.storage.ports.files import Opened

CHANGED = "{} was changed while it was read; let its writer finish, then adopt again"
"""The message about a foreign file that changes while it is adopted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder: a plain file, a folder, a link, or another kind."""

    name: str
    what: Literal["file", "folder", "link", "other"]
    size_bytes: int
    mtime_ns: int


class ExternalFolder(Protocol):
    """A folder that other tools wrote into, seen without following links. Paths are relative to it."""

    @property
    def within(self) -> str | None:
        """The folder's path below the root, empty for the root itself; None if it lies elsewhere."""

    @property
    def address(self) -> str:
        """The folder's whole path."""

    def entries(self, path: str) -> Sequence[Entry]:
        """Return the entries of a folder, sorted by name; none if the folder is missing."""

    def entry(self, path: str) -> Entry | None:
        """Return the entry at a path, or None."""

    def open(self, path: str) -> Opened:
        """Open a plain file."""

    def close(self) -> None:
        """Release the folder."""


class Adoption(Protocol):
    """Adopts files that other tools wrote. An existing file is never changed and never replaced."""

    def open_folder(self, folder: str) -> ExternalFolder:
        """Open a folder, anywhere, to list it.

        Raises
        ------
        OSError
            It is missing, no folder, or cannot be read.
        """

    def open_root_folder(self) -> ExternalFolder:
        """Open the root itself, to list it."""

    def version(self, mtime_ns: int) -> Version:
        """Return the version of a file that was last changed at this time."""

    def copying(self, visited: ExternalFolder, path: str) -> AbstractContextManager[str]:
        """Copy a file or a whole folder aside, durably; gives the path of the copy, which is deleted unless `put`.

        Raises
        ------
        ForeignFile
            Something in the folder is no plain file or folder; or a file was changed while it was copied.
        """

    def put(self, copy: str, target: str) -> None:
        """Move a copy to a place below the root, atomically.

        Raises
        ------
        FileExistsError
            Something is in that place.
        ForeignFile
            Something on the way to the place is no folder.
        """

    def open(self, path: str) -> Opened:
        """Open a file below the root, foreign or not."""

    def manifest_at(self, directory: str, name: str) -> Manifest | None:
        """Return the manifest under a name, or None.

        Raises
        ------
        ForeignFile
            It is no manifest, or that of another checkpoint.
        """

    def make_checkpoint(self, manifest: Manifest, *, copied: bool) -> None:
        """Make a checkpoint of files that lie in their place: sync them, then write the manifest.

        A file that was ``copied``, by this or by an earlier run, was durable before it had its place; a copy for which
        that failed is repeated with new files, and names are synced anew. A foreign file is adopted where it lies, so
        nothing can be repeated: if the disk once failed to keep it, the kernel has forgotten that, and this run cannot
        tell.
        """
