"""Faults and repairs of fsck: each repair copies what is certainly right over what is certainly wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.catalog import Session
from app.core.errors import Refusal
from app.core.models import Directory, Manifest, Policy
from app.core.names import escaped
from app.service.maintenance.reindex import insert_records
from app.service.state.context import Context
from app.service.state.transitions import lost_directory, mark_removed, note_restored, note_verified
from app.storage import manifest as manifests


@dataclass(frozen=True)
class Fault:
    """A fault of a root.

    ``kind`` is one of ``altered``, ``missing``, ``renamed``, ``extra``, ``leftover``, ``record`` (a manifest or a
    ``directory.json``), ``disagrees``, ``stale`` (a row of which nothing is on the disk), ``unknown`` (a checkpoint
    or a directory that has no row), ``unreadable`` (a folder), ``row``, ``counters`` and ``rollups`` (sums of rows),
    and ``catalog``.
    ``about`` is the evidence: two checks of a running server's root that find the same fault with different evidence
    have seen transient states.
    ``is_passing`` marks a fault that a running server can cause for a moment. ``directory`` and ``name`` identify the
    checkpoint, the directory alone if the fault is about that; None if unknown.
    """

    kind: str
    where: str
    text: str
    repair: Callable[[], None] | None = None
    about: bytes = b""
    is_passing: bool = False
    directory: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        return escaped(f"{self.kind}: {self.where}: {self.text}")

    def is_same(self, other: "Fault") -> bool:
        """Tell if two checks have found one and the same fault."""
        return (self.kind, self.where, self.about) == (other.kind, other.where, other.about)


class Repairs:
    """The repairs; all are idempotent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.verified: dict[str, str | None] = {}
        """By checkpoint, the damage that reading it back has shown."""

    def rewrite(self, checkpoint_id: str) -> None:
        """Rewrite the manifest of a live checkpoint from the catalog."""
        with self._context.catalog.reading() as session:
            row, maps = session.checkpoints.get(checkpoint_id), session.checkpoints.maps(checkpoint_id)
        if row is not None and row.removed_at is None:
            self._context.storage.records.write_manifest(Manifest(row, maps))
            with self._context.catalog.writing() as session:
                session.checkpoints.mark_manifest_written(checkpoint_id)

    def rewrite_directory(self, name: str) -> None:
        """Rewrite ``directory.json`` from the catalog."""
        with self._context.catalog.reading() as session:
            directory = session.directories.get(name)
        if directory is not None:
            self._context.storage.records.make_directory(directory)
            self._context.storage.records.write_directory(directory)

    def correct_row(self, manifest: Manifest) -> None:
        """Correct a row from its manifest."""
        with self._context.catalog.writing() as session:
            session.checkpoints.repair(manifest)

    def mark_lost(self, checkpoint_id: str) -> None:
        """Mark a checkpoint as lost; its facts stay."""
        with self._context.catalog.writing() as session:
            row = session.checkpoints.get(checkpoint_id)
            if row is not None and row.removed_at is None:
                mark_removed(session, [row], "lost", self._context.clock())
                session.checkpoints.mark_trashed(checkpoint_id)
                session.checkpoints.mark_freed(checkpoint_id)

    def rebuild_search(self, checkpoint_id: str) -> None:
        """Rebuild the search columns of a row."""
        with self._context.catalog.writing() as session:
            row, maps = session.checkpoints.get(checkpoint_id), session.checkpoints.maps(checkpoint_id)
            is_stale = session.checkpoints.is_manifest_stale(checkpoint_id)
            if row is not None:
                session.checkpoints.repair(Manifest(row, maps))
                if is_stale:
                    session.checkpoints.change(row)

    def add_checkpoint(self, manifest: Manifest) -> None:
        """Add the row of a checkpoint that is on the disk."""
        checkpoint = manifest.checkpoint
        with self._context.catalog.writing() as session:
            name = checkpoint.directory
            self._put_directory(session, name)
            was_lost = session.checkpoints.forget_freed([checkpoint.id])
            session.checkpoints.delete_orphans(checkpoint.id)
            known = session.directories.get(name) or lost_directory(checkpoint)
            insert_records(
                session, {name: replace(known, sequence=max(known.sequence, checkpoint.sequence))}, [manifest]
            )
            if was_lost:
                note_restored(session, checkpoint, self._context.clock())

    def add_directory(self, name: str) -> None:
        """Add the row of a directory, with a counter that is behind none of its checkpoints."""
        with self._context.catalog.writing() as session:
            self._put_directory(session, name)

    def count_anew(self, directory: str) -> None:
        """Count the rows of a directory anew."""
        with self._context.catalog.writing() as session:
            session.counters.repair(directory)

    def roll_up_anew(self, directory: str) -> None:
        """Sum the usage of a directory over time anew, or that of all together."""
        with self._context.catalog.writing() as session:
            session.rollups.repair(directory)

    def _put_directory(self, session: Session, name: str) -> None:
        known = session.directories.readable(name)
        if known is None or (known.sequence == 0 and known.policy == Policy()):
            known = self._recorded(name) or known or Directory(name, self._context.clock())
        counter = session.directories.counter(name)
        sequence = max(known.sequence, counter, session.checkpoints.largest_sequence(name))
        session.directories.put(replace(known, name=name, sequence=sequence))

    def _recorded(self, name: str) -> Directory | None:
        """Read a directory's record; None unless it is as it was written."""
        try:
            data = self._context.storage.records.read_record(self._context.storage.records.directory_key(name))
            return manifests.load_directory(data) if manifests.is_as_written(data) else None
        except (manifests.Unreadable, Refusal, OSError):
            return None

    def note_verified(self) -> None:
        """Record the damage, or the absence of it, that reading back has shown."""
        for checkpoint_id, damage in self.verified.items():
            with self._context.catalog.reading() as session:
                row = session.checkpoints.get(checkpoint_id)
            if row is not None:
                note_verified(self._context, row, damage)
