"""Find and open checkpoints: queries over committed rows, never pointers that could dangle."""

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from app.catalog import AuditLine, Page, Query, Session
from app.catalog.reports.statistics import Statistics
from app.catalog.rows.checkpoints import ANSWER_BYTES, CHECKPOINT_BYTES, FILE_BYTES, PATH_TIMES
from app.catalog.rows.directories import Totals
from app.core import batches
from app.core.access import Access
from app.core.errors import (
    Altered,
    CheckpointNotFound,
    CheckpointRemoved,
    FileNotInCheckpoint,
    ForeignFile,
    NoBest,
    NoCheckpoint,
    Refusal,
    SeveralFiles,
)
from app.core.models import Checkpoint, Chunk, Directory, Event, File, FileMap, Mode
from app.service.query.verify import fault_in
from app.service.state.context import Context, Rules
from app.service.state.lookup import known_checkpoint, known_directory, live_checkpoint, no_checkpoint, refuse_removed
from app.service.state.transitions import note_verified
from app.storage.port import Opened

logger = logging.getLogger("holdfast")

FILES_NAMED = 100
"""How many files a refusal names that asks to choose one."""
DIRECTORIES_KEPT = 10_000
"""Of how many checkpoints the directory is remembered."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A directory with what it holds."""

    directory: Directory
    totals: Totals
    latest: Checkpoint | None
    best: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a checkpoint, open for reading and known to be what was saved. Whoever asked closes it."""

    checkpoint: Checkpoint
    file: File
    opened: Opened


class Finding:
    """Answers to questions; changes nothing, but that damage which a read finds is recorded."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules
        self._verified: dict[tuple[str, str], tuple[int, int, str | None]] = {}
        self._directories: dict[str, str] = {}
        self._guard = threading.Lock()

    # directories

    def directory(self, name: str) -> Summary:
        """One directory. `DirectoryNotFound` where nothing was ever saved."""
        with self._context.catalog.reading() as session:
            return summary_of(session, known_directory(session, name))

    def summary(self, directory: Directory) -> Summary:
        """What a directory holds."""
        with self._context.catalog.reading() as session:
            return summary_of(session, directory)

    def directories(self, prefix: str, *, after: str, limit: int) -> tuple[list[Summary], str | None]:
        """The directories at or below a prefix, and the name after which the next page begins; no more than may be."""
        with self._context.catalog.reading() as session:
            limit = min(limit, self._rules.limits.page_size)
            within = session.directories.below(prefix, after=after, limit=limit + 1)
            summaries: list[Summary] = []
            size_bytes = 0
            for directory in within[:limit]:
                summary = summary_of(session, directory)
                size_bytes += _size_in_answer(summary.latest) + _size_in_answer(summary.best)
                if size_bytes > ANSWER_BYTES and summaries:
                    break
                summaries.append(summary)
        return summaries, summaries[-1].directory.name if len(within) > len(summaries) else None

    def statistics(self, prefix: str = "") -> Statistics:
        """Figures over the directories within a prefix."""
        with self._context.catalog.reading() as session:
            return session.statistics(self._rules.restorable_since(self._context.clock()), prefix=prefix)

    # checkpoints

    def reach(self, access: Access, checkpoint_id: str) -> None:
        """`CheckpointNotFound` unless that is a checkpoint, removed or not, in a directory within reach."""
        with self._context.catalog.reading() as session:
            directory = session.checkpoints.directory_of(checkpoint_id)
        if directory is None or not access.reaches(directory):
            raise no_checkpoint(checkpoint_id)

    def is_readable(self, access: Access, checkpoint_id: str) -> bool:
        """Whether somebody may read that checkpoint; False also where there is none."""
        try:
            self.reach(access, checkpoint_id)
        except CheckpointNotFound:
            return False
        return access.allows("read")

    def get(self, checkpoint_id: str) -> Checkpoint:
        """One checkpoint, removed or not."""
        with self._context.catalog.reading() as session:
            return known_checkpoint(session, checkpoint_id)

    def latest(self, directory: str) -> Checkpoint:
        """The newest by position. `NoCheckpoint` where the directory is empty."""
        with self._context.catalog.reading() as session:
            known_directory(session, directory)
            latest = session.checkpoints.latest(directory)
        if latest is None:
            raise NoCheckpoint(f"{directory!r} holds no checkpoint.", directory=directory)
        return latest

    def best(self, directory: str, *, by: str | None = None, mode: Mode | None = None) -> tuple[Checkpoint, Mode, bool]:
        """The best checkpoint, the mode that decided, and whether that is the directory's own.

        Raises
        ------
        NoCheckpoint
            The directory is empty.
        NoBest
            It holds checkpoints, but none with a finite value and none flagged.
        """
        with self._context.catalog.reading() as session:
            known = known_directory(session, directory)
            ranks_by = mode or known.policy.ranks_by
            best = session.checkpoints.best(directory, ranks_by, by)
            empty = best is None and session.checkpoints.latest(directory) is None
        if empty:
            raise NoCheckpoint(f"{directory!r} holds no checkpoint.", directory=directory)
        if best is None:
            value = by or "metric"
            raise NoBest(f"No checkpoint of {directory!r} has a finite {value}.", directory=directory)
        return best, ranks_by, ranks_by == known.policy.mode

    def page(self, query: Query, *, after: tuple[Any, ...] | None, limit: int) -> Page:
        """Some checkpoints of a directory, in order; no more than a page may have."""
        with self._context.catalog.reading() as session:
            known_directory(session, query.directory)
            return session.checkpoints.page(query, after=after, limit=min(limit, self._rules.limits.page_size))

    def own_mode(self, directory: str) -> Mode:
        """The mode by which a directory ranks."""
        with self._context.catalog.reading() as session:
            return known_directory(session, directory).policy.ranks_by

    def maps(self, checkpoint_id: str) -> tuple[Checkpoint, dict[str, FileMap]]:
        """A live checkpoint and what lies where in its files.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved
        Altered
            The catalog does not know it any more.
        """
        with self._context.catalog.reading() as session:
            checkpoint = live_checkpoint(session, checkpoint_id)
            with _maps_readable(checkpoint):
                return checkpoint, session.checkpoints.maps(checkpoint_id)

    def events(self, after: int, *, prefix: str, limit: int) -> tuple[Sequence[Event], int]:
        """The next events at or below a prefix, and where to go on: also after those of others that were looked at."""
        with self._context.catalog.reading() as session:
            found = session.events.after(after, prefix=prefix, limit=limit)
            return found, found[-1].id if len(found) == limit else max(after, session.events.last_id())

    def last_event_id(self) -> int:
        """The id of the newest event."""
        with self._context.catalog.reading() as session:
            return session.events.last_id()

    def audit(
        self, before: int, *, prefix: str, token_id: str | None, limit: int
    ) -> tuple[Sequence[AuditLine], int | None]:
        """Who changed what within a prefix, the newest first, and the id before which the next page begins."""
        limit = min(limit, self._rules.limits.page_size)
        with self._context.catalog.reading() as session:
            found = session.audit.before(before, prefix=prefix, token_id=token_id, limit=limit + 1)
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    # content

    def open(self, checkpoint_id: str, path: str | None = None) -> Content:
        """Open a file of a checkpoint; without a path, its only one.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved, FileNotInCheckpoint
        SeveralFiles
            The checkpoint has several files and none was named.
        Altered
            The file is gone from the disk, or its bytes are not those that were saved.
        """
        # Under the directory's lock: while a commit puts a new file in its place, the row still speaks of the old one.
        with self._context.catalog.lock(self._directory_of(checkpoint_id)):
            checkpoint, file = self.chosen(checkpoint_id, path)
            opened = self._opened(checkpoint, file)
        return self._verified_content(checkpoint, file, opened)

    def read_batch(self, checkpoint_id: str, places: Sequence[int]) -> bytes:
        """The bytes of several small files one after another, by their places in the order of their paths.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved
        FileNotInCheckpoint
            There are not so many files.
        TooLarge
            They are more than one answer holds.
        Altered
            A file is gone from the disk, or its bytes are not those that were saved.
        """
        read = []
        with self._context.catalog.lock(self._directory_of(checkpoint_id)):
            with self._context.catalog.reading() as session:
                found = session.checkpoints.with_files_at(checkpoint_id, places[0], places[-1] + 1)
                checkpoint = refuse_removed(found, checkpoint_id)
                listed = checkpoint.files
                if len(listed) == 1:  # alone it could pass for a checkpoint of one file
                    checkpoint = live_checkpoint(session, checkpoint_id)
            try:
                files = [listed[place - places[0]] for place in places]
            except IndexError:
                raise FileNotInCheckpoint(
                    f"{checkpoint.directory}/{checkpoint.name} has no file {places[-1]}."
                ) from None
            batches.refuse_large([file.size_bytes for file in files])
            for file in files:
                with closing(self._opened(checkpoint, file)) as opened:
                    self._verify(checkpoint, file, opened)
                    read.append(opened.read(0, file.size_bytes))
        return b"".join(read)

    def chosen(self, checkpoint_id: str, path: str | None = None) -> tuple[Checkpoint, File]:
        """A live checkpoint, with no other file, and a file of it; without a path, its only one. Raises as `open` does.

        This is one query, however many files the checkpoint has.
        """
        with self._context.catalog.reading() as session:
            checkpoint = refuse_removed(session.checkpoints.with_file(checkpoint_id, path), checkpoint_id)
            if path is None and len(checkpoint.files) > 1:
                raise _several_files(known_checkpoint(session, checkpoint_id))
        return checkpoint, _chosen(checkpoint, path)

    def open_intact(self, checkpoint_id: str, paths: Iterable[str]) -> list[Content]:
        """Open those of some files of a checkpoint that are what was saved. Whoever asked closes them.

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
                    found.append(Content(checkpoint, files[path], self._context.storage.open(checkpoint, files[path])))
        return [content for content in found if self._is_intact(content)]

    def open_best(self, directory: str, *, by: str | None = None, mode: Mode | None = None) -> Content:
        """Open the best checkpoint's only file; should it be removed meanwhile, the next best one's."""
        while True:
            try:
                return self.open(self.best(directory, by=by, mode=mode)[0].id)
            except CheckpointRemoved:
                continue

    def open_latest(self, directory: str) -> Content:
        """Open the latest checkpoint's only file; should it be removed meanwhile, that of the then latest."""
        while True:
            try:
                return self.open(self.latest(directory).id)
            except CheckpointRemoved:
                continue

    def _directory_of(self, checkpoint_id: str) -> str:
        """The directory of a checkpoint, which never changes, so that it is asked for once."""
        directory = self._directories.get(checkpoint_id)
        if directory is None:
            with self._context.catalog.reading() as session:
                directory = session.checkpoints.directory_of(checkpoint_id)
            if directory is None:
                raise no_checkpoint(checkpoint_id)
            if len(self._directories) >= DIRECTORIES_KEPT:
                self._directories.clear()
            self._directories[checkpoint_id] = directory
        return directory

    def _opened(self, checkpoint: Checkpoint, file: File) -> Opened:
        try:
            return self._context.storage.open(checkpoint, file)
        except (FileNotFoundError, ForeignFile) as error:
            where, is_missing = checkpoint.stored_at(file), isinstance(error, FileNotFoundError)
            self._note(checkpoint, f"{where} is missing" if is_missing else f"{where} cannot be opened: {error}")
            raise Altered(f"{where} is not on the disk as it was saved.") from error

    def _verified_content(self, checkpoint: Checkpoint, file: File, opened: Opened) -> Content:
        try:
            self._verify(checkpoint, file, opened)
        except BaseException:
            opened.close()
            raise
        return Content(checkpoint, file, opened)

    def _is_intact(self, content: Content) -> bool:
        """Whether a file is what was saved; else it is closed."""
        try:
            self._verify(content.checkpoint, content.file, content.opened)
        except (OSError, Refusal):
            content.opened.close()
            return False
        return True

    def _verify(self, checkpoint: Checkpoint, file: File, opened: Opened) -> None:
        """A file that was touched or found damaged is read and hashed before it is served, once for each touch."""
        state = (opened.size_bytes, opened.mtime_ns, checkpoint.damage)
        if state == (file.size_bytes, file.mtime_ns, None):
            return
        key = (checkpoint.id, file.path)
        with self._guard:
            if self._verified.get(key) == state:
                return
        chunks = self._chunks_of(checkpoint, file)
        where = checkpoint.stored_at(file)
        if (fault := fault_in(opened, where, file, chunks)) is not None:
            self._note(checkpoint, fault)
            raise Altered(f"{where} was changed on the disk after it was saved.")
        with self._guard:
            self._verified[key] = state

    def _note(self, checkpoint: Checkpoint, damage: str) -> None:
        """Record damage that a read has found, once, as the scrub would; the read is refused all the same."""
        if checkpoint.damage is None:
            try:
                note_verified(self._context, checkpoint, damage)
            except Exception:
                logger.exception("%s, which cannot be recorded", damage)

    def _chunks_of(self, checkpoint: Checkpoint, file: File) -> Sequence[Chunk]:
        with self._context.catalog.reading() as session, _maps_readable(checkpoint):
            found = session.checkpoints.file_map(checkpoint.id, file.path)
        if found is None:
            raise no_checkpoint(checkpoint.id)
        return found.chunks


@contextmanager
def _maps_readable(checkpoint: Checkpoint) -> Iterator[None]:
    """Read what lies where in files; `Altered` where the catalog does not know it any more."""
    try:
        yield
    except ValueError as error:
        raise Altered(
            f"The catalog does not know any more what lies where in {checkpoint.directory}/{checkpoint.name}; "
            "`holdfast-server fsck` reads it from the manifest."
        ) from error


def summary_of(session: Session, directory: Directory) -> Summary:
    """What a directory holds, within a transaction."""
    return Summary(
        directory,
        session.directories.totals(directory.name),
        session.checkpoints.latest(directory.name),
        session.checkpoints.best(directory.name, directory.policy.ranks_by),
    )


def _size_in_answer(checkpoint: Checkpoint | None) -> int:
    """About how many bytes of JSON say all of a checkpoint."""
    if checkpoint is None:
        return 0
    paths = sum(PATH_TIMES * len(file.path) + FILE_BYTES for file in checkpoint.files)
    return CHECKPOINT_BYTES + len(json.dumps(checkpoint.facts.metadata)) + paths


def _several_files(checkpoint: Checkpoint) -> SeveralFiles:
    return SeveralFiles(
        f"{checkpoint.directory}/{checkpoint.name} has {len(checkpoint.files)} files; fetch them one by one.",
        files=[file.path for file in checkpoint.files[:FILES_NAMED]],
    )


def _chosen(checkpoint: Checkpoint, path: str | None) -> File:
    for file in checkpoint.files:
        if path in {None, file.path}:
            return file
    raise FileNotInCheckpoint(f"{checkpoint.directory}/{checkpoint.name} has no file {path!r}.")
