"""Loads of folders: which checkpoint is taken, and how its files get from the server or the spool to their place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._api.directory import RemoteDirectory
from ._api.wire import Checkpoint
from ._spool.folder_item import SpooledFiles, is_of_folder, opened
from ._spool.item import SpooledCheckpoint
from ._spool.queue import Queue
from ._transfer.cache import Cache
from ._transfer.folders import download_folder, target
from .errors import CheckpointNotFound, HoldfastError, IntegrityError, InvalidRequest, warn

_PAGE_SIZE = 20
"""The number of checkpoints to ask for at once, as each may list thousands of files."""


@dataclass(frozen=True)
class FolderLoader:
    """Puts folders of one directory's checkpoints below a folder of this machine, each under its own name."""

    remote: RemoteDirectory
    cache: Cache | None
    progress: bool | None
    to: Path
    overwrite: bool = False
    keep_replaced: bool = False
    """Whether a folder of other content is kept under a hidden name when it is replaced."""
    queue: Queue | None = None
    """The queue of the directory, which records what this machine knows of it."""

    def found(self, find: Callable[[], Checkpoint | None]) -> Path | None:
        """Put in place what ``find`` returns; call it again if that is pruned meanwhile."""
        while (checkpoint := find()) is not None:
            try:
                return self.placed(checkpoint)
            except CheckpointNotFound as error:
                if error.code != "checkpoint_removed":
                    raise
        return None

    def placed(self, checkpoint: Checkpoint) -> Path:
        """Put a checkpoint of the server in its place; return that.

        Raises
        ------
        InvalidRequest
            It is no folder.
        IntegrityError
            The bytes are not those that were saved.
        """
        if not checkpoint.is_folder:
            raise single_file(checkpoint.name)
        place, kept = download_folder.as_whole(
            self.remote.server,
            checkpoint,
            self.to,
            overwrite=self.overwrite,
            keep_replaced=self.keep_replaced,
            cache=self.cache,
            progress=self.progress,
        )
        if self.queue is not None and checkpoint.directory == self.remote.name:
            self.queue.learn(checkpoint.sequence)
        self._warn_of_kept(place, kept)
        return place

    def newest(self, kind: str | None) -> Checkpoint | None:
        """Return the newest folder on the server, of one kind or of all."""
        return next(self._newest_first(kind), None)

    def latest(self, kind: str | None = None) -> Path | None:
        """Put the newest folder in its place, of one kind or of all; if it is corrupt, the newest intact one.

        Raises
        ------
        IntegrityError
            No folder of the directory is intact.
        """
        damaged: list[str] = []
        because: IntegrityError | None = None
        for checkpoint in self._newest_first(kind):
            try:
                place = self.placed(checkpoint)
            except CheckpointNotFound as error:
                if error.code != "checkpoint_removed":
                    raise
            except IntegrityError as error:
                because = because or error
                damaged.append(checkpoint.name)
            else:
                if because is not None:
                    warn(
                        f"{', '.join(damaged)} of {self.remote.name!r} cannot be loaded, because the bytes are not "
                        f"those that were saved ({because}). The newest that is intact, {checkpoint.name}, is loaded "
                        "instead."
                    )
                return place
        if because is not None:
            raise because
        return None

    def best(self, mode: str) -> Checkpoint | None:
        """Return the best folder on the server, by a mode."""
        found = self.remote.checkpoints(order_by="best", mode=mode, page_size=_PAGE_SIZE)
        return next((checkpoint for checkpoint in found if checkpoint.is_folder), None)

    def _newest_first(self, kind: str | None) -> Iterator[Checkpoint]:
        chosen = {"kind": kind} if kind is not None else {}
        found = self.remote.checkpoints(order_by="-position", page_size=_PAGE_SIZE, **chosen)
        return (checkpoint for checkpoint in found if checkpoint.is_folder)

    def takes(self, facts: dict[str, Any]) -> bool:
        """Tell if a checkpoint that waits in a spool is a folder."""
        return is_of_folder(facts)

    def spooled(self, item: SpooledCheckpoint) -> Path:
        """Put a checkpoint that waits in a spool in its place; return that."""
        facts = item.facts()
        files, name = opened(item.folder, facts), str(facts["save"]["name"])
        if not isinstance(files, SpooledFiles):
            files.close()
            raise single_file(name)
        place = self.to / name
        kept = target.put_whole(
            place,
            {path or "": file.chunks() for path, file in files.items()},
            files.attributes,
            files.copy_to,
            overwrite=self.overwrite,
            keep_replaced=self.keep_replaced,
        )
        self._warn_of_kept(place, kept)
        return place

    def noted(self, kind: str) -> None:
        """Return the note of a folder in the cache, which has none."""

    def cached(self, file_digest: str) -> Path:
        """Refuse to take a folder from the cache, which holds single files."""
        raise IntegrityError(f"the file {file_digest} is no folder")

    def _warn_of_kept(self, place: Path, kept: Path | None) -> None:
        if kept is not None:
            warn(f"{place} held something else than the checkpoint; that is in {kept} now")


def single_file(name: str) -> HoldfastError:
    """Return the error for a checkpoint of one file that is to be loaded as a folder."""
    return InvalidRequest(f"{name!r} is a single file and no folder; use load() or download()", code="single_file")
