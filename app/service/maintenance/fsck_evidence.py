"""Evidence of a check: rows, records and files, read one by one; and its findings so far."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property

from app.core.errors import Refusal
from app.core.models import Checkpoint, File, FileMap, Manifest
from app.service.maintenance.fsck_repair import Fault
from app.service.query.verify import RateLimit, first_fault
from app.service.state.context import Context
from app.storage import manifest as manifests
from app.storage.ports import InventoryEntry

Maps = Mapping[str, FileMap]


@dataclass(frozen=True)
class Row:
    """A live checkpoint as the catalog has it."""

    checkpoint: Checkpoint
    maps: Maps
    canonical: bytes
    is_stale: bool
    is_searched: bool

    @cached_property
    def is_consistent(self) -> bool:
        """True if its digests and sizes follow from its chunks."""
        try:
            manifests.load(self.canonical)
        except (manifests.Unreadable, KeyError):
            return False
        return True


@dataclass
class Findings:
    """The findings of a check so far."""

    disk: dict[str, InventoryEntry]
    hidden: dict[str, str] = field(default_factory=dict)
    """The folders that could not be read, with the reasons."""
    expected: set[str] = field(default_factory=set)
    sealed: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    missing: list[tuple[Row, File, FileMap]] = field(default_factory=list)
    lost_records: dict[str, Row] = field(default_factory=dict)
    damage: dict[str, tuple[Checkpoint, dict[str, str]]] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        where: str,
        text: str,
        repair: Callable[[], None] | None = None,
        *,
        about: bytes = b"",
        is_passing: bool = False,
        directory: str | None = None,
        name: str | None = None,
    ) -> None:
        self.faults.append(Fault(kind, where, text, repair, about, is_passing, directory, name))

    def of_row(self, row: Row, kind: str, where: str, text: str, repair: Callable[[], None] | None = None) -> None:
        checkpoint, is_stale = row.checkpoint, row.is_stale
        names = {"directory": checkpoint.directory, "name": checkpoint.name}
        self.add(kind, where, text, repair, about=row.canonical, is_passing=is_stale, **names)


class Evidence:
    """Reads single rows, records and files, and judges them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.rate_limit = RateLimit()

    def row(self, checkpoint_id: str) -> Row | None:
        """Read a row of the catalog; `ValueError` if it describes no checkpoint."""
        with self._context.catalog.reading() as session:
            checkpoint = session.checkpoints.get(checkpoint_id)
            if checkpoint is None:
                return None
            try:
                maps: Maps = session.checkpoints.maps(checkpoint_id)
            except ValueError:  # a row without maps contradicts itself
                maps = {}
            is_stale = session.checkpoints.is_manifest_stale(checkpoint_id)
            is_searched = session.checkpoints.is_searched_as(checkpoint)
        return Row(checkpoint, maps, canonical(checkpoint, maps), is_stale, is_searched)

    def has_place(self, found: Findings, directory: str) -> bool:
        """Tell if the place of a directory is there, so that what it lacks is certainly gone."""
        key = self._context.storage.records.place_key(directory)
        return key is None or key in found.disk

    def is_hidden(self, found: Findings, *keys: str) -> bool:
        """Tell if any of these keys is below a folder that could not be read."""
        is_below = self._context.storage.records.is_below
        return any(is_below(key, folder) for folder in found.hidden for key in keys)

    def places(self, checkpoint: Checkpoint) -> set[str]:
        """Give the paths of the manifest and the files of a checkpoint."""
        records = self._context.storage.records
        record = records.manifest_key(checkpoint.directory, checkpoint.name)
        return {record, *(records.content_key(checkpoint, file) for file in checkpoint.files)}

    def is_at_its_place(self, path: str, manifest: Manifest) -> bool:
        """Tell if a path is that of the manifest's own checkpoint."""
        return (
            self._context.storage.records.manifest_key(manifest.checkpoint.directory, manifest.checkpoint.name) == path
        )

    def is_whole(self, extra: dict[str, InventoryEntry], path: str, manifest: Manifest) -> bool:
        """Tell if an unexpected manifest describes a checkpoint whose files are all there and intact."""
        records, checkpoint = self._context.storage.records, manifest.checkpoint
        places = {records.content_key(checkpoint, file): file for file in checkpoint.files}
        if not self.is_at_its_place(path, manifest) or not places.keys() <= extra.keys():
            return False
        return all(self.consists_of(place, manifest.maps[file.path]) for place, file in places.items())

    def is_known(self, manifest: Manifest) -> bool:
        """Tell if the catalog has a live checkpoint that is exactly what a manifest says."""
        try:
            row = self.row(manifest.checkpoint.id)
        except ValueError:
            return False
        return (
            row is not None
            and row.checkpoint.removed_at is None
            and row.canonical == canonical(manifest.checkpoint, manifest.maps)
        )

    def manifest_at(self, path: str) -> Manifest | None:
        """Read the manifest at a path; None unless it is exactly as it was written."""
        try:
            data = self._context.storage.records.read_record(path)
            return manifests.load(data) if manifests.is_as_written(data) else None
        except (manifests.Unreadable, Refusal, OSError):
            return None

    def directory_at(self, path: str) -> str | None:
        """Read the name from a directory's record; None unless it is as it was written, and in its place."""
        try:
            data = self._context.storage.records.read_record(path)
            name = manifests.load_directory(data).name if manifests.is_as_written(data) else ""
        except (manifests.Unreadable, Refusal, OSError):
            return None
        return name if self._context.storage.records.directory_key(name) == path else None

    def consists_of(self, path: str, file_map: FileMap) -> bool:
        """Tell if a file consists of exactly these chunks."""
        try:
            with closing(self._context.storage.records.open_item(path)) as opened:
                whole = sum(chunk.length for chunk in file_map.chunks) == opened.size_bytes
                return whole and first_fault(opened, file_map.chunks, self.rate_limit) is None
        except (OSError, Refusal):
            return False


def canonical(checkpoint: Checkpoint, maps: Maps) -> bytes:
    """Serialise a checkpoint and its maps, the same facts to the same bytes."""
    return manifests.dump(Manifest(_bare(checkpoint), dict(sorted(maps.items()))))


def _bare(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, verified_at=None, damage=None, trashed=False, freed=False)
