"""Loads of folders and of files as they are: which checkpoint is taken, and how it gets to its place.

It comes from the server, or from the spool.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._api.directory import RemoteDirectory
from ._api.wire import Checkpoint
from ._spool.folder_item import SpooledFiles, is_of_folder, opened, write_verified
from ._spool.item import SpooledCheckpoint, SpooledFile
from ._spool.queue import Queue
from ._transfer import destination, download
from ._transfer.cache import Cache
from ._transfer.contents import file_of
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
        return next(filter(self.counts, found), None)

    def counts(self, checkpoint: Checkpoint) -> bool:
        """Tell if a checkpoint of the server is one of those that are loaded."""
        return checkpoint.is_folder

    def _newest_first(self, kind: str | None) -> Iterator[Checkpoint]:
        chosen = {"kind": kind} if kind is not None else {}
        found = self.remote.checkpoints(order_by="-position", page_size=_PAGE_SIZE, **chosen)
        return filter(self.counts, found)

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


@dataclass(frozen=True)
class FileLoader(FolderLoader):
    """Puts checkpoints of one file below a folder of this machine, each under its own name, also over a file there."""

    suffixes: tuple[str, ...] = ("",)
    """The ends of the names of those that count."""
    epochs: dict[str, int | None] = field(default_factory=dict)
    """The epochs of those that were put in place, by their names."""

    def counts(self, checkpoint: Checkpoint) -> bool:
        return not checkpoint.is_folder and checkpoint.name.endswith(self.suffixes)

    def placed(self, checkpoint: Checkpoint) -> Path:
        place = self.to / checkpoint.name
        file = file_of(self.remote.server, checkpoint)
        download.into_file(self.remote.server, file, place, self.cache, self.progress)
        if self.queue is not None and checkpoint.directory == self.remote.name:
            self.queue.learn(checkpoint.sequence)
        self.epochs[checkpoint.name] = checkpoint.epoch
        return place

    def takes(self, facts: dict[str, Any]) -> bool:
        return not is_of_folder(facts) and str(facts["save"]["name"]).endswith(self.suffixes)

    def spooled(self, item: SpooledCheckpoint) -> Path:
        place = put_waiting(item, self.to, is_folder=True)
        if place is None:
            raise FileNotFoundError(f"{item.folder} holds no single file")
        self.epochs[place.name] = item.facts()["save"].get("epoch")
        return place


def put_waiting(item: SpooledCheckpoint, to: Path, *, is_folder: bool) -> Path | None:
    """Put a single file that waits in a spool where it is to be downloaded; None if it is a folder of files.

    Parameters
    ----------
    to : Path
        The place of the file, or a folder that receives it under its own name.
    is_folder : bool
        Whether the place can only be a folder, which is made if it is missing.
    """
    facts = item.facts()
    if is_of_folder(facts):
        return None
    place = to / str(facts["save"]["name"]) if is_folder or to.is_dir() else to
    with ExitStack() as stack:
        file = opened(item.folder, facts)
        assert isinstance(file, SpooledFile)
        stack.enter_context(file)
        if (stream := destination.stream_at(place)) is not None:
            write_verified(file, stack.enter_context(stream).write)
            return place
        temporary = stack.enter_context(destination.replaced(place))
        sink = stack.enter_context(temporary.open("xb"))
        write_verified(file, sink.write)
        sink.flush()
        file.attributes.apply(temporary)
        os.fsync(sink.fileno())
    return place


def single_file(name: str) -> HoldfastError:
    """Return the error for a checkpoint of one file that is to be loaded as a folder."""
    return InvalidRequest(f"{name!r} is a single file and no folder; use load() or download()", code="single_file")
