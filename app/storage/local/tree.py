"""Files below one root, reached without following a link, changed so that the change survives a power cut."""

import errno
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

from app.core.errors import ForeignFile, UnsafePath
from app.storage.local import linux
from app.storage.port import Buffer, NotDurable

Parts = tuple[str, ...]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASSING = ".doubtful"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
"""What file systems say that give a file one name only, as exFAT and some of FUSE; or to this file no more."""


class Tree:
    """A folder and what is below it; paths are tuples of names, every one opened relative to its parent."""

    def __init__(self, root: Path) -> None:
        _make(root)
        self.root = root.resolve()
        self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._doubtful: set[Parts] = set()
        self._making_up = threading.Lock()

    def close(self) -> None:
        os.close(self._descriptor)

    def make_up(self) -> None:
        """Make durable the names in folders for which that has failed before.

        Whoever is about to build on earlier changes calls this first: a step that failed at its last moment looks as if
        it had happened when it is repeated. Each such folder is changed first, or there would be nothing left to write.
        """
        with self._making_up:  # also for those who find nothing doubtful: somebody may be about to make it up
            while self._doubtful:
                path = self._doubtful.pop()
                try:
                    with self.folder(path) as folder:
                        _change(folder)
                        os.fsync(folder)
                except (FileNotFoundError, ForeignFile):
                    continue  # it is gone, and its names with it
                except OSError:
                    self._doubtful.add(path)
                    raise

    @contextmanager
    def folder(self, path: Parts, *, create: bool = False, durable: bool = True, below: int = 0) -> Iterator[int]:
        """A descriptor of a folder below the root; with ``create``, missing folders are made, durably unless told not.

        Every other method comes through here. The first ``below`` folders on the way are not made.

        Raises
        ------
        FileNotFoundError
            A folder on the way is missing.
        ForeignFile
            Something on the way is a file or a link.
        """
        current = os.dup(self._descriptor)
        try:
            for place, name in enumerate(path):
                _refuse_way_out(name)
                if create and place >= below:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=current)
                        if durable:
                            self._sync_names(path[:place], current)
                following = self._enter(name, current, path)
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)

    def open(self, path: Parts, flags: int) -> int:
        """A descriptor of a regular file; whoever asked closes it."""
        with self._parent(path) as parent:
            return _open(path, flags, parent)

    def stat(self, path: Parts) -> os.stat_result | None:
        """What lies at a path, links not followed; None for nothing."""
        try:
            with self._parent(path) as parent:
                return os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def stats(self, path: Parts, names: Iterable[str]) -> dict[str, os.stat_result]:
        """What lies in a folder under some names, links not followed. `FileNotFoundError` where one has nothing."""
        with self.folder(path) as folder:
            return {name: os.stat(name, dir_fd=folder, follow_symlinks=False) for name in names}

    def open_or_make(self, path: Parts, flags: int, *, below: int) -> int:
        """As `open`; a missing file and folders beyond the first ``below`` are made, not durably."""
        with self.folder(path[:-1], create=True, durable=False, below=below) as parent:
            _refuse_way_out(path[-1])
            return _open(path, flags | os.O_CREAT, parent)

    def make_files(self, path: Parts, names: Iterable[str], *, below: int) -> None:
        """Make files in a folder, empty where they are new; nothing of it durably. For ``below``, see `folder`."""
        with self.folder(path, create=True, durable=False, below=below) as folder:
            for name in names:
                _refuse_way_out(name)
                os.close(_open((*path, name), os.O_WRONLY | os.O_CREAT, folder))

    def fill_files(self, path: Parts, contents: Mapping[str, Buffer], *, below: int) -> None:
        """Put the bytes of files in a folder; files and folders are made where they are missing, not durably.

        For ``below``, see `folder`.
        """
        with self.folder(path, create=True, durable=False, below=below) as folder:
            for name, data in contents.items():
                _refuse_way_out(name)
                file = _open((*path, name), os.O_WRONLY | os.O_CREAT, folder)
                try:
                    offset = 0
                    while offset < len(data):
                        offset += os.pwrite(file, memoryview(data)[offset:], offset)
                finally:
                    os.close(file)

    @property
    def tells_of_lost_writes(self) -> bool:
        """Whether `sync_file_system` says when something could not be written."""
        return linux.tells_of_lost_writes(self._descriptor)

    def sync_file_system(self) -> None:
        """Make all that was written to this file system durable. `OSError` once for whatever of it failed meanwhile."""
        linux.sync_file_system(self._descriptor)

    def names(self, path: Parts) -> list[str]:
        """The sorted names in a folder; none where the folder is missing."""
        try:
            with self.folder(path) as folder:
                return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def folders(self, path: Parts) -> list[str]:
        """The sorted names of the folders in a folder, links not followed; none where the folder is missing."""
        try:
            with self.folder(path) as folder, os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
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
            try:
                with os.fdopen(_new(temporary, parent), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            self._sync_names(path[:-1], parent)

    def move(self, source: Parts, target: Parts) -> None:
        """Rename a file or a folder, durably; the target's folder is made where it is missing."""
        with self._parent(source) as old, self._parent(target, create=True) as new:
            os.rename(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
            try:
                self._sync_names(target[:-1], new)
            finally:
                self._sync_names(source[:-1], old)

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
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                linux.rename_to_free_name(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
                self._sync_names(target[:-1], new)
                return
            self._sync_names(target[:-1], new)
            os.unlink(source[-1], dir_fd=old)  # should this be lost, the file has two names, which repeating mends

    def unlink(self, path: Parts) -> None:
        """Remove a file, durably; nothing to do where it is missing."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            os.unlink(path[-1], dir_fd=parent)
            self._sync_names(path[:-1], parent)

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
            for where, folders, names, descriptor in os.fwalk(".", onerror=_fail, dir_fd=folder):
                parts = tuple(part for part in where.split("/") if part != ".")
                links = [name for name in folders if _is_link(name, descriptor)]
                found += [(*parts, name) for name in (*names, *links)]
            return found

    def sync(self, path: Parts) -> None:
        """Make everything below a folder durable: files, then the folders that name them.

        Raises
        ------
        NotDurable
            That failed, and cannot be made up: the bytes may be lost although they can be read.
        ForeignFile
            Something in it is neither a file nor a folder.
        """
        with self.folder(path) as folder:
            for where, _, names, descriptor in os.fwalk(".", topdown=False, onerror=_fail, dir_fd=folder):
                for name in names:
                    file = _open((*path, *where.split("/")[1:], name), os.O_RDONLY, descriptor)
                    try:
                        _sync(file)
                    finally:
                        os.close(file)
                _sync(descriptor)

    def sync_names(self, path: Parts, *, anew: bool = False) -> None:
        """Make the names in a folder durable, not what they name; ``anew`` also where another process failed to.

        The folder is changed for that, or there would be nothing left to write.
        """
        with self.folder(path) as folder:
            if anew:
                _change(folder)
            self._sync_names(path, folder)

    def is_folder(self, path: Parts) -> bool:
        found = self.stat(path)
        return found is not None and S_ISDIR(found.st_mode)

    def _sync_names(self, path: Parts, folder: int) -> None:
        try:
            _sync(folder)
        except OSError:
            self._doubtful.add(path)
            raise

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


def _make(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, durably."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _open(path: Parts, flags: int, parent: int) -> int:
    """A descriptor of the regular file that a path ends at. Nothing else is opened for good, nor waited for."""
    try:
        descriptor = os.open(path[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise ForeignFile(f"{'/'.join(path)} is not a plain file.") from error
        raise
    if not S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ForeignFile(f"{'/'.join(path)} is not a plain file.")
    return descriptor


def _new(name: str, parent: int) -> int:
    """A descriptor of a new file, in the place of what a crash left, or of a pipe or a second name of another file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o666, dir_fd=parent)
    except FileExistsError:
        os.unlink(name, dir_fd=parent)
        return os.open(name, flags, 0o666, dir_fd=parent)


def _refuse_way_out(name: str) -> None:
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise UnsafePath(f"{name!r} is no name of a file.")


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NotDurable(error.errno, error.strerror) from error


def _change(folder: int) -> None:
    """Give a folder something to be made durable."""
    with suppress(FileExistsError):
        os.mkdir(_PASSING, dir_fd=folder)
    os.rmdir(_PASSING, dir_fd=folder)


def _fail(error: OSError) -> None:
    """What cannot be looked into must not pass for empty."""
    raise error


def _is_link(name: str, parent: int) -> bool:
    return S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
