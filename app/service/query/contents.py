"""Content: opens the files of checkpoints, and serves no byte of a file that may have changed since it was saved."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from app.catalog import Session
from app.core import batches
from app.core.errors import Altered, CheckpointRemoved, FileNotInCheckpoint, ForeignFile, Refusal, SeveralFiles
from app.core.models import Checkpoint, Chunk, File, FileMap, Mode, RangeUrl
from app.core.spans import Span
from app.service.query.lookup import Lookups
from app.service.query.verify import fault_in
from app.service.state.caches import Caches, FileState
from app.service.state.context import Context
from app.service.state.get_or_refuse import (
    checkpoint_not_found,
    known_checkpoint,
    live_checkpoint,
    readable_maps,
    require_live,
)
from app.service.state.transitions import note_verified
from app.storage.ports import Opened, descriptor_of

logger = logging.getLogger("holdfast")

FILES_NAMED = 100
"""The number of files that a refusal lists if the client has to choose one."""


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """An open file of a checkpoint, known to hold the bytes that were saved. The caller closes it."""

    checkpoint: Checkpoint
    file: File
    opened: Opened

    @property
    def descriptor(self) -> int | None:
        """The descriptor of the open file; None if its bytes have to be read."""
        return descriptor_of(self.opened)


class Contents:
    """Opens files for reading. Changes nothing, except that damage which a read finds is recorded."""

    def __init__(self, context: Context, lookups: Lookups, caches: Caches) -> None:
        self._context = context
        self._lookups = lookups
        self._caches = caches

    @property
    def range_max_bytes(self) -> int:
        """The longest range that the store gives, and takes, in one request."""
        return self._context.storage.content.range_max_bytes

    def range_url(self, checkpoint: Checkpoint, file: File, span: Span) -> RangeUrl | None:
        """Return the URL from which the client fetches a range; None if it fetches the range from the server."""
        return self._context.storage.content.download_url(checkpoint, file, span)

    def open(self, checkpoint_id: str, path: str | None = None) -> VerifiedFile:
        """Open a file of a checkpoint; without a path, its only one.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved, FileNotInCheckpoint
        SeveralFiles
            The checkpoint has several files and the caller named none.
        Altered
            The file is missing from the disk, or its bytes are not those that were saved.
        """
        # Under the directory's lock: while a commit puts a new file in its place, the row still describes the old one.
        with self._context.catalog.lock(self._directory_of(checkpoint_id)):
            checkpoint, file = self.select(checkpoint_id, path)
            opened = self._open(checkpoint, file)
        return self._verified(checkpoint, file, opened)

    def open_with_chunks(self, checkpoint_id: str) -> tuple[VerifiedFile, FileMap]:
        """Open the only file of a checkpoint, and give its chunks. Raises as `open` does."""
        with self._context.catalog.lock(self._directory_of(checkpoint_id)):
            with self._context.catalog.reading() as session:
                checkpoint, file = _selected(session, checkpoint_id, None)
                found = _map_of(session, checkpoint, file)
            opened = self._open(checkpoint, file)
        return self._verified(checkpoint, file, opened), found

    def open_best(
        self, directory: str, path: str | None = None, *, by: str | None = None, mode: Mode | None = None
    ) -> VerifiedFile:
        """Open a file of the best checkpoint; without a path, its only one.

        If that checkpoint is removed concurrently, of the next best one.

        Raises
        ------
        DirectoryNotFound, NoCheckpoint, NoBest, FileNotInCheckpoint, SeveralFiles, Altered
        """
        while True:
            try:
                return self.open(self._lookups.best_id(directory, by=by, mode=mode), path)
            except CheckpointRemoved:
                continue

    def open_latest(self, directory: str, path: str | None = None) -> VerifiedFile:
        """Open a file of the latest checkpoint; without a path, its only one.

        If that checkpoint is removed concurrently, of the then latest one.

        Raises
        ------
        DirectoryNotFound, NoCheckpoint, FileNotInCheckpoint, SeveralFiles, Altered
        """
        while True:
            try:
                return self.open(self._lookups.latest_id(directory), path)
            except CheckpointRemoved:
                continue

    def open_intact(self, checkpoint_id: str, paths: Iterable[str]) -> list[VerifiedFile]:
        """Open those of some files of a checkpoint that hold what was saved, and skip the others.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved
        """
        found = []
        with self._context.catalog.lock(self._directory_of(checkpoint_id)):
            with self._context.catalog.reading() as session:
                checkpoint = live_checkpoint(session, checkpoint_id)
            files = {file.path: file for file in checkpoint.files}
            for path in paths:
                with suppress(OSError, ForeignFile):
                    opened = self._context.storage.content.open(checkpoint, files[path])
                    found.append(VerifiedFile(checkpoint, files[path], opened))
        return [content for content in found if self._is_intact(content)]

    def read_batch(self, checkpoint_id: str, places: Sequence[int]) -> bytes:
        """Read several small files, by their indices in the order of their paths, and concatenate their bytes.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved
        FileNotInCheckpoint
            The checkpoint has fewer files.
        TooLarge
            The files are more than one answer may hold.
        Altered
            A file is missing from the disk, or its bytes are not those that were saved.
        """
        read = []
        with self._context.catalog.lock(self._directory_of(checkpoint_id)):
            checkpoint, files = self._select_batch(checkpoint_id, places)
            batches.refuse_large([file.size_bytes for file in files])
            for file in files:
                with closing(self._open(checkpoint, file)) as opened:
                    self._verify(checkpoint, file, opened)
                    read.append(opened.read(0, file.size_bytes))
        return b"".join(read)

    def select(self, checkpoint_id: str, path: str | None = None) -> tuple[Checkpoint, File]:
        """Find a file of a live checkpoint; without a path, its only one. Raises as `open` does.

        The checkpoint that is given holds at most one other file, and the cost is the same for any number of them.
        """
        with self._context.catalog.reading() as session:
            return _selected(session, checkpoint_id, path)

    def _select_batch(self, checkpoint_id: str, places: Sequence[int]) -> tuple[Checkpoint, list[File]]:
        with self._context.catalog.reading() as session:
            found = session.checkpoints.with_files_at(checkpoint_id, places[0], places[-1] + 1)
            checkpoint = require_live(found, checkpoint_id)
            listed = checkpoint.files
            if len(listed) == 1:  # alone it could pass for a checkpoint of one file
                checkpoint = live_checkpoint(session, checkpoint_id)
        try:
            return checkpoint, [listed[place - places[0]] for place in places]
        except IndexError:
            raise FileNotInCheckpoint(f"{checkpoint.directory}/{checkpoint.name} has no file {places[-1]}.") from None

    def _directory_of(self, checkpoint_id: str) -> str:
        directory = self._caches.directories.get(checkpoint_id)
        if directory is None:
            with self._context.catalog.reading() as session:
                directory = session.checkpoints.directory_of(checkpoint_id)
            if directory is None:
                raise checkpoint_not_found(checkpoint_id)
            self._caches.directories.put(checkpoint_id, directory)
        return directory

    def _open(self, checkpoint: Checkpoint, file: File) -> Opened:
        try:
            return self._context.storage.content.open(checkpoint, file)
        except (FileNotFoundError, ForeignFile) as error:
            where, is_missing = checkpoint.stored_at(file), isinstance(error, FileNotFoundError)
            self._note(checkpoint, f"{where} is missing" if is_missing else f"{where} cannot be opened: {error}")
            raise Altered(f"{where} is not on the disk as it was saved.") from error

    def _verified(self, checkpoint: Checkpoint, file: File, opened: Opened) -> VerifiedFile:
        """Give an open file that holds what was saved; close any other one."""
        try:
            self._verify(checkpoint, file, opened)
        except BaseException:
            opened.close()
            raise
        return VerifiedFile(checkpoint, file, opened)

    def _is_intact(self, content: VerifiedFile) -> bool:
        """Tell if a file holds what was saved; if not, close it."""
        try:
            self._verify(content.checkpoint, content.file, content.opened)
        except (OSError, Refusal):
            content.opened.close()
            return False
        return True

    def _verify(self, checkpoint: Checkpoint, file: File, opened: Opened) -> None:
        """Read and hash a file that was touched or found damaged; once for each state that it is found in."""
        if checkpoint.damage is None and opened.is_version_of(file):
            return
        state = FileState(opened.size_bytes, opened.version, checkpoint.damage)
        key = (checkpoint.id, file.path)
        if self._caches.verified.get(key) == state:
            return
        chunks = self._chunks_of(checkpoint, file)
        where = checkpoint.stored_at(file)
        if (fault := fault_in(opened, file, chunks)) is not None:
            self._note(checkpoint, f"{where} {fault}")
            raise Altered(f"{where} was changed on the disk after it was saved.")
        self._caches.verified.put(key, state)

    def _note(self, checkpoint: Checkpoint, damage: str) -> None:
        """Record damage once, as the scrubber would. Best-effort: the read is refused in any case."""
        if checkpoint.damage is None:
            try:
                note_verified(self._context, checkpoint, damage)
            except Exception:
                logger.exception("%s, which cannot be recorded", damage)

    def _chunks_of(self, checkpoint: Checkpoint, file: File) -> Sequence[Chunk]:
        with self._context.catalog.reading() as session:
            return _map_of(session, checkpoint, file).chunks


def _selected(session: Session, checkpoint_id: str, path: str | None) -> tuple[Checkpoint, File]:
    checkpoint = require_live(session.checkpoints.with_file(checkpoint_id, path), checkpoint_id)
    if path is None and len(checkpoint.files) > 1:
        raise _several_files(known_checkpoint(session, checkpoint_id))
    for file in checkpoint.files:
        if path in {None, file.path}:
            return checkpoint, file
    raise FileNotInCheckpoint(f"{checkpoint.directory}/{checkpoint.name} has no file {path!r}.")


def _map_of(session: Session, checkpoint: Checkpoint, file: File) -> FileMap:
    with readable_maps(checkpoint):
        found = session.checkpoints.file_map(checkpoint.id, file.path)
    if found is None:
        raise checkpoint_not_found(checkpoint.id)
    return found


def _several_files(checkpoint: Checkpoint) -> SeveralFiles:
    return SeveralFiles(
        f"{checkpoint.directory}/{checkpoint.name} has {len(checkpoint.files)} files; fetch them one by one.",
        files=[file.path for file in checkpoint.files[:FILES_NAMED]],
    )
