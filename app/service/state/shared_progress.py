"""Progress of a shared upload: the files that its writers have declared, their bytes, and which writers are ready."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.core import spans
from app.core.errors import AttemptSuperseded, InvalidRequest, UploadBusy
from app.core.limits import Limits
from app.core.models import Chunk, SharedFile, SharedTerms, Upload, UploadFile
from app.core.spans import Span
from app.service.state.shared_files import DeclaredFiles, SharedStatus, taken
from app.service.state.upload_progress import PEEK_S, UploadProgress

GIVES_WAY_S = 5.0
"""The longest that a request waits to learn if a later attempt takes its upload over, in seconds."""


@dataclass
class SharedProgress(UploadProgress):
    """The progress of one attempt to fill a shared upload. The files are here and in the catalog, not in ``upload``.

    The bytes of files of earlier attempts count once this one declares them with the same digests.
    """

    declared: DeclaredFiles = field(default_factory=lambda: DeclaredFiles(""))
    superseded_by: int | None = None
    inherited: dict[str, dict[int, Chunk]] = field(default_factory=dict)
    """The chunks of earlier attempts whose bytes are in place."""
    _changes: int = 0
    _is_arranging: bool = False
    _gives_way: bool = False

    def __post_init__(self) -> None:
        self.declared.name = self.upload.name

    @property
    def terms(self) -> SharedTerms:
        """The attempt, and the writers that it expects."""
        assert self.upload.shared is not None
        return self.upload.shared

    # what there is

    def file(self, path: str) -> UploadFile | None:
        """Find a file of the upload by its path."""
        found = self.declared.by_path.get(path)
        return found.file if found is not None else None

    def file_at(self, place: int) -> UploadFile | None:
        """Find a file of the upload by its place."""
        with self.changing:
            return self.declared.at(place)

    def files_of(self, writer: str | None = None) -> tuple[UploadFile, ...]:
        """Return the files of a writer, or of all, by their places."""
        with self.changing:
            return self.declared.of(writer)

    def known_files(self) -> tuple[UploadFile, ...]:
        """Return the files of all writers, and those of earlier attempts whose bytes may be of use."""
        with self.changing:
            return (*self.declared.left.values(), *self.declared.of(None))

    def places_of(self, files: Iterable[UploadFile]) -> Mapping[str, int]:
        """Return the places of files, by their paths."""
        with self.changing:
            known = self.declared.by_path
            return {file.path: known[file.path].place for file in files if file.path in known}

    @property
    def declared_bytes(self) -> int | None:
        """The bytes of all files."""
        return self.declared.totals["bytes"]

    def status(self, now: datetime, *, waits: bool = True) -> SharedStatus | None:
        """Return the state of the writers; without waiting, None while the bytes on the disk are hashed."""
        if not self.changing.acquire(timeout=-1 if waits else PEEK_S):
            return None
        try:
            found = tuple(writer.status(name, now) for name, writer in sorted(self.declared.writers.items()))
            return SharedStatus(self.terms, found, self.declared.unready(self.terms.writers or ()))
        finally:
            self.changing.release()

    # refusals

    def refuse_attempt(self, attempt: int | None) -> None:
        """Check the attempt of a request.

        Raises
        ------
        AttemptSuperseded
            It is an earlier one.
        InvalidRequest
            The request names none, or one that is not reserved.
        """
        if attempt is None:
            raise InvalidRequest(f"Upload {self.upload.id} is shared: the request must name its attempt.")
        if attempt < self.terms.attempt:
            raise superseded(self.upload.id, attempt, self.terms.attempt)
        if attempt > self.terms.attempt:
            raise InvalidRequest(f"Attempt {attempt} of upload {self.upload.id} is not reserved.")

    def _refuse_closed(self) -> None:
        gave_way = self._gives_way
        self.changing.wait_for(lambda: not self._gives_way, GIVES_WAY_S)
        if self.superseded_by is not None:
            raise superseded(self.upload.id, self.terms.attempt, self.superseded_by)
        if gave_way:  # other requests may have changed anything since the caller looked
            raise UploadBusy(f"Another attempt was about to take over upload {self.upload.id}.")
        super()._refuse_closed()

    # changes of what there is

    @contextmanager
    def declaring(self) -> Iterator[None]:
        """Change what is declared in this block: it is not closed meanwhile, and no file is renamed or removed.

        Raises
        ------
        UploadBusy, AttemptSuperseded
        """
        with self.changing:
            self.changing.wait_for(lambda: not self._is_arranging or self.is_closed)
            self._refuse_closed()
            self.touched_at = time.monotonic()
            self._changes += 1
        try:
            yield
        finally:
            with self.changing:
                self._changes -= 1
                self.changing.notify_all()

    @contextmanager
    def arranging(self) -> Iterator[None]:
        """Rename or remove files in this block, while no bytes are written and no files declared.

        Raises
        ------
        UploadBusy, AttemptSuperseded
        """
        with self.changing:
            self.changing.wait_for(lambda: not self._is_arranging or self.is_closed)
            self._refuse_closed()
            self._is_arranging = True
            self.changing.wait_for(lambda: not self._writing and not self._changes)
        try:
            yield
        finally:
            with self.changing:
                self._is_arranging = False
                self.touched_at = time.monotonic()
                self.changing.notify_all()

    def restore(self, files: Iterable[tuple[int, SharedFile]]) -> None:
        """Take over the files that the catalog knows, each with its attempt, after a restart."""
        with self.changing:
            for attempt, shared in files:
                self.declared.next_place = max(self.declared.next_place, shared.place + 1)
                if attempt == self.terms.attempt:
                    self.declared.put(shared)
                else:
                    self.declared.left[shared.file.path] = shared.file

    def restore_writer(self, name: str, *, is_ready: bool, active_at: datetime) -> None:
        """Take over a writer that the catalog knows; it is not ready if its bytes were lost in a restart."""
        with self.changing:
            writer = self.declared.writer(name)
            writer.is_ready = is_ready and writer.arrived_bytes >= writer.size_bytes
            writer.active_at, writer.moved_at = active_at, None

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Take nothing more while a later attempt takes over in this block; an exception in it reopens the upload.

        Requests that come meanwhile wait, so that they are told of the later attempt.

        Raises
        ------
        UploadBusy, AttemptSuperseded
        """
        with self.changing:
            self._refuse_closed()
            self._closed = self._gives_way = True
        try:
            with self.changing:
                self._wait_for_writers()
            yield
        except BaseException:
            self.reopen()
            raise
        finally:
            with self.changing:
                self._gives_way = False
                self.changing.notify_all()

    def succeed(self, upload: Upload) -> "SharedProgress":
        """Make the progress of a later attempt. This one takes nothing more; its files and bytes may be of use."""
        assert upload.shared is not None
        with self.changing:
            left = {**self.declared.left, **{path: shared.file for path, shared in self.declared.by_path.items()}}
            declared = DeclaredFiles(upload.name, left, self.declared.next_place)
            later = SharedProgress(upload, declared=declared, inherited={**self.inherited, **self._hashed})
            self.superseded_by = upload.shared.attempt
            self.end()
            self.changing.notify_all()
        return later

    def claim(self, writer: str, files: Sequence[UploadFile], limits: Limits) -> list[SharedFile]:
        """Declare files of a writer, all or none; return those of which it says anything new. See `DeclaredFiles`.

        Raises
        ------
        PathTaken, InvalidName
        TooLarge
            The upload would exceed a limit.
        """
        with self.changing:
            changed: list[SharedFile] = []
            before = {file.path: self.declared.by_path.get(file.path) for file in files}
            self.declared.writer(writer).touch()
            try:
                for file in files:
                    if (shared := self.declared.compare(writer, file)) is not None:
                        self.declared.put(shared)
                        changed.append(shared)
                limits.admit_totals(self.declared.totals)
            except BaseException:
                self.unclaim(shared for shared in changed if before[shared.file.path] is None)
                raise
            for shared in changed:
                self._settle(shared.file)
            if changed:
                self.declared.writer(writer).touch(is_ready=False)
            return changed

    def unclaim(self, added: Iterable[SharedFile]) -> None:
        """Take out files whose declaration was refused."""
        with self.changing:
            for shared in added:
                if shared.file.path in self.declared.by_path:
                    self._forget_file(shared.file.path)

    def set_digests_of(self, file: UploadFile) -> None:
        """Take over the digests of a file, all of whose bytes have arrived with them."""
        with self.changing:
            self.declared.put(replace(self.declared.by_path[file.path], file=file))

    def drop(self, path: str) -> None:
        """Take out a file that was removed."""
        with self.changing:
            self._replaced(path)
            self.declared.writer(self._forget_file(path).writer).touch(is_ready=False)

    def refuse_move(self, writer: str, to: str) -> None:
        """Raise `PathTaken` or `InvalidName` if a file cannot get this path."""
        with self.changing:
            if self.declared.owned(writer, to) is not None:
                raise taken(to, writer)
            self.declared.refuse_path(to)

    def move(self, path: str, to: str) -> SharedFile:
        """Take over the new path of a file, and return the file."""
        with self.changing:
            hashed = dict(self._hashed.get(path, {}))
            self._replaced(path)
            self._replaced(to)
            old = self._forget_file(path)
            moved = replace(old, file=replace(old.file, path=to))
            self.declared.left.pop(to, None)
            self.declared.put(moved)
            for offset, chunk in sorted(hashed.items()):
                self.record(to, offset, [chunk])
            self.declared.writer(old.writer).touch(is_ready=False)
            return moved

    def lose(self, path: str) -> None:
        """Forget the bytes that an earlier attempt left at a path."""
        with self.changing:
            self.declared.left.pop(path, None)
            self.inherited.pop(path, None)

    def set_ready(self, writer: str) -> bool:
        """Note that a writer is ready; tell if it is the last one of those that are expected."""
        with self.changing:
            self.declared.writer(writer).touch(is_ready=True)
            return not self.declared.unready(self.terms.writers or ())

    # bytes

    def record(self, path: str, offset: int, chunks: Sequence[Chunk]) -> None:
        """Record consecutive chunks that were written; see the base."""
        with self.changing:
            before = self._arrived_bytes
            super().record(path, offset, chunks)
            self._count(path, self._arrived_bytes - before)

    def forget(self, path: str, span: Span) -> None:
        """Count a range as missing again; see the base."""
        with self.changing:
            before = self._arrived_bytes
            super().forget(path, span)
            self._count(path, self._arrived_bytes - before)

    def _count(self, path: str, moved_bytes: int) -> None:
        if (shared := self.declared.by_path.get(path)) is not None:
            writer = self.declared.writer(shared.writer)
            writer.arrived_bytes += moved_bytes
            writer.touch()

    def _settle(self, file: UploadFile) -> None:
        """Count exactly those chunks of a file as arrived that have the digests declared now, if any are."""
        self.changing.wait_for(lambda: not any(at == file.path for at, _ in self._writing))
        before = {**self.inherited.pop(file.path, {}), **self._hashed.get(file.path, {})}
        if file.is_hashed:
            self._forget_bytes(file.path)
            for offset, chunk in spans.placed(file.chunks or ()):
                if before.get(offset) == chunk:
                    self.record(file.path, offset, [chunk])

    def _forget_bytes(self, path: str) -> None:
        for span in self.arrived.get(path, ()):
            self.forget(path, span)

    def _forget_file(self, path: str) -> SharedFile:
        self._forget_bytes(path)
        self.inherited.pop(path, None)
        return self.declared.remove(path)

    # below

    def _wait_for_writers(self) -> None:
        while self._writing or self._changes or self._is_arranging:
            self.changing.wait()

    def _may_write(self) -> bool:
        return not self._is_arranging


def superseded(upload_id: str, attempt: int, by: int) -> AttemptSuperseded:
    """Make the refusal of a request of an earlier attempt."""
    return AttemptSuperseded(
        f"Attempt {attempt} of upload {upload_id} is over: attempt {by} has taken it over.", attempt=by
    )
