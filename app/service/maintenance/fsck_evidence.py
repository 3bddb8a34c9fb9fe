"""What a check looks at: rows, records and files, asked one by one; and what it has come across so far."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property

from app.core.errors import Refusal
from app.core.models import Checkpoint, File, FileMap, Manifest
from app.service.maintenance.fsck_repair import Fault
from app.service.query.verify import Pace, first_fault
from app.service.state.context import Context
from app.storage import manifest as manifests
from app.storage.port import Item

Maps = Mapping[str, FileMap]


@dataclass(frozen=True)
class Row:
    """What the catalog says of a live checkpoint."""

    checkpoint: Checkpoint
    maps: Maps
    told: bytes
    is_dirty: bool
    is_searched: bool

    @cached_property
    def is_consistent(self) -> bool:
        """Whether its digests and sizes follow from its chunk lists."""
        try:
            manifests.load(self.told)
        except (manifests.Unreadable, KeyError):
            return False
        return True


@dataclass
class Found:
    """What a check has come across so far."""

    disk: dict[str, Item]
    hidden: dict[str, str] = field(default_factory=dict)
    """The folders that could not be looked into, and why."""
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
        mend: Callable[[], None] | None = None,
        *,
        about: bytes = b"",
        is_passing: bool = False,
        directory: str | None = None,
        name: str | None = None,
    ) -> None:
        self.faults.append(Fault(kind, where, text, mend, about, is_passing, directory, name))

    def is_hidden(self, path: str) -> bool:
        """Whether something may lie at a path and could not be looked at."""
        return any(not folder or f"{path}/".startswith(f"{folder}/") for folder in self.hidden)

    def of_row(self, row: Row, kind: str, where: str, text: str, mend: Callable[[], None] | None = None) -> None:
        checkpoint, is_dirty = row.checkpoint, row.is_dirty
        said = {"directory": checkpoint.directory, "name": checkpoint.name}
        self.add(kind, where, text, mend, about=row.told, is_passing=is_dirty, **said)


class Evidence:
    """Questions about one row, one record or one file."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.pace = Pace()

    def row(self, checkpoint_id: str) -> Row | None:
        """A row of the catalog. `ValueError` where it holds what is no checkpoint."""
        with self._context.catalog.reading() as session:
            checkpoint = session.checkpoints.get(checkpoint_id)
            if checkpoint is None:
                return None
            try:
                maps: Maps = session.checkpoints.maps(checkpoint_id)
            except ValueError:  # without them it contradicts itself
                maps = {}
            is_dirty = session.checkpoints.is_dirty(checkpoint_id)
            is_searched = session.checkpoints.is_searched_as(checkpoint)
        return Row(checkpoint, maps, told(checkpoint, maps), is_dirty, is_searched)

    def places(self, checkpoint: Checkpoint) -> set[str]:
        """Where the manifest and the files of a checkpoint should lie."""
        record = self._context.storage.place_of_manifest(checkpoint.directory, checkpoint.name)
        return {record, *(checkpoint.stored_at(file) for file in checkpoint.files)}

    def is_at_its_place(self, path: str, said: Manifest) -> bool:
        """Whether a manifest lies where the manifest of what it speaks of should lie."""
        return self._context.storage.place_of_manifest(said.checkpoint.directory, said.checkpoint.name) == path

    def is_whole(self, extra: dict[str, Item], path: str, said: Manifest) -> bool:
        """Whether a manifest that nobody expects is of a checkpoint that lies there whole."""
        places = {said.checkpoint.stored_at(file): file for file in said.checkpoint.files}
        if not self.is_at_its_place(path, said) or not places.keys() <= extra.keys():
            return False
        return all(self.consists_of(place, said.maps[file.path]) for place, file in places.items())

    def is_known(self, said: Manifest) -> bool:
        """Whether the catalog has a live checkpoint that is just what a manifest says."""
        try:
            row = self.row(said.checkpoint.id)
        except ValueError:
            return False
        return row is not None and row.checkpoint.removed_at is None and row.told == told(said.checkpoint, said.maps)

    def said(self, path: str) -> Manifest | None:
        """The manifest at a path, if it can be believed."""
        try:
            data = self._context.storage.record(path)
            return manifests.load(data) if manifests.is_as_written(data) else None
        except (manifests.Unreadable, Refusal, OSError):
            return None

    def said_directory(self, path: str) -> str | None:
        """The name of the directory whose own record this is, if it can be believed."""
        try:
            data = self._context.storage.record(path)
            name = manifests.load_directory(data).name if manifests.is_as_written(data) else ""
        except (manifests.Unreadable, Refusal, OSError):
            return None
        return name if self._context.storage.place_of_directory(name) == path else None

    def consists_of(self, path: str, file_map: FileMap) -> bool:
        """Whether a file consists of just these chunks."""
        try:
            with closing(self._context.storage.adoption.open(path)) as opened:
                whole = sum(chunk.length for chunk in file_map.chunks) == opened.size_bytes
                return whole and first_fault(opened, file_map.chunks, self.pace) is None
        except (OSError, Refusal):
            return False


def told(checkpoint: Checkpoint, maps: Maps) -> bytes:
    """What is said of a checkpoint, the same bytes for the same."""
    return manifests.dump(Manifest(_bare(checkpoint), dict(sorted(maps.items()))))


def _bare(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, verified_at=None, damage=None, trashed=False, freed=False)
