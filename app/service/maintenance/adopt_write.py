"""Writing of adopted checkpoints: copies, manifests and rows. An interrupted run is continued by the next one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from app.core import digests
from app.core.errors import Refusal
from app.core.models import ADOPTED, Checkpoint, Directory, Facts, File, FileMap, Manifest
from app.formats import tensor_index
from app.formats.foreign_names import ExternalCheckpoint
from app.service.commit.finalize import cut, hashed
from app.service.maintenance.adopt_scan import NotAdoptable, Skipped, external_at, joined, printable_path
from app.service.state.context import Context
from app.service.state.transitions import record_save
from app.storage.ports import CHANGED, Adoption, ExternalFolder

OTHER_CONTENT = "{} exists and is something else; nothing is overwritten"
KEPT_LIMITS = ("max_checkpoints", "max_best_checkpoints")


class AdoptionWriter:
    """Writes the checkpoints of one directory."""

    def __init__(
        self, context: Context, adoption: Adoption, visited: ExternalFolder, read: Callable[[int], object]
    ) -> None:
        self._context = context
        self._visited = visited
        self._read = read
        self._adoption = adoption
        self._root = adoption.open_root_folder()

    def write(
        self,
        before: Directory,
        path: str,
        new: Sequence[ExternalCheckpoint],
        facts: Mapping[str, Facts],
        skipped: list[Skipped],
    ) -> list[ExternalCheckpoint]:
        """Write the manifests, oldest first, then all rows at once; give the checkpoints that were adopted."""
        taken: list[ExternalCheckpoint] = []
        manifests: list[Manifest] = []
        after = _keeping_everything(before)
        for external in new:
            try:
                manifest = self._manifest(before, path, external, after.sequence + 1, facts[external.name])
                if not taken:  # before any manifest: should a crash come now, a reindex must not find other limits
                    self._context.storage.records.make_directory(after)
                    self._context.storage.records.write_directory(after)
                self._adoption.make_checkpoint(manifest, copied=self._visited.within is None)
            except (OSError, Refusal) as error:
                skipped.append(Skipped(printable_path(self._visited, joined(path, external.name)), str(error), True))
                continue
            after = replace(after, sequence=after.sequence + 1)
            taken.append(external)
            manifests.append(manifest)
            self._read(external.size_bytes)
        if manifests:
            self._record(after, manifests)
        return taken

    def _manifest(
        self, directory: Directory, path: str, external: ExternalCheckpoint, sequence: int, facts: Facts
    ) -> Manifest:
        """Make the manifest of a checkpoint from its bytes, which are copied first if they are outside the root."""
        place = f"{directory.name}/{external.name}"
        copied = self._copied(external, joined(path, external.name), directory.name)
        begun = self._adoption.manifest_at(directory.name, external.name)
        maps = copied or self._maps_begun(begun, external) or self._maps(external, place)
        files = tuple(
            File(file, size_bytes, digests.of_file(maps[file].chunks), self._adoption.version(mtime_ns))
            for file, size_bytes, mtime_ns in sorted(external.files)
        )
        checkpoint = Checkpoint(
            id=begun.checkpoint.id if begun is not None else token_hex(16),
            directory=directory.name,
            name=external.name,
            save_id=begun.checkpoint.save_id if begun is not None else f"{ADOPTED}{token_hex(16)}",
            sequence=sequence,
            saved_after=sequence - 1,
            facts=facts,
            files=files,
            digest=digests.of_checkpoint((file.path, file.digest) for file in files),
            created_at=_time(external.mtime_ns),
        )
        return Manifest(checkpoint, maps)

    def _copied(self, external: ExternalCheckpoint, source: str, directory: str) -> dict[str, FileMap] | None:
        """Copy a checkpoint into the root, and verify the copy before it is moved into place; None if it is there."""
        if self._visited.within is not None:
            return None
        place = f"{directory}/{external.name}"
        if external_at(self._root, directory, external.name) is not None:
            self._refuse_other(external, source, place)
            return None
        with self._adoption.copying(self._visited, source) as copy:
            if external_at(self._root, copy.rpartition("/")[0], external.name) != external:
                raise NotAdoptable(CHANGED.format(source))
            maps = self._maps(external, copy)
            self._adoption.put(copy, place)
        return maps

    def _refuse_other(self, external: ExternalCheckpoint, source: str, place: str) -> None:
        """Refuse other content of the same sizes and times in the place of the copy."""
        for file, size_bytes, _ in external.files:
            inner = file if external.is_folder else ""
            with (
                closing(self._visited.open(joined(source, inner))) as theirs,
                closing(self._adoption.open(joined(place, inner))) as ours,
            ):
                if hashed(theirs, cut(size_bytes)) != hashed(ours, cut(size_bytes)):
                    raise NotAdoptable(OTHER_CONTENT.format(place))

    def _maps_begun(self, begun: Manifest | None, external: ExternalCheckpoint) -> dict[str, FileMap] | None:
        """Give the maps that an interrupted run has written, unless the files have changed since."""
        return dict(begun.maps) if begun is not None and is_same(begun.checkpoint, external, self._adoption) else None

    def _maps(self, external: ExternalCheckpoint, place: str) -> dict[str, FileMap]:
        return {
            file: self._map(
                joined(place, file) if external.is_folder else place,
                size_bytes,
                mtime_ns,
                is_indexed=not external.is_folder or tensor_index.is_looked_into(file),
            )
            for file, size_bytes, mtime_ns in external.files
        }

    def _map(self, path: str, size_bytes: int, mtime_ns: int, *, is_indexed: bool) -> FileMap:
        with closing(self._adoption.open(path)) as opened:
            chunks = hashed(opened, cut(size_bytes))
            tensors = tensor_index.read(opened.read, size_bytes) if is_indexed else None
            seen = (size_bytes, self._adoption.version(mtime_ns))
            if (opened.size_bytes, opened.version) != seen or not opened.is_as_opened():
                raise NotAdoptable(CHANGED.format(path))
            return FileMap(chunks, tensors)

    def _record(self, after: Directory, manifests: Sequence[Manifest]) -> None:
        now = self._context.clock()
        with self._context.catalog.writing() as session:
            session.directories.put(after)
            session.checkpoints.add(*manifests)
            for checkpoint in (manifest.checkpoint for manifest in manifests):
                record_save(session, checkpoint.id, checkpoint, at=now)


def _keeping_everything(directory: Directory) -> Directory:
    """Give the directory a policy whose limits no save can set, so that the next save removes nothing adopted."""
    policy = directory.policy
    return replace(directory, policy=replace(policy, operator=policy.operator | set(KEPT_LIMITS)))


def _time(mtime_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=mtime_ns // 1000)


def is_same(checkpoint: Checkpoint, external: ExternalCheckpoint, adoption: Adoption) -> bool:
    """Tell if a checkpoint has exactly the files that were scanned."""
    files = tuple((file.path, file.size_bytes, file.version) for file in checkpoint.files)
    seen = tuple((path, size, adoption.version(mtime_ns)) for path, size, mtime_ns in sorted(external.files))
    return files == seen and checkpoint.is_folder == external.is_folder
