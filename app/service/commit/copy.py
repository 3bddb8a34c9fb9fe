"""Copies: new checkpoints from the files of existing ones, without bytes passing through the client."""

from contextlib import closing, suppress

from app.core import batches
from app.core.access import Access
from app.core.errors import Altered, DigestMismatch, RangesMissing, UploadBusy, UploadNotFound
from app.core.models import Checkpoint, FileMap, Upload
from app.core.spans import Span
from app.service.commit.commit import Commits
from app.service.commit.copied_files import Copied, CopyRequest, copied
from app.service.query.contents import Contents
from app.service.query.lookup import Lookups
from app.service.state.context import Context
from app.service.state.get_or_refuse import checkpoint_not_found, known_checkpoint, readable_maps, require_live
from app.service.state.pending_commits import Committed
from app.service.upload.abort import Aborts
from app.service.upload.admission import Conditions
from app.service.upload.reserve import Reservations
from app.service.upload.transfer import Shortfall, Transfers

READ_BYTES = 4 * 1024 * 1024
ROUNDS = 3
"""How often a copy brings what its deduplication planned and could not copy, before it gives up."""


class Copies:
    """Copies checkpoints through ordinary uploads, which deduplicate against their source."""

    def __init__(
        self,
        context: Context,
        lookups: Lookups,
        contents: Contents,
        commits: Commits,
        reservations: Reservations,
        transfers: Transfers,
        aborts: Aborts,
    ) -> None:
        self._context = context
        self._lookups = lookups
        self._contents = contents
        self._commits = commits
        self._reservations = reservations
        self._transfers = transfers
        self._aborts = aborts

    def copy(self, access: Access, checkpoint_id: str, wanted: CopyRequest, conditions: Conditions) -> Committed:
        """Copy a checkpoint, durable when this returns. Idempotent by the ``save_id``, also once the source is gone.

        The server shares the blocks of the source's files where the file system can, and copies them elsewhere. What it
        reads is verified. If the source is removed meanwhile, the copy is either complete or refused.

        Raises
        ------
        CheckpointNotFound
            There is no such checkpoint, or the token may not read it.
        CheckpointRemoved, Altered, RecordUnreadable
            The source cannot be read any more.
        FileNotInCheckpoint, InvalidRequest, InvalidName
            The files to drop or rename are not those of the source, or do not give a checkpoint.
        SaveIdReused, NameTaken, Superseded, Pinned, ForeignFile, PreconditionFailed
        NoSpace, QuotaExceeded, TooLarge, NotReady, TooManyUploads, UploadBusy
        """
        if not self._lookups.is_readable(access, checkpoint_id):
            raise checkpoint_not_found(checkpoint_id)
        source, maps = self._source(checkpoint_id, wanted)
        copy = copied(source, maps, wanted, access.token_id)
        conditions.still_may()
        reservation = self._reservations.reserve(copy.save)
        upload = reservation.upload
        if upload is None:
            assert reservation.checkpoint is not None
            return self._commits.repeated(reservation.checkpoint.id)
        try:
            self._commits.check_conditions(upload, conditions)
            return self._fill_and_commit(source, copy, upload, reservation.missing, conditions)
        except (RangesMissing, UploadNotFound) as error:
            self._abort(upload)
            raise UploadBusy("The upload of this copy was aborted or lost bytes meanwhile; repeat the copy.") from error
        except DigestMismatch as error:
            self._abort(upload)
            raise Altered(f"{source.directory}/{source.name} was changed on the disk while it was copied.") from error
        except BaseException:
            if reservation.is_new:  # else another request may make the same copy, and find it admissible
                self._abort(upload)
            raise

    def _abort(self, upload: Upload) -> None:
        with suppress(UploadNotFound, UploadBusy):
            self._aborts.abort(upload.id)

    def _source(self, checkpoint_id: str, wanted: CopyRequest) -> tuple[Checkpoint, dict[str, FileMap]]:
        """Find the source; a removed one only for a repeat of a copy that was committed before."""
        with self._context.catalog.reading() as session:
            source = known_checkpoint(session, checkpoint_id)
            if not wanted.save_id or session.uploads.saved(wanted.directory, wanted.save_id) is None:
                require_live(source, checkpoint_id)
            with readable_maps(source):
                return source, session.checkpoints.maps(checkpoint_id)

    def _fill_and_commit(
        self, source: Checkpoint, copy: Copied, upload: Upload, missing: Shortfall, conditions: Conditions
    ) -> Committed:
        for left in reversed(range(ROUNDS)):
            while missing.count:
                self._fill(source, copy, upload, missing)
                missing = self._transfers.get(upload.id).missing
            try:
                return self._commits.commit(upload.id, conditions=conditions)
            except RangesMissing:
                if not left:
                    raise
                missing = self._transfers.get(upload.id).missing
        raise AssertionError("the last round returns or raises")

    def _fill(self, source: Checkpoint, copy: Copied, upload: Upload, missing: Shortfall) -> None:
        """Bring the listed ranges: small files in batches, the others one by one."""
        spans: dict[str, list[Span]] = {}
        for path, span, _ in missing.ranges:
            spans.setdefault(path, []).append(span)
        whole = [
            (place, file.size_bytes or 0)
            for place, file in enumerate(upload.files)
            if spans.get(file.path) == [Span(0, file.size_bytes or 0)]
        ]
        for batch in batches.plan(whole):
            paths = [upload.files[place].path for place in batch]
            data = self._contents.read_batch(source.id, [copy.origins[path][1] for path in paths])
            with self._transfers.receive_batch(upload.id, batch, len(data)) as receiver:
                receiver.get_buffer()[:] = data
                receiver.buffer_updated(len(data))
                receiver.finish()
            for path in paths:
                del spans[path]
        for path, ranges in spans.items():
            self._bring(source, copy.origins[path][0], upload, path, ranges)

    def _bring(self, source: Checkpoint, origin: str, upload: Upload, path: str, ranges: list[Span]) -> None:
        with closing(self._contents.open(source.id, origin).opened) as opened:
            for span in ranges:
                with self._transfers.receive(upload.id, path, span) as receiver:
                    start = span.start
                    while start < span.stop:
                        buffer = receiver.get_buffer()
                        data = opened.read(start, min(len(buffer), READ_BYTES, span.stop - start))
                        if not data:
                            raise Altered(f"{origin!r} of {source.directory}/{source.name} ended early.")
                        buffer[: len(data)] = data
                        receiver.buffer_updated(len(data))
                        start += len(data)
                    receiver.finish()
