"""Files below one root, reached without following a link, changed so that the change survives a power cut."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from app.errors import ForeignFile

Parts = tuple[str, ...]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """A folder and what is below it; paths are tuples of names, every one opened relative to its parent."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._descriptor)

    @contextmanager
    def folder(self, path: Parts, *, create: bool = False, durable: bool = True) -> Iterator[int]:
        """A descriptor of a folder below the root; with ``create``, missing folders are made, durably unless told not.

        Every other method comes through here.

        Raises
        ------
        FileNotFoundError
            A folder on the way is missing.
        ForeignFile
            Something on the way is a file or a link.
        """
        current = os.dup(self._descriptor)
        try:
            for name in path:
                _refuse_way_out(name)
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=current)
                        if durable:
                            os.fsync(current)
                following = self._enter(name, current, path)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)

    def open(self, path: Parts, flags: int) -> int:
        """A descriptor of a regular file; whoever asked closes it."""
        with self._parent(path) as parent:
            try:
                descriptor = os.open(
                    path[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666, dir_fd=parent
                )
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
                    raise ForeignFile(f"{'/'.join(path)} is not a plain file.") from error
                raise
        if not S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ForeignFile(f"{'/'.join(path)} is not a plain file.")
        return descriptor

    def stat(self, path: Parts) -> os.stat_result | None:
        """What lies at a path, links not followed; None for nothing."""
        try:
            with self._parent(path) as parent:
                return os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self, path: Parts) -> list[str]:
        """The sorted names in a folder; none where the folder is missing."""
        try:
            with self.folder(path) as folder:
                return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def read(self, path: Parts) -> bytes:
        """All bytes of a small file."""
        with os.fdopen(self.open(path, os.O_RDONLY), "rb") as file:
            return file.read()

    def write(self, path: Parts, data: bytes) -> None:
        """Put a small file: the old one or the new one is there at any moment, the new one for good on return."""
        temporary = f".{path[-1]}.new"
        with self._parent(path, create=True) as parent:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=parent), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path[-1], src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)

    def move(self, source: Parts, target: Parts) -> None:
        """Rename a file or a folder, durably; the target's folder is made where it is missing."""
        with self._parent(source) as old, self._parent(target, create=True) as new:
            os.rename(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
            os.fsync(new)
            os.fsync(old)

    def move_file_to_free_name(self, source: Parts, target: Parts) -> None:
        """Rename a file where the target's name is free, the new name durably.

        Raises
        ------
        FileExistsError
            Another file has the name.
        """
        with self._parent(source) as old, self._parent(target, create=True) as new:
            try:
                os.link(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
            except FileExistsError:
                here = os.stat(source[-1], dir_fd=old, follow_symlinks=False)
                there = os.stat(target[-1], dir_fd=new, follow_symlinks=False)
                if not os.path.samestat(here, there):
                    raise
            os.fsync(new)
            os.unlink(source[-1], dir_fd=old)  # should this be lost, the file has two names, which repeating mends

    def unlink(self, path: Parts) -> None:
        """Remove a file, durably; nothing to do where it is missing."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            os.unlink(path[-1], dir_fd=parent)
            os.fsync(parent)

    def remove(self, path: Parts) -> None:
        """Remove a folder and all that is below it, not durably; nothing to do where it is missing."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            shutil.rmtree(path[-1], dir_fd=parent)

    def remove_empty(self, path: Parts) -> None:
        """Remove a folder and those below it, as far as nothing is in them."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            for _, folders, _, descriptor in os.fwalk(path[-1], topdown=False, dir_fd=parent):
                for name in folders:
                    with suppress(OSError):
                        os.rmdir(name, dir_fd=descriptor)
            with suppress(OSError):
                os.rmdir(path[-1], dir_fd=parent)

    def files(self, path: Parts) -> list[Parts]:
        """All that is below a folder and is no folder, as paths relative to it."""
        with self.folder(path) as folder:
            found = []
            for where, folders, names, descriptor in os.fwalk(".", dir_fd=folder):
                parts = tuple(part for part in where.split("/") if part != ".")
                links = [name for name in folders if _is_link(name, descriptor)]
                found += [(*parts, name) for name in (*names, *links)]
            return found

    def sync(self, path: Parts) -> None:
        """Make everything below a folder durable: files, then the folders that name them."""
        with self.folder(path) as folder:
            for _, _, names, descriptor in os.fwalk(".", topdown=False, dir_fd=folder):
                for name in names:
                    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
                    try:
                        os.fsync(file)
                    finally:
                        os.close(file)
                os.fsync(descriptor)

    def sync_names(self, path: Parts) -> None:
        """Make the names in a folder durable, not what they name."""
        with self.folder(path) as folder:
            os.fsync(folder)

    def is_folder(self, path: Parts) -> bool:
        found = self.stat(path)
        return found is not None and S_ISDIR(found.st_mode)

    @contextmanager
    def _parent(self, path: Parts, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder that holds what lies at a path."""
        _refuse_way_out(path[-1])
        with self.folder(path[:-1], create=create) as parent:
            yield parent

    def _enter(self, name: str, parent: int, path: Parts) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise ForeignFile(f"{name!r} on the way to {'/'.join(path)} is a file or a link.") from error
            raise


def _refuse_way_out(name: str) -> None:
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ForeignFile(f"{name!r} is no name of a file.")


def _is_link(name: str, parent: int) -> bool:
    return S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
