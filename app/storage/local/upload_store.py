"""Uploads as files in a folder of the root's own, from their first byte until they are published or discarded."""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from app.core.models import RangeUrl, Upload, Version
from app.core.spans import Span
from app.storage.local import layout
from app.storage.local.disk.descriptors import Parts
from app.storage.local.disk.durability import Durability
from app.storage.local.disk.files import LocalPartial, version
from app.storage.local.disk.tree import Tree
from app.storage.ports import Buffer, NotDurable, Partial

logger = logging.getLogger("holdfast")


class LocalUploadStore:
    """The part of the content store port that deals with uploads; see the port for the promise of each method."""

    range_max_bytes = 64 * 1024 * 1024

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._durability = Durability(tree)
        self._invalid: set[str] = set()
        self._renewing = threading.Lock()
        self._remains: set[str] = set()
        self._whole: set[str] = set()
        """The uploads that were written whole, whose files and seal lie in one folder."""

    def begin(self, upload: Upload) -> None:
        self._renew(upload)
        if self._tree.stat(layout.of_files(upload.id)) is None:
            self._durability.begin(upload.id)
            self._make_folder(upload.id)

    @contextmanager
    def partial(self, upload: Upload, path: str, *, create: bool = True) -> Iterator[Partial]:
        self._renew(upload)
        place = layout.of_upload(upload, path, self._folder(upload.id))
        if create:
            descriptor = self._tree.open_or_make(place, os.O_RDWR, below=layout.DEPTH_OF_FILES)
        else:
            descriptor = self._tree.open(place, os.O_RDWR)
        try:
            yield LocalPartial(descriptor)
        finally:
            os.close(descriptor)

    def write_files(self, upload: Upload, contents: Mapping[str, Buffer]) -> None:
        self._renew(upload)
        for folder, names in self._by_folder(upload, contents).items():
            found = {name: contents[path] for name, path in names.items()}
            self._tree.fill_files(folder, found, below=layout.DEPTH_OF_FILES)

    def write_whole(self, upload: Upload, contents: Mapping[str, Buffer]) -> Mapping[str, Version]:
        self._whole.add(upload.id)
        versions: dict[str, Version] = {}
        for folder, names in self._by_folder(upload, contents).items():
            found = {name: contents[path] for name, path in names.items()}
            written = self._tree.fill_files_durably(folder, found, below=len(layout.INCOMING))
            versions |= {path: version(written[name]) for name, path in names.items()}
        if upload.is_folder:
            self._tree.sync_folders((*layout.of_whole(upload.id), upload.name))
        return versions

    def remove_file(self, upload: Upload, path: str) -> None:
        self._renew(upload)
        place = layout.of_upload(upload, path, self._folder(upload.id))
        self._tree.drop_file(place, within=len(layout.of_files(upload.id)))

    def rename_file(self, upload: Upload, path: str, to: str) -> None:
        self._renew(upload)
        folder = self._folder(upload.id)
        source, target = layout.of_upload(upload, path, folder), layout.of_upload(upload, to, folder)
        self._tree.rename_file(source, target, below=layout.DEPTH_OF_FILES)
        self._tree.drop_file(source, within=len(layout.of_files(upload.id)))

    def keep_only(self, upload: Upload) -> None:
        self._renew(upload)
        folder = (*self._folder(upload.id), upload.name)
        if not self._tree.is_folder(folder):
            return
        ours = {layout.parts(file.path) for file in upload.files}
        for found in self._tree.files(folder):
            if found not in ours:
                self._tree.drop_file((*folder, *found), within=len(folder))
        self._tree.remove_empty(folder)

    def upload_url(self, upload: Upload, path: str, span: Span) -> RangeUrl | None:
        return None

    def arrived(self, upload: Upload) -> Mapping[str, Sequence[Span]]:
        return {}

    def finalize(self, upload: Upload) -> Mapping[str, Version]:
        empty = [file.path for file in upload.files if not file.size_bytes]  # or of a size that was not declared
        for folder, names in self._by_folder(upload, empty).items():
            self._tree.make_files(folder, names, below=layout.DEPTH_OF_FILES)
        try:
            self._durability.sync(upload.id, layout.of_files(upload.id), len(upload.files))
            found = self._stats(upload)
            if self._cut_to_size(upload, found):
                self._durability.sync(upload.id, layout.of_files(upload.id), len(upload.files))
                found = self._stats(upload)
        except NotDurable:
            self._invalid.add(upload.id)
            with suppress(OSError):  # if it fails, the next use of the upload does it first
                self._renew(upload)
            raise
        return {path: version(status) for path, status in found.items()}

    def discard(self, upload_id: str) -> None:
        try:
            self._tree.remove((*layout.INCOMING, upload_id))
        except OSError:
            self._remains.add(upload_id)
            raise
        self._durability.end(upload_id)
        self._remains.discard(upload_id)
        self._whole.discard(upload_id)
        self._invalid.discard(upload_id)

    def sweep(self) -> None:
        for upload_id in tuple(self._remains):
            try:
                self.discard(upload_id)
            except OSError:
                logger.exception("the remains of upload %s cannot be removed yet", upload_id)

    def uploads(self) -> set[str]:
        return set(self._tree.names(layout.INCOMING))

    def _folder(self, upload_id: str) -> Parts:
        return layout.of_whole(upload_id) if upload_id in self._whole else layout.of_files(upload_id)

    def _by_folder(self, upload: Upload, paths: Iterable[str]) -> dict[Parts, dict[str, str]]:
        """Group some paths of an upload by their folder, and there by the name of the file."""
        found: dict[Parts, dict[str, str]] = {}
        for path in paths:
            place = layout.of_upload(upload, path, self._folder(upload.id))
            found.setdefault(place[:-1], {})[place[-1]] = path
        return found

    def _stats(self, upload: Upload) -> dict[str, os.stat_result]:
        """Return the status of each file of an upload, by path."""
        found: dict[str, os.stat_result] = {}
        for folder, names in self._by_folder(upload, [file.path for file in upload.files]).items():
            by_name = self._tree.stats(folder, names)
            found |= {path: by_name[name] for name, path in names.items()}
        return found

    def _cut_to_size(self, upload: Upload, found: Mapping[str, os.stat_result]) -> bool:
        """Cut off what lies behind the declared end of files; tell if there was any.

        Raises
        ------
        NotDurable
            A file is shorter than declared: the disk has lost bytes.
        """
        sizes = {file.path: file.size_bytes for file in upload.files if file.size_bytes is not None}
        if short := [path for path, size_bytes in sizes.items() if found[path].st_size < size_bytes]:
            raise NotDurable(f"{short[0]!r} of upload {upload.id} is shorter than its {sizes[short[0]]} bytes.")
        longer = [path for path, size_bytes in sizes.items() if found[path].st_size > size_bytes]
        for path in longer:
            descriptor = self._tree.open(layout.of_upload(upload, path, self._folder(upload.id)), os.O_RDWR)
            try:
                os.ftruncate(descriptor, sizes[path])
            finally:
                os.close(descriptor)
        return bool(longer)

    def _make_folder(self, upload_id: str) -> None:
        with self._tree.folder(layout.of_files(upload_id), create=True, durable=False):
            pass

    def _renew(self, upload: Upload) -> None:
        """Remove the files of an invalid upload: a sync of new files proves something, one of the old ones does not."""
        with self._renewing:
            if upload.id in self._invalid:
                self._tree.remove(layout.of_files(upload.id))
                self._make_folder(upload.id)
                self._invalid.discard(upload.id)
