"""Reservations of shared uploads: every writer sends the same one; that of a later attempt takes the upload over."""

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from app.catalog import Session
from app.core.errors import AttemptSuperseded, InvalidRequest, NotReady, SaveIdReused, UploadBusy, WritersDisagree
from app.core.models import NO_PRECONDITION, Save, SharedTerms, Upload
from app.service.shared.agreement import differences
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import known_checkpoint, require_expected
from app.service.state.open_uploads import OpenUploads
from app.service.state.pending_commits import PendingCommits
from app.service.state.shared_progress import SharedProgress, superseded
from app.service.upload.reserve import Reservations
from app.service.upload.transfer import Reservation, Transfers


class SharedReservations:
    """Reserves shared uploads. Idempotent by ``save_id`` and attempt."""

    def __init__(
        self,
        context: Context,
        rules: Rules,
        open_uploads: OpenUploads,
        pending_commits: PendingCommits,
        reservations: Reservations,
        transfers: Transfers,
    ) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._pending_commits = pending_commits
        self._reservations = reservations
        self._transfers = transfers

    def reserve(self, save: Save) -> Reservation:
        """Reserve a shared upload, or join the one that another writer has reserved.

        A later attempt replaces the facts, and keeps of the earlier one the bytes that it declares again.

        Raises
        ------
        WritersDisagree
            Another writer of this attempt has stated other facts; ``fields`` names them.
        AttemptSuperseded
            A later attempt has reserved it.
        SaveIdReused
            The ``save_id`` was used for a save that is not shared, or has another name.
        UploadBusy
            It is being committed.
        PreconditionFailed, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved
        NoSpace, QuotaExceeded, TooLarge, NotReady, TooManyUploads
            As for other saves.
        """
        if self._context.is_stopping:
            raise NotReady("The server is stopping; it finishes what has begun and takes nothing new.")
        self._rules.limits.admit(save)
        self._pending_commits.finish_directory(save.directory)
        terms = _terms_of(save)
        with self._context.catalog.reading() as session:
            begun = session.uploads.of_save(save.directory, save.save_id)
        if begun is not None and begun.shared is not None and begun.shared.attempt < terms.attempt:
            self._supersede(begun, save)
        found = self._record(save, terms)
        if found.upload is None:
            return found
        progress = self._open_uploads.of(found.upload, is_new=found.is_new)
        if not isinstance(progress, SharedProgress):
            raise InvalidRequest(f"Upload {found.upload.id} is not shared.")
        progress.refuse_attempt(terms.attempt)
        return self._transfers.shared(progress, (), is_new=found.is_new)

    def _record(self, save: Save, terms: SharedTerms) -> Reservation:
        """Record the upload in one transaction, or find what the same save began or became."""
        with (
            self._context.catalog.lock(save.directory),
            ExitStack() as undo,
            self._context.catalog.writing() as session,
        ):
            if saved := session.uploads.saved(save.directory, save.save_id):
                checkpoint = known_checkpoint(session, saved.checkpoint_id)
                if checkpoint.name != save.name:
                    raise SaveIdReused(f"The save_id {save.save_id!r} was used for {checkpoint.name!r}.")
                return Reservation(checkpoint=checkpoint)
            begun = session.uploads.of_save(save.directory, save.save_id)
            if begun is None:
                return Reservation(self._reservations.begin(session, save, None, undo), is_new=True)
            if begun.shared is None:
                raise SaveIdReused(f"The save_id {save.save_id!r} is in use for an upload that is not shared.")
            if terms.attempt < begun.shared.attempt:
                raise superseded(begun.id, terms.attempt, begun.shared.attempt)
            if fields := differences(begun, save):
                raise WritersDisagree(
                    f"Another writer has reserved {save.directory}/{save.name} with another "
                    f"{', '.join(fields)}. All writers state the same.",
                    fields=fields,
                )
            return Reservation(self._join(session, begun, save))

    def _join(self, session: Session, begun: Upload, save: Save) -> Upload:
        """Take over the precondition and the earlier place of another writer."""
        brought: dict[str, Any] = {"saved_after": _earlier(begun, save)}
        if save.precondition != NO_PRECONDITION:
            brought["precondition"] = save.precondition
        joined = replace(begun, **brought)
        current = session.checkpoints.named(joined.directory, joined.name)
        require_expected(joined.precondition, joined.directory, joined.name, current)
        if joined != begun:
            session.uploads.change(joined)
        return joined

    def _supersede(self, begun: Upload, save: Save) -> None:
        """Let a later attempt take over; whatever the earlier one has under way ends first."""
        if begun.name != save.name:
            raise SaveIdReused(f"The save_id {save.save_id!r} is in use for {begun.name!r}.")
        while True:
            progress = self._open_uploads.of(begun)
            if not isinstance(progress, SharedProgress) or progress.terms.attempt >= _terms_of(save).attempt:
                return  # another writer of the later attempt came first
            with suppress(AttemptSuperseded), progress.giving_way():
                self._take_over(progress, save)

    def _take_over(self, progress: SharedProgress, save: Save) -> None:
        """Record a later attempt; whoever finds it in the catalog under the directory's lock finds its progress."""
        begun = progress.upload
        with self._context.catalog.lock(save.directory):
            with self._context.catalog.writing() as session:
                current = session.uploads.get(begun.id)
                if current is None:
                    raise UploadBusy(f"Upload {begun.id} has just ended.")
                later = _with_facts(current, save)
                session.uploads.change(later)
                session.shared_writers.clear(begun.id)
                session.audit.add(
                    "upload.superseded",
                    at=self._context.clock(),
                    directory=begun.directory,
                    id=begun.id,
                    attempt=_terms_of(save).attempt,
                )
            self._open_uploads.supersede(progress, later)


def _terms_of(save: Save) -> SharedTerms:
    assert save.shared is not None
    return save.shared


def _earlier(begun: Upload, save: Save) -> int | None:
    if save.saved_after is None or begun.saved_after is None:
        return begun.saved_after
    return min(begun.saved_after, save.saved_after)


def _with_facts(begun: Upload, save: Save) -> Upload:
    """Return an upload with the facts of another attempt; its place in the order stays, unless it becomes earlier."""
    return replace(
        begun,
        facts=save.facts,
        policy=save.policy,
        writer=save.writer,
        only_if_improved=save.only_if_improved,
        precondition=save.precondition,
        shared=save.shared,
        saved_after=_earlier(begun, save),
    )
