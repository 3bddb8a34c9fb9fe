"""Small saves: a whole checkpoint that is in memory, committed without a reservation."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex

from app.catalog import Session
from app.core import digests, quotas
from app.core.errors import DigestMismatch, UploadBusy, UploadNotFound, WrongLength
from app.core.models import Chunk, Directory, FileMap, Save, Upload, UploadFile
from app.core.spans import Span
from app.service.commit.commit import Commits
from app.service.commit.finalize import Finalized, cut, finalized
from app.service.state.context import Context, Rules
from app.service.state.pending_commits import Committed, PendingCommits
from app.service.upload.abort import Aborts
from app.service.upload.admission import Conditions, admit_save
from app.service.upload.disk_space import DiskSpace
from app.service.upload.reserve import Reservations, position
from app.service.upload.transfer import Transfers
from app.storage.ports import Buffer


class SmallSaves:
    """Saves checkpoints whose bytes came with the request that describes them.

    A file under a new name in a known directory is committed at once: nothing is recorded before its seal. Anything
    else (a folder, a name that is taken, a quota, a save that was begun before) goes through an upload, as a large save
    does. The row of the upload keeps a folder's name, where the file system would let a directory of that name come.
    """

    def __init__(
        self,
        context: Context,
        rules: Rules,
        pending_commits: PendingCommits,
        disk_space: DiskSpace,
        commits: Commits,
        reservations: Reservations,
        transfers: Transfers,
        aborts: Aborts,
    ) -> None:
        self._context = context
        self._rules = rules
        self._pending_commits = pending_commits
        self._disk_space = disk_space
        self._commits = commits
        self._reservations = reservations
        self._transfers = transfers
        self._aborts = aborts

    def save(self, save: Save, data: Buffer, conditions: Conditions) -> Committed:
        """Make a checkpoint, durable when this returns. Idempotent by the ``save_id``.

        Parameters
        ----------
        data : buffer
            The bytes of the save's files, one after another.

        Raises
        ------
        WrongLength
            The files do not add up to the bytes.
        DigestMismatch
            The bytes are not those that were declared.
        SaveIdReused, ModeConflict, NameTaken, Superseded, Pinned, ForeignFile, NotImproved, PreconditionFailed
        NoSpace, QuotaExceeded, TooLarge, NotReady, TooManyUploads
        """
        save = replace(save, files=tuple(replace(file, path=file.path or save.name) for file in save.files))
        contents = dict(_split(save, memoryview(data)))
        save = replace(save, files=tuple(_hashed(file, contents[file.path]) for file in save.files))
        self._rules.limits.admit(save)
        if self._may_commit_at_once(save):
            conditions.still_may()
            self._disk_space.admit(len(data), upload_id="")
            if (committed := self._commit_at_once(save, contents, conditions)) is not None:
                self._commits.conclude(committed)
                return committed
        return self._through_upload(save, contents, conditions)

    def _may_commit_at_once(self, save: Save) -> bool:
        is_named = bool(save.name and save.save_id)
        is_file = [file.path for file in save.files] == [save.name]
        is_limited = self._context.is_stopping or bool(quotas.covering(self._rules.quotas, save.directory))
        return is_named and is_file and not is_limited

    def _commit_at_once(self, save: Save, contents: dict[str, memoryview], conditions: Conditions) -> Committed | None:
        """Commit a save under a new name; None if it has to go through an upload."""
        with self._context.catalog.lock(save.directory):
            self._pending_commits.finish_directory(save.directory)
            with self._context.catalog.reading() as session:
                directory = self._admitted(session, save, conditions)
                if directory is None:
                    return None
                upload = self._upload(session, directory, save)
            try:
                content = self._write(upload, contents)
                return self._commits.seal_and_publish(upload, content, directory, None)
            except BaseException:
                self._leave(upload)
                raise

    def _admitted(self, session: Session, save: Save, conditions: Conditions) -> Directory | None:
        """Return the directory of a save that is new in every respect; None for any other save."""
        directory = session.directories.get(save.directory)
        uploads, content = session.uploads, self._context.storage.content
        if directory is None or content.conflict(save.directory, save.name, None):
            return None
        if uploads.saved(save.directory, save.save_id) or uploads.of_save(save.directory, save.save_id):
            return None
        if admit_save(session, content, directory, save, None, conditions) is not None:
            return None
        return directory

    def _upload(self, session: Session, directory: Directory, save: Save) -> Upload:
        now = self._context.clock()
        values = {name: getattr(save, name) for name in Save.__dataclass_fields__}
        values["saved_after"] = position(session, directory, save)
        return Upload(**values, id=token_hex(16), created_at=now, expires_at=now + self._rules.lease)

    def _write(self, upload: Upload, contents: dict[str, memoryview]) -> Finalized:
        content = self._context.storage.content
        versions = content.write_whole(upload, contents)
        maps = {file.path: FileMap(file.chunks or (), file.tensors) for file in upload.files}
        return finalized(content, upload, maps, versions, self._rules.limits.tensors)

    def _leave(self, upload: Upload) -> None:
        """Discard the bytes of a save that failed; one that is sealed stays, and is finished later for its token."""
        if upload.id not in self._pending_commits:
            self._pending_commits.discard_remains(upload.id)
            return
        with suppress(Exception), self._context.catalog.writing() as session:
            session.uploads.add(upload)

    def _through_upload(self, save: Save, contents: dict[str, memoryview], conditions: Conditions) -> Committed:
        reservation = self._reservations.reserve(save, is_whole=True)
        upload = reservation.upload
        if upload is None:
            assert reservation.checkpoint is not None
            return self._commits.repeated(reservation.checkpoint.id)
        try:
            self._commits.check_conditions(upload, conditions)
            missing = reservation.missing
            while missing.count:
                for path, span, _ in missing.ranges:
                    data = contents[path] if path in contents else contents[""]  # the server has chosen the name
                    self._receive(upload.id, path, span, data[span.start : span.stop])
                missing = self._transfers.get(upload.id).missing
            return self._commits.commit(upload.id, conditions=conditions)
        except BaseException as error:
            if reservation.is_new or not isinstance(error, UploadBusy):  # a repeat would bring all bytes again
                with suppress(UploadNotFound, UploadBusy):
                    self._aborts.abort(upload.id)
            raise

    def _receive(self, upload_id: str, path: str, span: Span, data: memoryview) -> None:
        with self._transfers.receive(upload_id, path, span) as receiver:
            while data:
                buffer = receiver.get_buffer()
                count = min(len(buffer), len(data))
                buffer[:count] = data[:count]
                receiver.buffer_updated(count)
                data = data[count:]
            receiver.finish()


def _split(save: Save, data: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Yield the path and the bytes of each file of a save."""
    start = 0
    for file in save.files:
        size_bytes = file.size_bytes or 0
        yield file.path, data[start : start + size_bytes]
        start += size_bytes
    if start != len(data):
        raise WrongLength(f"The files have {start} bytes together, and {len(data)} came.")


def _hashed(file: UploadFile, data: memoryview) -> UploadFile:
    """Return a file with the digests of its chunks.

    Raises
    ------
    DigestMismatch
        They are not the declared ones.
    """
    lengths = [chunk.length for chunk in file.chunks] if file.chunks is not None else cut(len(data))
    chunks, start = [], 0
    for length in lengths:
        chunks.append(Chunk(length, digests.of_chunk(data[start : start + length])))
        start += length
    found = tuple(chunks)
    if file.is_hashed and file.chunks is not None and found != file.chunks:
        raise DigestMismatch(f"The bytes of {file.path!r} are not those that were declared.", file=file.path)
    return replace(file, chunks=found)
