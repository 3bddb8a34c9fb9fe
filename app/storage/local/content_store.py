"""Checkpoints as plain files below a root: their commit, their removal, and reading them."""

import logging
import os
from collections.abc import Iterator, Sequence

from app.core.errors import ForeignFile
from app.core.models import Checkpoint, File, Manifest, RangeUrl
from app.core.spans import Span
from app.storage import manifest as manifests
from app.storage.local import layout, trash_notes
from app.storage.local.disk.descriptors import Parts
from app.storage.local.disk.files import LocalOpened
from app.storage.local.record_store import LocalRecordStore
from app.storage.local.root import Root
from app.storage.local.upload_store import LocalUploadStore
from app.storage.ports import Opened, Trashed

logger = logging.getLogger("holdfast")


class LocalContentStore(LocalUploadStore):
    """The content store port on a local file system; see the port for the promise of each method.

    ``<root>/<directory>/<name>`` is the checkpoint, ``<root>/<directory>/.holdfast/<name>.json`` its manifest,
    ``<root>/.holdfast/incoming/<upload>/files/<name>`` the same thing before it is published.
    """

    def __init__(self, root: Root, records: LocalRecordStore) -> None:
        super().__init__(root.tree)
        self._root = root
        self._records = records
        self._final: set[str] = set()
        """The checkpoints in the trash that are never restored."""

    def is_writable(self) -> bool:
        return self._root.is_writable()

    # commit

    def conflict(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        place = (*layout.parts(directory), name)
        if self._tree.stat(place) is None:
            return None
        ours = replaces is not None and self._records.standing(directory, name) == replaces.id
        if replaces is None or not ours or self._tree.is_folder(place) != replaces.is_folder:
            return f"{directory}/{name}"
        foreign = self._foreign_within(replaces)
        return f"{directory}/{name}/{'/'.join(foreign[0])}" if foreign else None

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        self._tree.retry_failed_syncs()
        self._tree.sync_names(layout.INCOMING)
        self._tree.write(self._seal_of(upload_id), self._records.cache.dumped(manifest))

    def unseal(self, upload_id: str) -> None:
        self._tree.unlink(self._seal_of(upload_id))

    def is_sealed(self, upload_id: str) -> bool:
        return self._tree.stat(self._seal_of(upload_id)) is not None

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        seals = []
        for upload_id in self._tree.names(layout.INCOMING):
            try:
                if self.is_sealed(upload_id):
                    seals.append((upload_id, manifests.load(self._tree.read(self._seal_of(upload_id)))))
            except FileNotFoundError:  # only without the lock: the server that owns the root removed it meanwhile
                continue
            except (manifests.Unreadable, ForeignFile) as error:
                logger.error("the seal of upload %s is left alone: %s", upload_id, error)
        return sorted(seals, key=lambda seal: seal[1].checkpoint.sequence)

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        self._tree.retry_failed_syncs()
        checkpoint = manifest.checkpoint
        if manifest.replaces is not None:
            self._set_aside(checkpoint.directory, checkpoint.name, manifest.replaces)
        seal = self._seal_of(upload_id)
        self._move_in((*self._folder(upload_id), checkpoint.name), checkpoint)
        self._records.place_manifest(manifest, seal)

    def discard(self, upload_id: str) -> None:
        super().discard(upload_id)
        self._records.lose_second_name(upload_id)

    def _seal_of(self, upload_id: str) -> Parts:
        whole = layout.of_whole_seal(upload_id)
        if upload_id in self._whole:
            return whole
        if self._tree.stat(whole) is None:
            return layout.of_seal(upload_id)
        self._whole.add(upload_id)  # an earlier process wrote it
        return whole

    # removal

    def move_to_trash(self, checkpoint: Checkpoint, *, note: bool = False, is_final: bool = False) -> None:
        self._tree.retry_failed_syncs()
        standing = self._records.standing(checkpoint.directory, checkpoint.name)
        aside = (*layout.TRASH, checkpoint.id)
        if standing == checkpoint.id:
            if note:
                trash_notes.note(self._tree, checkpoint)
            manifest = layout.of_manifest(checkpoint.directory, checkpoint.name)
            self._tree.move(manifest, (*aside, layout.SEAL), arrives_durably=not is_final)
        elif standing is not None or self._tree.stat((*aside, layout.SEAL)) is None:
            return
        place, target = layout.of_checkpoint(checkpoint), (*aside, checkpoint.name)
        if is_final:
            self._final.add(checkpoint.id)
        if self._tree.is_folder(place) != checkpoint.is_folder:
            return  # something else is in its place
        if not self._foreign_within(checkpoint) and self._tree.stat(target) is None:
            self._move_if_free(place, target, arrives_durably=not is_final)
        elif checkpoint.is_folder:
            for file in checkpoint.files:
                parts = layout.parts(file.path)
                self._move_if_free((*place, *parts), (*target, *parts), arrives_durably=not is_final)
            self._tree.remove_empty(place)

    def is_in_trash(self, checkpoint: Checkpoint) -> bool:
        aside = (*layout.TRASH, checkpoint.id)
        if self._tree.stat((*aside, layout.SEAL)) is None:  # it is the first to go
            return False
        for file in checkpoint.files:
            inner = layout.parts(file.path) if checkpoint.is_folder else ()
            found = self._tree.stat((*aside, checkpoint.name, *inner))
            if found is None or found.st_size != file.size_bytes:
                return False
        return True

    def restore(self, checkpoint: Checkpoint) -> None:
        self._tree.retry_failed_syncs()
        aside = (*layout.TRASH, checkpoint.id)
        if self._tree.stat(aside) is None:
            return
        self._bring_back(checkpoint)
        manifest = layout.of_manifest(checkpoint.directory, checkpoint.name)
        if self._tree.stat((*aside, layout.SEAL)) is not None and self._tree.stat(manifest) is None:
            self._tree.move((*aside, layout.SEAL), manifest)
        self.purge(checkpoint.id)
        self._tree.sync_names(layout.TRASH)  # the trash is never searched again for a live checkpoint

    def purge(self, checkpoint_id: str) -> None:
        self._tree.retry_failed_syncs()
        if checkpoint_id not in self._final:
            self._tree.unlink((*layout.TRASH, checkpoint_id, layout.SEAL))
        self._final.discard(checkpoint_id)
        self._tree.remove((*layout.TRASH, checkpoint_id))

    def trash(self) -> set[str]:
        return set(self._tree.names(layout.TRASH))

    def trashed(self) -> Iterator[Trashed]:
        for found in trash_notes.trashed(self._tree):
            self.move_to_trash(found.manifest.checkpoint)  # a crash may have come between manifest and files
            if self.is_in_trash(found.manifest.checkpoint):
                yield found

    # reading

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        return LocalOpened(self._tree.open(layout.parts(checkpoint.stored_at(file)), os.O_RDONLY))

    def download_url(self, checkpoint: Checkpoint, file: File, span: Span) -> RangeUrl | None:
        return None

    # below

    def _bring_back(self, checkpoint: Checkpoint) -> None:
        aside, place = (*layout.TRASH, checkpoint.id, checkpoint.name), layout.of_checkpoint(checkpoint)
        if self._tree.stat(aside) is None:
            return
        try:
            if not checkpoint.is_folder:
                self._tree.move_file_to_free_name(aside, place)
            elif self._tree.stat(place) is None:
                self._tree.move(aside, place)
            else:
                for file in checkpoint.files:
                    parts = layout.parts(file.path)
                    if self._tree.stat((*aside, *parts)) is not None:
                        self._tree.move_file_to_free_name((*aside, *parts), (*place, *parts))
        except FileExistsError as error:
            raise ForeignFile(f"{'/'.join(place)} exists and was not written by this server.") from error

    def _foreign_within(self, checkpoint: Checkpoint) -> list[Parts]:
        place = layout.of_checkpoint(checkpoint)
        if not checkpoint.is_folder or not self._tree.is_folder(place):
            return []
        ours = {layout.parts(file.path) for file in checkpoint.files}
        return [path for path in self._tree.files(place) if path not in ours]

    def _set_aside(self, directory: str, name: str, old_id: str) -> None:
        """Move a replaced checkpoint to the trash: files first, so that its manifest marks an unfinished move."""
        if self._records.standing(directory, name) != old_id:
            return
        self._move_if_free((*layout.parts(directory), name), (*layout.TRASH, old_id, name))
        self._tree.move(layout.of_manifest(directory, name), (*layout.TRASH, old_id, layout.SEAL))

    def _move_in(self, source: Parts, checkpoint: Checkpoint) -> None:
        place = layout.of_checkpoint(checkpoint)
        if self._tree.stat(source) is None:  # a crash came after the move
            if self._tree.stat(place) is None:
                raise FileNotFoundError(
                    f"The bytes of {'/'.join(place)} are neither in {'/'.join(source)} nor in place."
                )
            return
        try:
            if not checkpoint.is_folder:
                self._tree.move_file_to_free_name(source, place)
            elif self._tree.stat(place) is None:
                self._tree.move(source, place)
            else:
                raise FileExistsError
        except FileExistsError as error:
            raise ForeignFile(f"{'/'.join(place)} exists and was not written by this server.") from error

    def _move_if_free(self, source: Parts, target: Parts, *, arrives_durably: bool = True) -> None:
        """Move a file unless the target exists: then an earlier run moved it, and this is another file."""
        if self._tree.stat(source) is not None and self._tree.stat(target) is None:
            self._tree.move(source, target, arrives_durably=arrives_durably)
