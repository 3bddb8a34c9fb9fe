"""The transaction of a commit: records the checkpoint and prunes its directory, at once or not at all.

`service.commit.prune` decides which checkpoints the policy does not keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.catalog import Session
from app.core import ranking
from app.core.models import LIMITS, Checkpoint, Directory, Facts, File, Manifest, Upload
from app.runtime import actor
from app.service.commit.prune import prune
from app.service.state.context import Context, Rules
from app.service.state.pending_commits import Committed, Replaced
from app.service.state.rewrite_records import rewrite_directory, rewrite_manifest
from app.service.state.transitions import lost_directory, mark_removed, policy_after, record_save


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The directory before and after a commit, what was removed, and whose save was replaced."""

    before: Directory
    after: Directory
    removed: list[Checkpoint]
    overwritten: Replaced | None


class CommitRecorder:
    """Records commits, with the checkpoints that they replace and prune. Moves no bytes."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    def record(self, upload_id: str, manifest: Manifest) -> Committed:
        """Record a checkpoint whose files are in place, and prune its directory. Idempotent."""
        found = self._context.catalog.write_together(lambda session: self._record(session, upload_id, manifest))
        self._keep_policy(found.before, found.after)
        committed = _as_recorded(manifest.checkpoint, found.removed)
        other_writer = self._other_writer(found.before, manifest.writer)
        return Committed(committed, found.after.policy, found.removed, other_writer, replaced=found.overwritten)

    def _record(self, session: Session, upload_id: str, manifest: Manifest) -> _Recorded:
        checkpoint = manifest.checkpoint
        begun = session.uploads.get(upload_id)
        with actor.finishing_for(begun.token_id if begun is not None else ""):
            before = session.directories.get(checkpoint.directory) or lost_directory(checkpoint)
            after = self._advanced(session, before, checkpoint, manifest)
            if begun is not None:
                session.uploads.remove(upload_id)
            old = session.checkpoints.get(manifest.replaces) if manifest.replaces else None
            replaced = [old] if old is not None and old.removed_at is None else []
            overwritten = self._overwritten(session, replaced, manifest.writer, begun)
            removed = mark_removed(session, replaced, "replaced", self._context.clock())
            session.checkpoints.add(manifest)
            removed += self._put_and_prune(session, upload_id, before, after, checkpoint)
        return _Recorded(before, after, removed, overwritten)

    def record_same_content(self, upload: Upload, directory: Directory, current: Checkpoint) -> Committed:
        """Record a save of the same content under the same name: no bytes move, but it gets a new position."""
        sequence = ranking.next_sequence(directory.sequence, upload.saved_after)
        facts = same_content_facts(current, upload, current.digest)
        checkpoint = replace(
            current,
            save_id=upload.save_id,
            sequence=sequence,
            saved_after=ranking.saved_after(upload.saved_after, sequence),
            facts=facts,
            files=_with_attributes(current, upload),
            folders=upload.folders or current.folders,
        )
        manifest = Manifest(checkpoint, {}, None, upload.policy, upload.writer)
        with self._context.catalog.reading() as session:
            after = self._advanced(session, directory, checkpoint, manifest)
        with self._context.catalog.writing() as session:
            session.uploads.remove(upload.id)
            session.checkpoints.save_again(checkpoint, upload.writer)
            session.uploads.supersede(current.directory, current.save_id, self._context.clock())
            removed = self._put_and_prune(session, upload.id, directory, after, checkpoint)
            maps = session.checkpoints.maps(checkpoint.id)
        self._keep_policy(directory, after)
        rewrite_manifest(self._context, Manifest(checkpoint, maps))
        committed = _as_recorded(checkpoint, removed)
        return Committed(committed, after.policy, removed, self._other_writer(directory, upload.writer))

    def _advanced(
        self, session: Session, directory: Directory, checkpoint: Checkpoint, manifest: Manifest
    ) -> Directory:
        """Give the directory as it is after a commit."""
        return replace(
            directory,
            sequence=max(directory.sequence, checkpoint.sequence),
            policy=policy_after(session, directory, checkpoint, manifest.policy),
            last_writer=manifest.writer,
            last_write_at=self._context.clock(),
        )

    def _keep_policy(self, before: Directory, after: Directory) -> None:
        """Write facts that, beside the catalog, only ``directory.json`` holds; before the save is acknowledged."""
        if _changes_record(before, after):
            rewrite_directory(self._context, after.name)

    def _put_and_prune(
        self, session: Session, upload_id: str, before: Directory, after: Directory, checkpoint: Checkpoint
    ) -> list[Checkpoint]:
        """Write the rows of a commit, and give the checkpoints that the policy does not keep after it."""
        judged = session.directories.judged(after.name) if not after.policy.keeps_everything else None
        self._put_rows(session, upload_id, before, after, checkpoint)
        return prune(session, after, judged, [checkpoint.id], self._context.clock())

    def _put_rows(
        self, session: Session, upload_id: str, before: Directory, after: Directory, checkpoint: Checkpoint
    ) -> None:
        """Write the rows of a commit beside that of the checkpoint: directory, save, event and audit."""
        now = self._context.clock()
        session.directories.put(after)
        if _changes_record(before, after):
            session.directories.mark_record_stale(after.name, True)
        if before.policy != after.policy:  # no event: those are for changes by an operator
            policy = {"mode": after.policy.mode, **{limit: getattr(after.policy, limit) for limit in LIMITS}}
            session.audit.add("directory.policy_changed", at=now, directory=after.name, policy=policy)
        record_save(session, upload_id, checkpoint, at=now)

    def _overwritten(
        self, session: Session, replaced: Sequence[Checkpoint], writer: str | None, begun: Upload | None
    ) -> Replaced | None:
        """Give the replaced checkpoint if another writer saved it and this writer may not know of it."""
        since = self._context.clock() - self._rules.writer_window
        if begun is not None:
            since = min(since, begun.created_at)
        for old in replaced:
            its_writer = session.checkpoints.writer_of(old.id)
            if its_writer != writer and old.created_at >= since:
                return Replaced(old, its_writer)
        return None

    def _other_writer(self, before: Directory, writer: str | None) -> str | None:
        if before.last_writer in {None, writer} or before.last_write_at is None:
            return None
        recent = self._context.clock() - before.last_write_at <= self._rules.writer_window
        return before.last_writer if recent else None


def _changes_record(before: Directory, after: Directory) -> bool:
    """Tell if a commit changes facts of its directory that no manifest holds."""
    return before.sequence == 0 or before.policy != after.policy


def _as_recorded(checkpoint: Checkpoint, removed: Sequence[Checkpoint]) -> Checkpoint:
    """Give a checkpoint after its commit: the commit of a late delivery may prune it at once."""
    return next((gone for gone in removed if gone.id == checkpoint.id), checkpoint)


def same_content_facts(current: Checkpoint | None, upload: Upload, digest: str) -> Facts:
    """Give the facts of a save; if its content is unchanged, it keeps its pin, its tags and manual retention."""
    if current is None or current.digest != digest:
        return upload.facts
    return replace(
        upload.facts,
        pinned=current.facts.pinned or upload.facts.pinned,
        tags=tuple(dict.fromkeys([*current.facts.tags, *upload.facts.tags])),
        retention="manual" if current.facts.is_manual else upload.facts.retention,
    )


def _with_attributes(current: Checkpoint, upload: Upload) -> tuple[File, ...]:
    """Give the files of a checkpoint with the modes and times that a save of the same content declares."""
    new = {file.path: file for file in upload.files if file.modified_ns is not None or file.mode is not None}
    return tuple(
        replace(file, mode=new[file.path].mode, modified_ns=new[file.path].modified_ns) if file.path in new else file
        for file in current.files
    )
