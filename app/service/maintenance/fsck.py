"""Fsck: compares files, manifests and rows, reads every byte back, and describes each fault.

Only its repairs change anything. A fault with a certain repair carries it. One that needs a human decision, such as
two intact records that disagree, carries none.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from app.core.errors import Refusal
from app.core.models import Checkpoint, File, FileMap, Manifest
from app.service.maintenance.fsck_evidence import Evidence, Findings, Maps, Row, canonical
from app.service.maintenance.fsck_match import Matcher
from app.service.maintenance.fsck_repair import Fault, Repairs
from app.service.query.verify import RateLimit, faults_of
from app.service.state.context import Context
from app.storage import manifest as manifests


class Fsck:
    """One check of a whole root.

    Parameters
    ----------
    known : iterable of str
        Further keys of the store that belong there.
    """

    def __init__(self, context: Context, known: Iterable[str] = ()) -> None:
        self._context = context
        self._known = frozenset(known)
        self._repairs = Repairs(context)
        self._evidence = Evidence(context)
        self._matcher = Matcher(context, self._evidence, self._repairs)
        self.checkpoints = 0

    @property
    def bytes_read(self) -> int:
        """The number of bytes that the last run has read."""
        return self._evidence.rate_limit.bytes_read

    def run(self) -> list[Fault]:
        """Check the root, and list every fault."""
        self.checkpoints, self._evidence.rate_limit = 0, RateLimit()
        if texts := self._context.catalog.faults():  # no row of a damaged catalog is certain
            return [Fault("catalog", "the catalog", f"{text}; move it away and start the server") for text in texts]
        found = self._list_disk()
        self._expect_work_in_progress(found)
        with self._context.catalog.reading() as session:
            names = session.directories.names() | session.checkpoints.directories()
        for directory in sorted(names):
            with self._context.catalog.reading() as session:
                live = session.checkpoints.live_names(directory)
            self._check_directory(found, directory, [checkpoint_id for checkpoint_id, _ in live])
            for checkpoint_id, name in live:
                self.checkpoints += 1
                self._check(found, directory, checkpoint_id, name)
        self._matcher.match(found)
        self._check_counters(found)
        for checkpoint_id, (checkpoint, texts_of) in found.damage.items():
            texts = [texts_of[file.path] for file in checkpoint.files if file.path in texts_of]
            self._repairs.verified[checkpoint_id] = "; ".join(texts) or None
        return found.faults

    def repaired(self, faults: list[Fault]) -> Iterator[tuple[Fault, str]]:
        """Repair faults that have a certain repair; give each fault with its outcome, ``""`` for no repair."""
        for fault in faults:
            if fault.repair is None:
                yield fault, ""
                continue
            try:
                fault.repair()
                yield fault, "repaired"
            except Exception as error:  # a failed repair does not stop the others
                yield fault, f"not repaired: {error}"
        self._repairs.note_verified()

    # below

    def _check_counters(self, found: Findings) -> None:
        """Compare counters and rollups with the rows; last, as repairs of rows change what is counted."""
        with self._context.catalog.reading() as session:
            counters, rollups = session.counters.mismatches(), session.rollups.mismatches()
        for directory, names in counters:
            text = f"the catalog's counters disagree with its rows: {', '.join(names)}"
            repair = partial(self._repairs.count_anew, directory)
            found.add("counters", directory, text, repair, about=text.encode(), directory=directory)
        for directory, names in rollups:
            text = f"the catalog's usage over time disagrees with its rows: {', '.join(names)}"
            repair = partial(self._repairs.roll_up_anew, directory)
            where = directory or "all directories"
            found.add("rollups", where, text, repair, about=text.encode(), directory=directory or None)

    def _list_disk(self) -> Findings:
        """List the files on the disk. An unreadable folder is a fault, whose contents count as unknown."""
        found = Findings({})
        found.expected |= self._known
        for item in self._context.storage.records.inventory():
            if item.hidden is None:
                found.disk[item.key] = item
            else:
                found.hidden[item.key] = item.hidden
                found.add("unreadable", item.key or "the root", item.hidden)
        return found

    def _expect_work_in_progress(self, found: Findings) -> None:
        """Expect files being published or removed. Read after the disk and before the rows, so that none is missed."""
        storage = self._context.storage
        sealed = [manifest.checkpoint for _, manifest in storage.content.sealed()]
        with self._context.catalog.reading() as session:
            going = session.checkpoints.to_move_to_trash()
        for checkpoint in (*sealed, *going):
            found.expected |= self._evidence.places(checkpoint)
        for checkpoint in sealed:
            found.expected.add(storage.records.directory_key(checkpoint.directory))
            found.sealed.add(storage.records.manifest_key(checkpoint.directory, checkpoint.name))

    # what the catalog knows

    def _check(self, found: Findings, directory: str, checkpoint_id: str, name: str) -> None:
        where = self._context.storage.records.manifest_key(directory, name)
        found.expected.add(where)
        try:
            row = self._evidence.row(checkpoint_id)
        except ValueError:
            self._check_unreadable(found, where, checkpoint_id, directory, name)
            return
        if row is None:
            return
        checkpoint, maps = row.checkpoint, row.maps
        places = self._evidence.places(checkpoint)
        found.expected |= places
        if where in found.sealed or checkpoint.removed_at is not None or self._evidence.is_hidden(found, *places):
            return
        if not any(place in found.disk for place in places):
            found.missing += [(row, file, maps[file.path]) for file in checkpoint.files if file.path in maps]
            found.lost_records[checkpoint.id] = row
            found.damage[checkpoint.id] = (checkpoint, {})
            return
        manifest = self._check_record(found, row, where)
        if not row.is_consistent and manifest is not None:
            checkpoint, maps = manifest.checkpoint, manifest.maps
            found.expected |= self._evidence.places(checkpoint)
        self._check_files(found, row, checkpoint, maps)

    def _check_files(self, found: Findings, row: Row, checkpoint: Checkpoint, maps: Maps) -> None:
        damage: dict[str, str] = {}
        for file in checkpoint.files:
            place, file_map = self._context.storage.records.content_key(checkpoint, file), maps.get(file.path)
            if file_map is None:
                continue  # the row contradicts itself, which is reported elsewhere
            if place not in found.disk:
                found.missing.append((row, file, file_map))
            elif fault := self._altered(checkpoint, file, file_map):
                damage[file.path] = f"{checkpoint.stored_at(file)} {fault}"
                found.of_row(row, "altered", place, fault)
        found.damage[checkpoint.id] = (checkpoint, damage)

    def _altered(self, checkpoint: Checkpoint, file: File, file_map: FileMap) -> str | None:
        try:
            return faults_of(self._context.storage.content, checkpoint, file, file_map, self._evidence.rate_limit)
        except FileNotFoundError:
            return "was deleted during the check"

    def _check_unreadable(self, found: Findings, where: str, checkpoint_id: str, directory: str, name: str) -> None:
        """Report a row that cannot be read; its manifest may correct it."""
        manifest, repair = self._evidence.manifest_at(where), None
        if (
            manifest is not None
            and manifest.checkpoint.id == checkpoint_id
            and self._evidence.is_at_its_place(where, manifest)
        ):
            found.expected |= self._evidence.places(manifest.checkpoint)
            repair = partial(self._repairs.correct_row, manifest)
        found.add("row", where, "the catalog's row cannot be read", repair, directory=directory, name=name)

    def _check_record(self, found: Findings, row: Row, where: str) -> Manifest | None:
        """Check the manifest of a checkpoint, and give it if it is trustworthy."""
        rewrite = partial(self._repairs.rewrite, row.checkpoint.id) if row.is_consistent else None
        if rewrite and not row.is_searched:
            text = "the search columns do not agree with the row"
            found.of_row(row, "row", where, text, partial(self._repairs.rebuild_search, row.checkpoint.id))
        if where not in found.disk:
            found.lost_records[row.checkpoint.id] = row
            return None
        try:
            data = self._context.storage.records.read_record(where)
            manifest = manifests.load(data)
            if not manifests.is_as_written(data):
                raise manifests.Unreadable("something has changed it since it was written")
        except (manifests.Unreadable, Refusal, OSError) as error:
            found.of_row(row, "record", where, str(error), rewrite)
            return None
        if not row.is_consistent:
            is_its_own = manifest.checkpoint.id == row.checkpoint.id and self._evidence.is_at_its_place(where, manifest)
            text = "the catalog's row contradicts itself" + (", the manifest does not" if is_its_own else "")
            found.of_row(row, "row", where, text, partial(self._repairs.correct_row, manifest) if is_its_own else None)
            return manifest if is_its_own else None
        if canonical(manifest.checkpoint, manifest.maps) != row.canonical:
            self._report_difference(found, row, where, manifest)
        return manifest

    def _report_difference(self, found: Findings, row: Row, where: str, manifest: Manifest) -> None:
        rewrite = partial(self._repairs.rewrite, row.checkpoint.id)
        if row.is_stale:
            found.of_row(row, "record", where, "it is behind the catalog", rewrite)
        elif not self._evidence.is_at_its_place(where, manifest) and self._evidence.is_known(manifest):
            other = self._context.storage.records.manifest_key(manifest.checkpoint.directory, manifest.checkpoint.name)
            found.of_row(row, "record", where, f"it is what belongs to {other}", rewrite)
        else:
            found.of_row(row, "disagrees", where, "it and the catalog say different things")

    def _check_directory(self, found: Findings, name: str, live: Sequence[str]) -> None:
        """Check a directory's row and record. The record is only rewritten if the directory seems to be there."""
        where = self._context.storage.records.directory_key(name)
        found.expected.add(where)
        with self._context.catalog.reading() as session:
            directory, largest = session.directories.readable(name), session.checkpoints.largest_sequence(name)
            is_known = session.directories.is_known(name)
        if directory is None or directory.sequence < largest:
            text = "the catalog's row cannot be read" if is_known else "the catalog has no row of it"
            text = text if directory is None else "the catalog's counter is behind"
            found.add("row", where, text, partial(self._repairs.add_directory, name), directory=name)
        if directory is None or self._evidence.is_hidden(found, where):
            return
        rewrite = partial(self._repairs.rewrite_directory, name)
        if where not in found.disk:
            is_there = self._evidence.has_place(found, name) or not live or self._has_any(found, live)
            found.add("record", where, "it is missing", rewrite if is_there else None, directory=name)
            return
        try:
            data = self._context.storage.records.read_record(where)
            recorded = manifests.load_directory(data)
            if not manifests.is_as_written(data):
                raise manifests.Unreadable("something has changed it since it was written")
        except (manifests.Unreadable, Refusal, OSError) as error:
            found.add("record", where, str(error), rewrite, directory=name)
            return
        if recorded.policy != directory.policy or recorded.sequence > max(directory.sequence, largest):
            about = data + manifests.dump_directory(directory)
            text = "it and the catalog say different things"
            found.add("disagrees", where, text, about=about, is_passing=True, directory=name)

    def _has_any(self, found: Findings, live: Iterable[str]) -> bool:
        """Tell if any file of these checkpoints is there."""
        records = self._context.storage.records
        for checkpoint_id in live:
            with suppress(ValueError):  # a row that cannot be read is reported elsewhere
                if (row := self._evidence.row(checkpoint_id)) is not None:
                    keys = (records.content_key(row.checkpoint, file) for file in row.checkpoint.files)
                    if any(key in found.disk for key in keys):
                        return True
        return False
