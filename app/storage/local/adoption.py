"""Adoption of checkpoints that other tools wrote on this machine: list their folders, copy files, write manifests."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import Literal

from app.core.errors import ForeignFile
from app.core.models import Manifest, Version
from app.core.spans import Span
from app.storage import manifest as manifests
from app.storage.local import layout
from app.storage.local.disk import linux
from app.storage.local.disk.descriptors import Parts
from app.storage.local.disk.files import LocalOpened
from app.storage.local.disk.tree import Tree
from app.storage.ports import CHANGED, Entry, ExternalFolder, Opened

COPIED_AT_ONCE = 64 * 1024 * 1024
_KINDS: Mapping[int, Literal["file", "folder", "link", "other"]] = {
    S_IFREG: "file",
    S_IFDIR: "folder",
    S_IFLNK: "link",
}


class LocalExternalFolder:
    """A folder on this machine."""

    def __init__(self, tree: Tree, root: Path, *, owns_tree: bool = True) -> None:
        self.tree = tree
        self.address = str(tree.root)
        self.within = "/".join(tree.root.relative_to(root).parts) if tree.root.is_relative_to(root) else None
        self._owns_tree = owns_tree

    def entries(self, path: str) -> Sequence[Entry]:
        try:
            with self.tree.folder(_parts(path)) as folder, os.scandir(folder) as entries:
                found = [_entry(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda entry: entry.name)

    def entry(self, path: str) -> Entry | None:
        parts = _parts(path)
        found = self.tree.stat(parts)
        return _entry(parts[-1], found) if found is not None else None

    def open(self, path: str) -> Opened:
        return LocalOpened(self.tree.open(layout.parts(path), os.O_RDONLY))

    def close(self) -> None:
        if self._owns_tree:
            self.tree.close()


class LocalAdoption:
    """The adoption port below a local root; see the port for the promise of each method."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._synced: set[Parts] = set()
        self._put: set[Parts] = set()

    def open_folder(self, folder: str) -> ExternalFolder:
        self._synced.clear()
        place = Path(folder).resolve(strict=True)
        if not place.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder")
        return LocalExternalFolder(Tree(place), self._tree.root)

    def open_root_folder(self) -> ExternalFolder:
        return LocalExternalFolder(self._tree, self._tree.root, owns_tree=False)

    def version(self, mtime_ns: int) -> Version:
        return str(mtime_ns)

    @contextmanager
    def copying(self, visited: ExternalFolder, path: str) -> Iterator[str]:
        assert isinstance(visited, LocalExternalFolder), "a folder of another store"
        source = _parts(path)
        copy = layout.of_copy(source[-1])
        self._tree.remove(copy[:-1])
        try:
            inner = visited.tree.files(source) if visited.tree.is_folder(source) else [()]
            found = {file: self._copy(visited.tree, (*source, *file), (*copy, *file)) for file in inner}
            for file, before in found.items():  # after the last copy: the files belong together
                _refuse_changed((*source, *file), before, visited.tree.stat((*source, *file)))
            self._tree.sync(copy[:-1])
            yield "/".join(copy)
        finally:
            with suppress(OSError):  # the next copy removes it first
                self._tree.remove(copy[:-1])

    def put(self, copy: str, target: str) -> None:
        source, place = layout.parts(copy), layout.parts(target)
        if self._tree.stat(place) is not None:
            raise FileExistsError(f"{target} exists")
        if self._tree.is_folder(source):
            self._tree.move(source, place)
        else:
            self._tree.move_file_to_free_name(source, place)
        self._put.add(place)

    def open(self, path: str) -> Opened:
        return LocalOpened(self._tree.open(layout.parts(path), os.O_RDONLY))

    def manifest_at(self, directory: str, name: str) -> Manifest | None:
        path = layout.of_manifest(directory, name)
        if self._tree.stat(path) is None:
            return None
        try:
            manifest = manifests.load(self._tree.read(path))
        except manifests.Unreadable as error:
            raise ForeignFile(f"{'/'.join(path)} is no manifest: {error}") from error
        if (manifest.checkpoint.directory, manifest.checkpoint.name) != (directory, name):
            raise ForeignFile(f"{'/'.join(path)} is the manifest of something else")
        return manifest

    def make_checkpoint(self, manifest: Manifest, *, copied: bool) -> None:
        checkpoint = manifest.checkpoint
        files = [layout.parts(checkpoint.stored_at(file)) for file in checkpoint.files]
        if layout.of_checkpoint(checkpoint) not in self._put:
            for path in files:
                self._sync_file(path)
        folders = {path[:length] for path in files for length in range(len(path))}
        for folder in folders - self._synced:  # another tool may have made them just before the scan
            self._tree.sync_names(folder, anew=copied)
        self._synced |= folders
        self._tree.write(layout.of_manifest(checkpoint.directory, checkpoint.name), manifests.dump(manifest))

    def _sync_file(self, path: Parts) -> None:
        descriptor = self._tree.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _copy(self, tree: Tree, source: Parts, target: Parts) -> os.stat_result:
        """Copy a file with its times, sharing blocks if possible; return the status of the source."""
        with self._tree.folder(target[:-1], create=True, durable=False):
            pass
        reading = tree.open(source, os.O_RDONLY)
        try:
            writing = self._tree.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                found = os.fstat(reading)
                _fill(reading, writing, found.st_size)
                os.utime(writing, ns=(found.st_atime_ns, found.st_mtime_ns))
                _refuse_changed(source, found, os.fstat(reading))
                return found
            finally:
                os.close(writing)
        finally:
            os.close(reading)


def _entry(name: str, found: os.stat_result) -> Entry:
    return Entry(name, _KINDS.get(S_IFMT(found.st_mode), "other"), found.st_size, found.st_mtime_ns)


def _fill(source: int, target: int, size_bytes: int) -> None:
    if size_bytes and linux.share(source, 0, target, Span(0, size_bytes)):
        return
    offset = 0
    while offset < size_bytes:
        count = min(COPIED_AT_ONCE, size_bytes - offset)
        copied = 0
        with suppress(OSError):  # not all file systems copy between each other
            copied = os.copy_file_range(source, target, count, offset, offset)
        copied = copied or os.pwrite(target, os.pread(source, min(count, 1 << 20), offset), offset)
        if not copied:
            return  # the source was truncated meanwhile, which the comparison finds
        offset += copied


def _refuse_changed(path: Parts, before: os.stat_result, now: os.stat_result | None) -> None:
    """Refuse a changed file: a tool can set its modification time back, but not the change time of its inode."""
    if now is None or _identity(now) != _identity(before):
        raise ForeignFile(CHANGED.format("/".join(path)))


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _parts(path: str) -> Parts:
    return layout.parts(path) if path else ()
