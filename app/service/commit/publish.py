"""The last part of a commit: put the checkpoint in its place, and all that follows from it into one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.catalog import Session
from app.core import ranking, retention
from app.core.models import LIMITS, Checkpoint, Directory, Facts, File, Manifest, Policy, Upload
from app.runtime import actor
from app.service.state.context import Context, Rules
from app.service.state.records import rewrite_directory, rewrite_manifest
from app.service.state.transitions import lost_directory, mark_removed, policy_after, record_save


@dataclass(frozen=True, slots=True)
class Replaced:
    """The checkpoint of another writer that a save replaced a moment after it was saved, or without knowing of it."""

    checkpoint: Checkpoint
    writer: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of an upload.

    ``policy`` is the one in force, ``removed`` what this commit pruned or replaced, ``other_writer`` somebody else who
    saved to the directory a moment ago. ``repeated`` says that the same save was committed before. ``replaced`` is what
    another writer had saved under the same name a moment ago, or after this save was reserved.
    """

    checkpoint: Checkpoint
    policy: Policy
    removed: Sequence[Checkpoint] = ()
    other_writer: str | None = None
    repeated: bool = False
    replaced: Replaced | None = None


class Recording:
    """Publishes what is sealed, and records it."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    def publish(self, upload_id: str, manifest: Manifest) -> Committed:
        """Put a sealed checkpoint in its place, and record it. May be repeated until it succeeds."""
        self._context.storage.publish(upload_id, manifest)
        checkpoint = manifest.checkpoint
        with self._context.catalog.reading() as session:
            directory = session.directories.get(checkpoint.directory) or lost_directory(checkpoint)
            after = self._moved_on(session, directory, checkpoint, manifest)
            begun = session.uploads.get(upload_id)
        with (
            actor.finishing_for(begun.token_id if begun is not None else ""),
            self._context.catalog.writing() as session,
        ):
            old = session.checkpoints.get(manifest.replaces) if manifest.replaces else None
            replaced = [old] if old is not None and old.removed_at is None else []
            lost = self._lost(session, replaced, manifest.writer, begun)
            removed = mark_removed(session, replaced, "replaced", self._context.clock())
            session.checkpoints.add(manifest)
            removed += self._record(session, upload_id, directory, after, checkpoint)
        self._keep_policy(directory, after)
        told = _as_it_is(checkpoint, removed)
        return Committed(told, after.policy, removed, self._other_writer(directory, manifest.writer), replaced=lost)

    def change_facts(self, upload: Upload, directory: Directory, standing: Checkpoint) -> Committed:
        """The same content under the same name: no bytes move, but it is a save like any other in the order."""
        sequence = ranking.next_sequence(directory.sequence, upload.saved_after)
        facts = same_content_facts(standing, upload, standing.digest)
        checkpoint = replace(
            standing,
            save_id=upload.save_id,
            sequence=sequence,
            saved_after=ranking.saved_after(upload.saved_after, sequence),
            facts=facts,
            files=_as_told(standing, upload),
            folders=upload.folders or standing.folders,
        )
        manifest = Manifest(checkpoint, {}, None, upload.policy, upload.writer)
        with self._context.catalog.reading() as session:
            after = self._moved_on(session, directory, checkpoint, manifest)
        with self._context.catalog.writing() as session:
            session.checkpoints.save_again(checkpoint, upload.writer)
            removed = self._record(session, upload.id, directory, after, checkpoint)
            maps = session.checkpoints.maps(checkpoint.id)
        self._keep_policy(directory, after)
        rewrite_manifest(self._context, Manifest(checkpoint, maps))
        told = _as_it_is(checkpoint, removed)
        return Committed(told, after.policy, removed, self._other_writer(directory, upload.writer))

    def _moved_on(
        self, session: Session, directory: Directory, checkpoint: Checkpoint, manifest: Manifest
    ) -> Directory:
        """The directory after a commit."""
        return replace(
            directory,
            sequence=max(directory.sequence, checkpoint.sequence),
            policy=policy_after(session, directory, checkpoint, manifest.policy),
            last_writer=manifest.writer,
            last_write_at=self._context.clock(),
        )

    def _keep_policy(self, before: Directory, after: Directory) -> None:
        """What only ``directory.json`` says beside the catalog is on the disk before the save is acknowledged."""
        if _is_told_elsewhere(before, after):
            rewrite_directory(self._context, after.name)

    def _record(
        self, session: Session, upload_id: str, before: Directory, after: Directory, checkpoint: Checkpoint
    ) -> list[Checkpoint]:
        """The rest of the commit's transaction; gives the checkpoints that the policy removed."""
        now = self._context.clock()
        session.directories.put(after)
        if _is_told_elsewhere(before, after):
            session.directories.mark_dirty(after.name, True)
        if before.policy != after.policy:  # no event: that is for an operator's own
            said = {"mode": after.policy.mode, **{limit: getattr(after.policy, limit) for limit in LIMITS}}
            session.audit.add("directory.policy_changed", at=now, directory=after.name, policy=said)
        session.uploads.remove(upload_id)
        record_save(session, upload_id, checkpoint, at=now)
        if after.policy.keeps_everything:
            return []
        verdicts = retention.judge(session.checkpoints.live(after.name), after.policy)
        return mark_removed(session, [v.checkpoint for v in verdicts if not v.stays], "pruned", now)

    def _lost(
        self, session: Session, replaced: Sequence[Checkpoint], writer: str | None, begun: Upload | None
    ) -> Replaced | None:
        """What is replaced, where another writer saved it and this one may not have known that."""
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


def _is_told_elsewhere(before: Directory, after: Directory) -> bool:
    """Whether a commit says something of its directory that no manifest says."""
    return before.sequence == 0 or before.policy != after.policy


def _as_it_is(checkpoint: Checkpoint, removed: Sequence[Checkpoint]) -> Checkpoint:
    """A checkpoint after its commit: one that was delivered late may have been pruned by it."""
    return next((gone for gone in removed if gone.id == checkpoint.id), checkpoint)


def same_content_facts(standing: Checkpoint | None, upload: Upload, digest: str) -> Facts:
    """The facts of a save; a pin and tags stay with content that stays."""
    if standing is None or standing.digest != digest:
        return upload.facts
    return replace(
        upload.facts,
        pinned=standing.facts.pinned or upload.facts.pinned,
        tags=tuple(dict.fromkeys([*standing.facts.tags, *upload.facts.tags])),
    )


def _as_told(standing: Checkpoint, upload: Upload) -> tuple[File, ...]:
    """The files of a checkpoint, with what a save of the same content says of them."""
    told = {file.path: file for file in upload.files if file.modified_ns is not None or file.mode is not None}
    return tuple(
        replace(file, mode=told[file.path].mode, modified_ns=told[file.path].modified_ns) if file.path in told else file
        for file in standing.files
    )
