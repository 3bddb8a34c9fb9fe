"""A tree of files below one root: reached without following links, changed so that changes survive a power cut."""

import errno
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from app.core.errors import ForeignFile
from app.storage.local.disk import descriptors, linux
from app.storage.local.disk.descriptors import Parts
from app.storage.ports import Buffer

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
"""Errors of file systems that give a file one name only, as exFAT and some of FUSE, or this file no further one."""


class Tree:
    """A folder with everything below it; paths are tuples of names, and each name is opened relative to its parent."""

    def __init__(self, root: Path) -> None:
        descriptors.make_root(root)
        self.root = root.resolve()
        self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._unsynced: set[Parts] = set()
        self._making_up = threading.Lock()

    def close(self) -> None:
        os.close(self._descriptor)

    def retry_failed_syncs(self) -> None:
        """Sync the names in every folder for which that has failed before.

        Callers that build on earlier changes call this first: when a step is repeated that failed at its last moment,
        it looks as if it had succeeded. Each such folder is changed first, as otherwise the sync has nothing to write.
        """
        with self._making_up:  # also if the set looks empty: another thread may have just popped a folder
            while self._unsynced:
                path = self._unsynced.pop()
                try:
                    with self.folder(path) as folder:
                        descriptors.change(folder)
                        os.fsync(folder)
                except (FileNotFoundError, ForeignFile):
                    continue  # the folder is gone, and its names with it
                except OSError:
                    self._unsynced.add(path)
                    raise

    @contextmanager
    def folder(self, path: Parts, *, create: bool = False, durable: bool = True, below: int = 0) -> Iterator[int]:
        """Open a folder below the root; with ``create``, missing folders are made, durably unless stated otherwise.

        Every other method comes through here. The first ``below`` folders on the way are never made.

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
                descriptors.refuse_way_out(name)
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
        """Open a regular file; the caller closes the descriptor."""
        with self._parent(path) as parent:
            return descriptors.open_file(path, flags, parent)

    def stat(self, path: Parts) -> os.stat_result | None:
        """Return the status of a path, links not followed; None if nothing is there."""
        try:
            with self._parent(path) as parent:
                return os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def stats(self, path: Parts, names: Iterable[str]) -> dict[str, os.stat_result]:
        """Return the status of names in a folder, links not followed. `FileNotFoundError` if one is missing."""
        with self.folder(path) as folder:
            return {name: os.stat(name, dir_fd=folder, follow_symlinks=False) for name in names}

    def open_or_make(self, path: Parts, flags: int, *, below: int) -> int:
        """Open a file as `open` does; create a missing one, and folders beyond the first ``below``, not durably."""
        with self.folder(path[:-1], create=True, durable=False, below=below) as parent:
            descriptors.refuse_way_out(path[-1])
            return descriptors.open_file(path, flags | os.O_CREAT, parent)

    def make_files(self, path: Parts, names: Iterable[str], *, below: int) -> None:
        """Create the missing ones of some files in a folder, empty and not durably. For ``below``, see `folder`."""
        with self.folder(path, create=True, durable=False, below=below) as folder:
            for name in names:
                descriptors.refuse_way_out(name)
                os.close(descriptors.open_file((*path, name), os.O_WRONLY | os.O_CREAT, folder))

    def fill_files(self, path: Parts, contents: Mapping[str, Buffer], *, below: int) -> None:
        """Write whole files into a folder; missing files and folders are created, not durably.

        For ``below``, see `folder`.
        """
        with self.folder(path, create=True, durable=False, below=below) as folder:
            for name, data in contents.items():
                descriptors.refuse_way_out(name)
                file = descriptors.open_file((*path, name), os.O_WRONLY | os.O_CREAT, folder)
                try:
                    descriptors.write_whole(file, data)
                finally:
                    os.close(file)

    def fill_files_durably(
        self, path: Parts, contents: Mapping[str, Buffer], *, below: int
    ) -> dict[str, os.stat_result]:
        """Write whole new files into a folder, durable except their names; return their status.

        For ``below``, see `folder`.

        Raises
        ------
        NotDurable
            The disk failed.
        """
        found = {}
        with self.folder(path, create=True, durable=False, below=below) as folder:
            for name, data in contents.items():
                descriptors.refuse_way_out(name)
                file = descriptors.new_file(name, folder)
                try:
                    descriptors.write_whole(file, data)
                    descriptors.sync(file)
                    found[name] = os.fstat(file)
                finally:
                    os.close(file)
        return found

    def sync_folders(self, path: Parts) -> None:
        """Make the names in a folder and in those below it durable, not the files."""
        with self.folder(path) as folder:
            for _, _, _, descriptor in os.fwalk(".", topdown=False, onerror=descriptors.fail, dir_fd=folder):
                descriptors.sync(descriptor)

    @property
    def tells_of_lost_writes(self) -> bool:
        """Return whether `sync_file_system` reports bytes that could not be written."""
        return linux.tells_of_lost_writes(self._descriptor)

    def sync_file_system(self) -> None:
        """Make everything written to this file system durable. `OSError` once for each loss since the last call."""
        linux.sync_file_system(self._descriptor)

    def names(self, path: Parts) -> list[str]:
        """Return the sorted names in a folder; none if the folder is missing."""
        try:
            with self.folder(path) as folder:
                return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def folders(self, path: Parts) -> list[str]:
        """Return the sorted names of the folders in a folder, links not followed; none if the folder is missing."""
        try:
            with self.folder(path) as folder, os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def read(self, path: Parts) -> bytes:
        """Read a small file."""
        with os.fdopen(self.open(path, os.O_RDONLY), "rb") as file:
            return file.read()

    def write(self, path: Parts, data: bytes) -> None:
        """Replace a small file atomically and durably."""
        temporary = f".{path[-1]}.new"
        with self._parent(path, create=True) as parent:
            try:
                with os.fdopen(descriptors.new_file(temporary, parent), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            self._sync_names(path[:-1], parent)

    def move(self, source: Parts, target: Parts, *, arrives_durably: bool = True) -> None:
        """Rename a file or a folder; the target's folder is made if it is missing.

        That it has left its place is durable on return, and by default that it has arrived.
        """
        with (
            self._parent(source) as old,
            self._parent(target, create=True, durable=arrives_durably) as new,
        ):
            os.rename(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
            try:
                if arrives_durably:
                    self._sync_names(target[:-1], new)
            finally:
                self._sync_names(source[:-1], old)

    def move_file_to_free_name(self, source: Parts, target: Parts) -> None:
        """Rename a file if the target's name is free; the new name is durable on return.

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
            os.unlink(source[-1], dir_fd=old)  # if this is lost, the file has two names, which a retry repairs

    def give_second_name(self, source: Parts, target: Parts) -> bool:
        """Give a file a second name, durably, in place of the file that has it.

        Returns False if the file is gone, or can have no second name.
        """
        temporary = f".{target[-1]}.new"
        with ExitStack() as stack:
            try:
                old = stack.enter_context(self._parent(source))
                new = stack.enter_context(self._parent(target, create=True))
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=new)
                os.link(source[-1], temporary, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return False
            os.rename(temporary, target[-1], src_dir_fd=new, dst_dir_fd=new)
            with suppress(FileNotFoundError):  # a rename between two names of one file does nothing
                os.unlink(temporary, dir_fd=new)
            self._sync_names(target[:-1], new)
            return True

    def unlink(self, path: Parts) -> None:
        """Remove a file, durably; does nothing if it is missing."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            os.unlink(path[-1], dir_fd=parent)
            self._sync_names(path[:-1], parent)

    def remove(self, path: Parts) -> None:
        """Remove a folder and everything below it, not durably; does nothing if it is missing."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            shutil.rmtree(path[-1], dir_fd=parent)

    def drop_file(self, path: Parts, *, within: int) -> None:
        """Remove a file, not durably, and the folders that it leaves empty, except the first ``within`` ones."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            os.unlink(path[-1], dir_fd=parent)
        for end in range(len(path) - 1, within, -1):
            try:
                with self._parent(path[:end]) as parent:
                    os.rmdir(path[end - 1], dir_fd=parent)
            except FileNotFoundError:
                continue
            except OSError:  # it holds something
                return

    def rename_file(self, source: Parts, target: Parts, *, below: int) -> None:
        """Rename a file, not durably; does nothing if it is missing. For ``below``, see `folder`."""
        descriptors.refuse_way_out(target[-1])
        with (
            suppress(FileNotFoundError),
            self._parent(source) as old,
            self.folder(target[:-1], create=True, durable=False, below=below) as new,
        ):
            os.rename(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)

    def remove_empty(self, path: Parts) -> None:
        """Remove a folder and those below it, as far as they are empty."""
        with suppress(FileNotFoundError), self._parent(path) as parent:
            for _, folders, _, descriptor in os.fwalk(path[-1], topdown=False, dir_fd=parent):
                for name in folders:
                    with suppress(OSError):
                        os.rmdir(name, dir_fd=descriptor)
            with suppress(OSError):
                os.rmdir(path[-1], dir_fd=parent)

    def files(self, path: Parts) -> list[Parts]:
        """Return everything below a folder that is no folder, as paths relative to it."""
        with self.folder(path) as folder:
            found = []
            for where, folders, names, descriptor in os.fwalk(".", onerror=descriptors.fail, dir_fd=folder):
                parts = tuple(part for part in where.split("/") if part != ".")
                links = [name for name in folders if descriptors.is_link(name, descriptor)]
                found += [(*parts, name) for name in (*names, *links)]
            return found

    def sync(self, path: Parts) -> None:
        """Make everything below a folder durable: files, then the folders that name them.

        Raises
        ------
        NotDurable
            The disk failed, and a retry proves nothing: the bytes may be lost although they can be read.
        ForeignFile
            Something in it is neither a file nor a folder.
        """
        with self.folder(path) as folder:
            for where, _, names, descriptor in os.fwalk(".", topdown=False, onerror=descriptors.fail, dir_fd=folder):
                for name in names:
                    file = descriptors.open_file((*path, *where.split("/")[1:], name), os.O_RDONLY, descriptor)
                    try:
                        descriptors.sync(file)
                    finally:
                        os.close(file)
                descriptors.sync(descriptor)

    def sync_names(self, path: Parts, *, anew: bool = False) -> None:
        """Make the names in a folder durable, not the files; with ``anew``, also if another process failed to.

        For that the folder is changed first, as otherwise the sync has nothing to write.
        """
        with self.folder(path) as folder:
            if anew:
                descriptors.change(folder)
            self._sync_names(path, folder)

    def is_folder(self, path: Parts) -> bool:
        """Return whether a folder lies at a path, links not followed."""
        found = self.stat(path)
        return found is not None and S_ISDIR(found.st_mode)

    def _sync_names(self, path: Parts, folder: int) -> None:
        try:
            descriptors.sync(folder)
        except OSError:
            self._unsynced.add(path)
            raise

    @contextmanager
    def _parent(self, path: Parts, *, create: bool = False, durable: bool = True) -> Iterator[int]:
        """Open the folder that a path ends in; for the parameters see `folder`."""
        descriptors.refuse_way_out(path[-1])
        with self.folder(path[:-1], create=create, durable=durable) as parent:
            yield parent

    def _enter(self, name: str, parent: int, path: Parts) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise ForeignFile(f"{name!r} on the way to {'/'.join(path)} is a file or a link.") from error
            raise
