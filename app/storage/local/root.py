"""A folder that this process alone owns: its lock, the version of its layout, and whether it can be a root at all."""

import errno
import fcntl
import json
import logging
import os
import threading
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path

from app.core.errors import RootLocked, RootMissing, RootUnusable
from app.storage.local import layout
from app.storage.local.disk.tree import Tree
from app.storage.local.survey import survey
from app.storage.local.volume import LocalVolume

logger = logging.getLogger("holdfast")

LAYOUT = 2
"""The layout that this version writes. Since 2 the trash may hold checkpoints to restore; older servers delete them."""
READABLE = (1, LAYOUT)
_CANNOT = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Root:
    """The folder below which everything lies, taken for this process.

    Parameters
    ----------
    only_look : bool
        The root is not taken for this process, and nothing can be changed.
    must_exist : bool
        A folder that is no root is refused, instead of made one.

    Raises
    ------
    RootUnusable
        It cannot be used, another process has it, or its layout is unknown.
    """

    def __init__(self, root: Path, *, version: str, only_look: bool = False, must_exist: bool = False) -> None:
        self._version = version
        self._guard = threading.Lock()
        self._probing: Future[bool] | None = None
        self._lock: int | None = None
        with ExitStack() as undo:
            try:
                self.tree = Tree(root)
            except OSError as error:
                raise RootUnusable(f"{root} cannot be the root: {error}") from error
            undo.callback(self.tree.close)
            self.volume = LocalVolume(self.tree)
            self.is_new = self._is_new()  # before anything is written to a root of another process
            if self.is_new and must_exist and not self._keeps_anything():
                raise RootMissing(f"There is no root at {root}: nothing there was written by Holdfast.")
            if not only_look:
                self._refuse_part_of_another()
                self._lock = self._take_lock()
                undo.callback(os.close, self._lock)
                self._prepare()
            undo.pop_all()

    def close(self) -> None:
        """Release the root's lock and close its descriptors."""
        if self._lock is not None:
            os.close(self._lock)
        self.tree.close()

    def upgrade(self) -> None:
        """Record that the root has this version's layout."""
        if self._layout() != LAYOUT:
            self.tree.write(layout.FORMAT, json.dumps({"format": LAYOUT, "written_by": self._version}).encode())

    def is_writable(self) -> bool:
        """Return whether a file can be written; concurrent callers share one attempt, as the disk may be slow."""
        with self._guard:
            under_way = self._probing
            found = self._probing = under_way or Future()
        if under_way is None:
            try:
                found.set_result(self._probe())
            except BaseException as error:
                found.set_exception(error)
            self._probing = None
        return found.result()

    # below

    def _prepare(self) -> None:
        self.is_new = self.is_new and self._layout() is None  # another process may have made it before the lock
        if self.is_new and (others := [name for name in os.listdir(self.tree.root) if name != layout.OWN]):
            logger.warning(
                "%s becomes a root; what lies there (%d, as %r) stays as it is, and `adopt` takes in checkpoints of it",
                *(self.tree.root, len(others), min(others)),
            )
        if self._layout() is None:
            self.upgrade()
        for folder in (layout.INCOMING, layout.TRASH):
            with self.tree.folder(folder, create=True):
                pass
        self.volume.drop_reserve_file()
        self._refuse_without_free_names()
        with suppress(OSError):  # the server starts on a full disk too
            self.volume.probe_sharing()
            self.volume.keep_reserve_file()

    def _is_new(self) -> bool:
        """Return whether Holdfast never wrote anything here: a root that lost only its format is not new."""
        return self._layout() is None and not _holds_records(self.tree)

    def _refuse_part_of_another(self) -> None:
        """Refuse a folder that holds a root or lies in one, unless it has a layout: it was named by mistake."""
        if self._layout() is None and not self._keeps_anything() and (other := _other_root(self.tree)):
            raise RootUnusable(
                f"{self.tree.root} is no root, but {other} is one: name that one with --root, or another folder."
            )

    def _keeps_anything(self) -> bool:
        """Return whether at least a catalog is here, or another file that only a root has."""
        return not layout.OF_ROOTS_ALONE.isdisjoint(self.tree.names((layout.OWN,)))

    def _probe(self) -> bool:
        try:
            self.tree.write(layout.PROBE, b"")
            self.tree.unlink(layout.PROBE)
        except OSError:
            return False
        return True

    def _take_lock(self) -> int:
        if self.tree.stat(layout.ABOUT) is None:
            self.tree.write(layout.ABOUT, b"Holdfast keeps its own records here. Do not change them by hand.\n")
        lock = os.open(
            self.tree.root.joinpath(*layout.LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with suppress(OSError):
            os.fchmod(
                lock, 0o600
            )  # any process that can open it, even to read, could lock it and keep the server from starting
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise RootLocked(
                f"{self.tree.root} is in use by another Holdfast process (process id {owner}). "
                "One process owns a root: stop that one first, or choose another root."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _layout(self) -> int | None:
        """Return the layout of the root; None for a new one. `RootUnusable` if this version does not know it."""
        if self.tree.stat(layout.FORMAT) is None:
            return None
        try:
            said = json.loads(self.tree.read(layout.FORMAT))
            found, writer = said["format"], said.get("written_by", "unknown")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RootUnusable(f"{'/'.join(layout.FORMAT)} cannot be read: {error!r}") from error
        if type(found) is not int or found not in READABLE:
            raise RootUnusable(
                f"{self.tree.root} has layout {found!r}, written by version {writer}; this version of Holdfast knows "
                f"layouts up to {LAYOUT}. Use that version, or a newer one."
            )
        return found

    def _refuse_without_free_names(self) -> None:
        """Refuse a file system that cannot rename a file only if the name is free: a foreign file would be replaced."""
        first, second = layout.PROBES
        try:
            self.tree.write(first, b"")
            self.tree.unlink(second)
            self.tree.move_file_to_free_name(first, second)
        except OSError as error:
            if error.errno in _CANNOT:
                raise RootUnusable(
                    f"The file system of {self.tree.root} can neither give a file a second name nor rename it without "
                    f"replacing another ({error.strerror}): choose a root on another one, such as ext4 or XFS."
                ) from error
        finally:
            with suppress(OSError):
                self.tree.unlink(first)
                self.tree.unlink(second)


def is_root(folder: Path) -> bool:
    """Return whether a folder has the record of its layout, as every root does; a start restores a lost one."""
    return folder.joinpath(*layout.FORMAT).is_file()


def _holds_records(tree: Tree) -> bool:
    """Return whether any record of Holdfast lies below a root, although the root itself has no layout."""
    if any(tree.names(folder) for folder in (layout.INCOMING, layout.TRASH)):
        return True
    return any(found.manifest or found.directory for found in survey(tree))


def _other_root(tree: Tree) -> str | None:
    """Return another root that holds this folder or lies in it; None if there is none."""
    for parent in tree.root.parents:
        if is_root(parent):
            return str(parent)
    for folder, names, _ in os.walk(tree.root):
        if Path(folder) != tree.root and layout.OWN in names and is_root(Path(folder)):
            return folder
    return None
