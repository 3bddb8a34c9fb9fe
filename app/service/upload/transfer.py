"""Open uploads for their clients: lists missing ranges, receives bytes, renews leases."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

from app.core import batches, spans
from app.core.access import Access
from app.core.errors import FileNotInCheckpoint, RangeMisaligned, WrongLength
from app.core.models import Checkpoint, Chunk, RangeUrl, Upload, UploadFile
from app.core.spans import Span
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import known_checkpoint, known_upload, upload_not_found
from app.service.state.open_uploads import OpenUploads
from app.service.state.quota_claims import QuotaClaims
from app.service.state.shared_files import SharedStatus
from app.service.state.shared_progress import SharedProgress
from app.service.state.upload_progress import UploadProgress
from app.service.upload.disk_space import DiskSpace
from app.service.upload.receive_batch import BatchReceiver
from app.service.upload.receive_range import RangeReceiver

LULL_S = 3.0
"""The time after its last bytes for which a stopping server waits for an upload, in seconds."""
_NO_BYTES = Span(0, 0)
RENEWED_EVERY = timedelta(minutes=1)


class MissingRange(NamedTuple):
    """A range of an upload that has not arrived."""

    path: str
    span: Span
    url: RangeUrl | None = None
    """The URL that the store gives for it; None if the client sends it to the server, or no URL was asked for."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The missing part of an upload: the first ranges in the order of its files, and the totals of all of them."""

    ranges: Sequence[MissingRange] = ()
    count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """An upload and what it still lacks, or the checkpoint that the same save became earlier.

    ``places`` are those of the files that are listed, if they are not the positions in the upload's own list.
    """

    upload: Upload | None = None
    missing: Shortfall = Shortfall()
    checkpoint: Checkpoint | None = None
    is_new: bool = False
    places: Mapping[str, int] = field(default_factory=dict)
    shared: SharedStatus | None = None


class Transfers:
    """Takes the bytes of open uploads, and renews the leases of those that bring any."""

    def __init__(
        self,
        context: Context,
        rules: Rules,
        open_uploads: OpenUploads,
        disk_space: DiskSpace,
        quota_claims: QuotaClaims,
    ) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._disk_space = disk_space
        self._quota_claims = quota_claims

    def reach(self, access: Access, upload_id: str) -> None:
        """Check that an upload, open or committed, is for a directory within reach.

        Raises
        ------
        UploadNotFound
            It is not, or does not exist.
        """
        with self._context.catalog.reading() as session:
            directory = session.uploads.directory_of(upload_id)
        if directory is None or not access.reaches(directory):
            raise upload_not_found(upload_id)

    def get(self, upload_id: str, writer: str | None = None) -> Reservation:
        """Give an upload and what it lacks, and renew its lease; or give the checkpoint that it became.

        Parameters
        ----------
        writer : str, optional
            Of a shared upload, list what the files of this writer lack.

        Raises
        ------
        UploadNotFound
        """
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return Reservation(checkpoint=known_checkpoint(session, saved.checkpoint_id))
            upload = known_upload(session, upload_id)
        progress = self._open_uploads.of(upload)
        if isinstance(progress, SharedProgress):
            return self.shared(progress, progress.files_of(writer))
        return Reservation(self.renew(upload), self.missing(upload))

    def shared(self, progress: SharedProgress, files: Sequence[UploadFile], *, is_new: bool = False) -> Reservation:
        """Give a shared upload and what some of its files lack. Their bytes always come through the server."""
        upload = replace(self.renew(progress.upload), files=tuple(files))
        status = progress.status(self._context.clock())
        missing = self.missing(upload, with_urls=False)
        return Reservation(upload, missing, is_new=is_new, places=progress.places_of(files), shared=status)

    def name_of(self, upload_id: str) -> str:
        """Give the name of the checkpoint that an upload, open or committed, is for.

        Raises
        ------
        UploadNotFound
        """
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return known_checkpoint(session, saved.checkpoint_id).name
            return known_upload(session, upload_id).name

    def missing(self, upload: Upload, *, with_urls: bool = True) -> Shortfall:
        """Find the ranges of an upload that have not arrived; the list is bounded, the totals are not."""
        progress = self._open_uploads.of(upload)
        content = self._context.storage.content
        for path, arrived in content.arrived(upload).items():
            progress.record_unseen(path, arrived)
        limit = content.range_max_bytes
        listed: list[MissingRange] = []
        count = size_bytes = 0
        for file in upload.files:
            found = progress.missing(file, limit)
            shown = found[: self._rules.limits.ranges - len(listed)]
            urls = [content.upload_url(upload, file.path, span) if with_urls else None for span in shown]
            listed += [MissingRange(file.path, span, url) for span, url in zip(shown, urls, strict=True)]
            count += len(found)
            size_bytes += spans.total(found)
        return Shortfall(listed, count, size_bytes)

    def announce(self, upload: Upload, coming_bytes: int) -> None:
        """Admit a body of so many bytes for a file whose size is not declared.

        Raises
        ------
        NoSpace, QuotaExceeded
        """
        self._open_uploads.of(upload).announced_bytes = coming_bytes
        self._quota_claims.extend(upload, coming_bytes)
        self._disk_space.admit(coming_bytes, upload_id=upload.id)

    @contextmanager
    def receive(self, upload_id: str, path: str, span: Span, attempt: int | None = None) -> Iterator[RangeReceiver]:
        """Take the bytes of a range; the caller feeds the receiver and finishes it.

        Raises
        ------
        UploadNotFound, FileNotInCheckpoint
        AttemptSuperseded
            A later attempt has taken a shared upload over.
        InvalidRequest
            A shared upload needs an attempt, and no other may have one.
        WrongLength
            The range reaches beyond the file.
        RangeMisaligned
            Chunks were declared and the range does not consist of whole ones.
        NoSpace
        """
        progress = self.progress_of(upload_id)
        progress.refuse_attempt(attempt)
        self.keep_alive(progress)
        file = progress.file(path)
        if file is None:
            raise FileNotInCheckpoint(f"The upload has no file {path!r}.")
        expected = _expected(file, span)
        with ExitStack() as stack:
            try:
                with progress.writing(path, _NO_BYTES):  # not while it is published, as this may create the file
                    partial = stack.enter_context(self._context.storage.content.partial(progress.upload, file.path))
            except FileNotFoundError as error:
                raise upload_not_found(upload_id) from error
            if file.size_bytes is not None:
                left = max(0, file.size_bytes - partial.allocated_bytes())
                self._disk_space.admit(min(left, span.stop - span.start), upload_id=upload_id)
                with progress.writing(path, span):  # not after the commit has looked at the file
                    partial.allocate(span)
            receiver = RangeReceiver(progress, partial, path, span, expected, self.keep_alive)
            stack.callback(receiver.close)
            yield receiver

    @contextmanager
    def receive_batch(
        self, upload_id: str, places: Sequence[int], length: int, attempt: int | None = None
    ) -> Iterator[BatchReceiver]:
        """Take the bytes of several small files, given by their places in the declared order.

        Raises
        ------
        UploadNotFound, FileNotInCheckpoint, AttemptSuperseded, InvalidRequest
        TooLarge
            The files are more than one request may hold.
        WrongLength
            Their sizes do not add up to ``length``.
        NoSpace
        """
        progress = self.progress_of(upload_id)
        progress.refuse_attempt(attempt)
        wanted = []
        for place in places:
            if (file := progress.file_at(place)) is None:
                raise FileNotInCheckpoint(f"The upload has no file at {place}.")
            wanted.append(file)
        batches.refuse_large([file.size_bytes or 0 for file in wanted])
        receiver = BatchReceiver(progress, self._context.storage.content, wanted, length)
        self.keep_alive(progress)
        self._disk_space.admit(length, upload_id=upload_id)
        try:
            yield receiver
        except FileNotFoundError as error:
            raise upload_not_found(upload_id) from error
        self.keep_alive(progress)

    def renew(self, upload: Upload) -> Upload:
        """Renew the lease of an upload. Not written each time, as every range calls this."""
        expires_at = self._context.clock() + self._rules.lease
        if expires_at - upload.expires_at < min(RENEWED_EVERY, self._rules.lease / 10):
            return upload
        with self._context.catalog.writing() as session:
            session.uploads.renew(upload.id, expires_at)
        return replace(upload, expires_at=expires_at)

    def touched_at(self, upload_id: str) -> float | None:
        """Return the time, of `time.monotonic`, of an upload's last bytes; None if this process does not know it."""
        progress = self._open_uploads.peek(upload_id)
        return progress.touched_at if progress is not None else None

    def is_moving(self) -> bool:
        """Tell if any upload has brought bytes so recently that it probably continues."""
        return self._open_uploads.moved_within(LULL_S)

    def progress_of(self, upload_id: str) -> UploadProgress:
        """Give the progress of an upload.

        Raises
        ------
        UploadNotFound
        """
        if (known := self._open_uploads.known(upload_id)) is not None:
            return known
        with self._context.catalog.reading() as session:
            upload = known_upload(session, upload_id)
        return self._open_uploads.of(upload)

    def keep_alive(self, progress: UploadProgress) -> None:
        """Renew the lease after bytes came. Of an undeclared size, check that there is room for more bytes."""
        if progress.declared_bytes is None:
            self._disk_space.admit(0, upload_id=progress.upload.id)
            self._quota_claims.extend(progress.upload, progress.arrived_bytes)
        else:
            self._quota_claims.extend(progress.upload)
        expires_at = self.renew(progress.upload).expires_at
        with progress.changing:
            if progress.upload.expires_at != expires_at:
                progress.upload = replace(progress.upload, expires_at=expires_at)


def _expected(file: UploadFile, span: Span) -> Sequence[Chunk] | None:
    """Give the declared chunks of a range; None if none were declared."""
    if file.size_bytes is not None and span.stop > file.size_bytes:
        raise WrongLength(f"The range ends at {span.stop}, beyond the file's {file.size_bytes} bytes.")
    if file.chunks is None:
        return None
    chunks = spans.chunks_within(file.chunks, span)
    if chunks is None:
        raise RangeMisaligned(f"The range {span.start}..{span.stop} does not begin and end at chunk boundaries.")
    return chunks
