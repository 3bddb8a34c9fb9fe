"""Manifests and directory records as JSON files in a folder beside the checkpoints, and the inventory of the root."""

import os
from collections.abc import Iterator
from contextlib import suppress

from app.core.errors import ForeignFile, NameTaken
from app.core.models import Checkpoint, Directory, File, Manifest
from app.storage import manifest as manifests
from app.storage.local import layout
from app.storage.local.disk.descriptors import Parts
from app.storage.local.disk.files import LocalOpened
from app.storage.local.disk.tree import Tree
from app.storage.local.manifest_cache import ManifestCache
from app.storage.local.record_times import record_times
from app.storage.local.survey import found_at, inventory, survey
from app.storage.ports import InventoryEntry, Opened, RecordTimes, SurveyedRecord


class LocalRecordStore:
    """The record store port below a local root; see the port for the promise of each method.

    Keys are paths relative to the root.
    """

    def __init__(self, tree: Tree) -> None:
        self.cache = ManifestCache()
        self._tree = tree
        self._named_twice: dict[str, Parts] = {}
        """The manifests, by the id of their checkpoint, that have the name of the seal as well."""

    # records

    def write_manifest(self, manifest: Manifest) -> None:
        self._tree.retry_failed_syncs()
        checkpoint = manifest.checkpoint
        place = layout.of_manifest(checkpoint.directory, checkpoint.name)
        self._tree.write(place, self.cache.dumped(manifest))
        self._stands(place, manifest)

    def place_manifest(self, manifest: Manifest, seal: Parts) -> None:
        """Make the seal of a checkpoint its manifest, by a second name for the same file where that is possible."""
        self._tree.retry_failed_syncs()
        checkpoint = manifest.checkpoint
        place = layout.of_manifest(checkpoint.directory, checkpoint.name)
        if not self._tree.give_second_name(seal, place):
            self.write_manifest(manifest)
            return
        self._named_twice[checkpoint.id] = place
        self._stands(place, manifest)

    def lose_second_name(self, checkpoint_id: str) -> None:
        """Note that a seal is gone: that has changed the status of the manifest, not its content."""
        place = self._named_twice.pop(checkpoint_id, None)
        if place is not None and (found := self._tree.stat(place)) is not None:
            self.cache.still_stands(place, found)

    def _stands(self, place: Parts, manifest: Manifest) -> None:
        self.cache.forget(manifest)
        if (found := self._tree.stat(place)) is not None:
            self.cache.stands(place, found, manifest.checkpoint.id)

    def standing(self, directory: str, name: str) -> str | None:
        """Return the id in the manifest under a name, empty if it is unreadable; None if there is no manifest."""
        path = layout.of_manifest(directory, name)
        found = self._tree.stat(path)
        if found is None:
            return None
        standing = self.cache.standing(path, found)
        if standing is None:
            try:
                standing = manifests.load(self._tree.read(path)).checkpoint.id
            except manifests.Unreadable:
                return ""
            self.cache.stands(path, found, standing)
        return standing

    def make_directory(self, directory: Directory) -> None:
        self._tree.retry_failed_syncs()
        try:
            with self._tree.folder((*layout.parts(directory.name), layout.OWN), create=True):
                pass
        except ForeignFile as error:
            raise NameTaken(f"{directory.name} cannot be a directory: {error.detail}") from error

    def drop_directory(self, name: str) -> None:
        parts = (*layout.parts(name), layout.OWN)
        with suppress(OSError):
            for length in range(len(parts), 0, -1):
                with self._tree.folder(parts[: length - 1]) as parent:
                    os.rmdir(parts[length - 1], dir_fd=parent)

    def forget_directory(self, name: str) -> None:
        self._tree.unlink(layout.of_directory(name))
        self.drop_directory(name)

    def write_directory(self, directory: Directory) -> None:
        self._tree.retry_failed_syncs()
        self._tree.write(layout.of_directory(directory.name), manifests.dump_directory(directory))

    def read(self, directory: str, name: str | None) -> SurveyedRecord:
        return found_at(self._tree, directory, name or "directory")

    def times(self, skip: frozenset[str]) -> Iterator[RecordTimes]:
        return record_times(self._tree, skip=skip)

    def survey(self) -> Iterator[SurveyedRecord]:
        return survey(self._tree)

    # inventory

    def inventory(self) -> Iterator[InventoryEntry]:
        return inventory(self._tree)

    def manifest_key(self, directory: str, name: str) -> str:
        return "/".join(layout.of_manifest(directory, name))

    def directory_key(self, name: str) -> str:
        return "/".join(layout.of_directory(name))

    def place_key(self, directory: str) -> str | None:
        return "/".join(layout.of_records(directory))

    def content_key(self, checkpoint: Checkpoint, file: File) -> str:
        return checkpoint.stored_at(file)

    def is_below(self, key: str, folder: str) -> bool:
        return not folder or f"{key}/".startswith(f"{folder}/")

    def is_record(self, key: str) -> bool:
        return key.split("/")[1:][-2:-1] == [layout.OWN]

    def is_temporary(self, key: str) -> bool:
        name = key.rpartition("/")[2]
        return self.is_record(key) and name.startswith(".") and name.endswith(".json.new")

    def read_record(self, key: str) -> bytes:
        return self._tree.read(layout.parts(key))

    def open_item(self, key: str) -> Opened:
        return LocalOpened(self._tree.open(layout.parts(key), os.O_RDONLY))

    def put_back(self, key: str, to: str) -> None:
        self._tree.move_file_to_free_name(layout.parts(key), layout.parts(to))

    def drop(self, key: str) -> None:
        self._tree.unlink(layout.parts(key))
