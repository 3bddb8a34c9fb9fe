"""Publication: moves a sealed checkpoint into its directory and, in one transaction, records it and prunes."""

from collections.abc import Sequence
from dataclasses import replace

from app.catalog import Session
from app.core import ranking, retention
from app.core.models import LIMITS, Checkpoint, Directory, Facts, File, Manifest, Upload
from app.runtime import actor
from app.service.state.context import Context, Rules
from app.service.state.pending_commits import Committed, Replaced
from app.service.state.records import rewrite_directory, rewrite_manifest
from app.service.state.transitions import lost_directory, mark_removed, policy_after, record_save


class Publisher:
    """Publishes sealed uploads and records their checkpoints."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    def publish(self, upload_id: str, manifest: Manifest) -> Committed:
        """Move a sealed checkpoint into its directory, and record it. Idempotent."""
        self._context.storage.content.publish(upload_id, manifest)
        checkpoint = manifest.checkpoint
        with self._context.catalog.reading() as session:
            directory = session.directories.get(checkpoint.directory) or lost_directory(checkpoint)
            after = self._advanced(session, directory, checkpoint, manifest)
            begun = session.uploads.get(upload_id)
        with (
            actor.finishing_for(begun.token_id if begun is not None else ""),
            self._context.catalog.writing() as session,
        ):
            old = session.checkpoints.get(manifest.replaces) if manifest.replaces else None
            replaced = [old] if old is not None and old.removed_at is None else []
            overwritten = self._overwritten(session, replaced, manifest.writer, begun)
            removed = mark_removed(session, replaced, "replaced", self._context.clock())
            session.checkpoints.add(manifest)
            removed += self._record(session, upload_id, directory, after, checkpoint)
        self._keep_policy(directory, after)
        committed = _as_recorded(checkpoint, removed)
        other_writer = self._other_writer(directory, manifest.writer)
        return Committed(committed, after.policy, removed, other_writer, replaced=overwritten)

    def change_facts(self, upload: Upload, directory: Directory, current: Checkpoint) -> Committed:
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
            session.checkpoints.save_again(checkpoint, upload.writer)
            removed = self._record(session, upload.id, directory, after, checkpoint)
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

    def _record(
        self, session: Session, upload_id: str, before: Directory, after: Directory, checkpoint: Checkpoint
    ) -> list[Checkpoint]:
        """Record a commit within its transaction, and give the checkpoints that the policy removes."""
        now = self._context.clock()
        session.directories.put(after)
        if _changes_record(before, after):
            session.directories.mark_record_stale(after.name, True)
        if before.policy != after.policy:  # no event: those are for changes by an operator
            policy = {"mode": after.policy.mode, **{limit: getattr(after.policy, limit) for limit in LIMITS}}
            session.audit.add("directory.policy_changed", at=now, directory=after.name, policy=policy)
        session.uploads.remove(upload_id)
        record_save(session, upload_id, checkpoint, at=now)
        if after.policy.keeps_everything:
            return []
        verdicts = retention.judge(session.checkpoints.live(after.name), after.policy)
        return mark_removed(session, [v.checkpoint for v in verdicts if not v.stays], "pruned", now)

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
    """Give the facts of a save; if its content is unchanged, it keeps its pin and tags."""
    if current is None or current.digest != digest:
        return upload.facts
    return replace(
        upload.facts,
        pinned=current.facts.pinned or upload.facts.pinned,
        tags=tuple(dict.fromkeys([*current.facts.tags, *upload.facts.tags])),
    )


def _with_attributes(current: Checkpoint, upload: Upload) -> tuple[File, ...]:
    """Give the files of a checkpoint with the modes and times that a save of the same content declares."""
    new = {file.path: file for file in upload.files if file.modified_ns is not None or file.mode is not None}
    return tuple(
        replace(file, mode=new[file.path].mode, modified_ns=new[file.path].modified_ns) if file.path in new else file
        for file in current.files
    )
