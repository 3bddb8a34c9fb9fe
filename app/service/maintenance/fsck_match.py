"""Matching of missing files with unexpected ones: finds what was renamed, and reports what is lost."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial

from app.core.models import Manifest
from app.service.maintenance.fsck_evidence import Evidence, Findings, Row, canonical
from app.service.maintenance.fsck_repair import Repairs
from app.service.state.context import Context
from app.storage import manifest as manifests
from app.storage.ports import InventoryEntry


class Matcher:
    """Matches missing with unexpected files, as the last part of a check."""

    def __init__(self, context: Context, evidence: Evidence, repairs: Repairs) -> None:
        self._context = context
        self._evidence = evidence
        self._repairs = repairs

    def match(self, found: Findings) -> None:
        """Match files; first whole unexpected checkpoints, whose files must not be used for others."""
        extra = {
            path: entry for path, entry in found.disk.items() if path not in found.expected and not entry.is_folder
        }
        for path in sorted(path for path in extra if self._context.storage.records.is_record(path)):
            manifest = self._evidence.manifest_at(path)
            if manifest is not None and self._evidence.is_whole(extra, path, manifest):
                self._match_whole(found, path, manifest)
                for place in self._evidence.places(manifest.checkpoint):
                    del extra[place]
        gone = self._match_files(found, extra)
        self._match_records(found, extra)
        self._report_losses(found, gone)
        for path, entry in sorted(extra.items()):
            text = "this server did not write it, or has forgotten it"
            found.add(
                "extra", path, text, about=str(entry).encode(), is_passing=self._context.storage.records.is_record(path)
            )

    def _match_whole(self, found: Findings, path: str, manifest: Manifest) -> None:
        """Report a checkpoint that is on the disk, whole and with its manifest, but not in the catalog there."""
        checkpoint = manifest.checkpoint
        where, about = f"{checkpoint.directory}/{checkpoint.name}", manifests.dump(manifest)
        add = partial(found.add, about=about, directory=checkpoint.directory, name=checkpoint.name)
        with self._context.catalog.reading() as session:
            row = session.checkpoints.get(checkpoint.id)
        if row is None:
            text = "it is complete on the disk, but the catalog has no row of it"
            add("unknown", where, text, partial(self._repairs.add_checkpoint, manifest))
        elif row.removed_because == "lost":
            add("unknown", where, "it was lost, and is there again", partial(self._repairs.add_checkpoint, manifest))
        elif row.removed_at is not None:
            text = "it was removed, but is there again" + (": reindex takes it in" if row.freed else "")
            add("unknown", where, text)
        else:  # both are intact: the operator has to decide
            add("disagrees", path, f"the catalog has it as {row.directory}/{row.name}")
            found.lost_records.pop(row.id, None)
            found.damage.pop(row.id, None)
            found.missing = [missing for missing in found.missing if missing[0].checkpoint.id != row.id]

    def _match_files(self, found: Findings, extra: dict[str, InventoryEntry]) -> dict[str, dict[str, str]]:
        """Match missing files by size and content; give the lost ones, by checkpoint and file, with their places."""
        by_size: dict[int, list[str]] = defaultdict(list)
        for path, entry in extra.items():
            if entry.is_plain:
                by_size[entry.size_bytes].append(path)
        gone: dict[str, dict[str, str]] = defaultdict(dict)
        # of two with the same bytes, first the one that has its manifest: it was not removed as a whole
        for row, file, file_map in sorted(
            found.missing, key=lambda missing: missing[0].checkpoint.id in found.lost_records
        ):
            place = self._context.storage.records.content_key(row.checkpoint, file)
            alike = (
                path
                for path in by_size[file.size_bytes]
                if path in extra and self._evidence.consists_of(path, file_map)
            )
            if not file.size_bytes or (now := next(alike, None)) is None:  # any empty file would match
                gone[row.checkpoint.id][file.path] = place
                continue
            del extra[now]
            found.of_row(
                row,
                "renamed",
                place,
                f"it is called {now} now",
                partial(self._context.storage.records.put_back, now, place),
            )
        return gone

    def _match_records(self, found: Findings, extra: dict[str, InventoryEntry]) -> None:
        """Match unexpected manifests and directory records: renamed ones, unknown directories, leftovers of a crash."""
        storage = self._context.storage
        for path in sorted(path for path in extra if storage.records.is_record(path)):
            about, manifest = str(extra[path]).encode(), self._evidence.manifest_at(path)
            row = found.lost_records.get(manifest.checkpoint.id) if manifest is not None else None
            if storage.records.is_temporary(path) and extra[path].is_plain:
                text = "a crash left it"
                found.add("leftover", path, text, partial(storage.records.drop, path), about=about, is_passing=True)
            elif (
                manifest is not None
                and row is not None
                and canonical(manifest.checkpoint, manifest.maps) == row.canonical
            ):
                place = storage.records.manifest_key(row.checkpoint.directory, row.checkpoint.name)
                repair = partial(storage.records.put_back, path, place)
                found.of_row(row, "renamed", place, f"it is called {path} now", repair)
                del found.lost_records[row.checkpoint.id]
            elif (name := self._evidence.directory_at(path)) is not None:
                with self._context.catalog.reading() as session:
                    is_known = session.directories.get(name) is not None
                if not is_known:
                    repair = partial(self._repairs.add_directory, name)
                    text = "the catalog does not know this directory"
                    found.add("unknown", path, text, repair, about=about, is_passing=True, directory=name)
            else:
                continue
            del extra[path]

    def _report_losses(self, found: Findings, gone: dict[str, dict[str, str]]) -> None:
        """Report missing manifests, then missing files. The row of a checkpoint that has neither is stale.

        That is certain only if the directory's own folder is there: its disk may not be mounted.
        """
        about = {row.checkpoint.id: row for row, _, _ in found.missing}
        for checkpoint_id, row in found.lost_records.items():
            checkpoint = row.checkpoint
            place = self._context.storage.records.manifest_key(checkpoint.directory, checkpoint.name)
            if len(gone[checkpoint_id]) == len(checkpoint.files):
                found.of_row(
                    row, "stale", f"{checkpoint.directory}/{checkpoint.name}", *self._describe_stale(found, row)
                )
                del gone[checkpoint_id]
                found.damage.pop(checkpoint_id, None)
            elif row.is_consistent:
                found.of_row(row, "record", place, "it is missing", partial(self._repairs.rewrite, checkpoint.id))
            else:
                found.of_row(row, "row", place, "the catalog's row contradicts itself, and there is no manifest")
        for checkpoint_id, places in gone.items():
            for path, place in places.items():
                text = "it is missing, and no other file on the disk has its bytes"
                found.of_row(about[checkpoint_id], "missing", place, text)
                found.damage[checkpoint_id][1][path] = f"{place} is missing"

    def _describe_stale(self, found: Findings, row: Row) -> tuple[str, Callable[[], None] | None]:
        """Describe a stale row; with a repair if the checkpoint is certainly lost."""
        checkpoint = row.checkpoint
        text = f"the catalog has {checkpoint.id}, but neither its files nor its manifest are there"
        if self._context.storage.content.is_in_trash(checkpoint):
            return f"{text}: they are in the trash, and the next start of the server brings them back", None
        if not self._evidence.has_place(found, checkpoint.directory):
            return f"{text}, nor is anything that the server wrote for this directory: is its disk mounted?", None
        return text, partial(self._repairs.mark_lost, checkpoint.id)
