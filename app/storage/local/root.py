"""A folder that this process alone owns: its lock, the version of its layout, and the space on its disk."""

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
from app.core.spans import Span
from app.storage.local import identity, layout, linux
from app.storage.local.tree import Tree

logger = logging.getLogger("holdfast")

BLOCK_BYTES = 4096
BALLAST_BYTES = 4 * 1024 * 1024
LEAST_BYTES = 1024 * 1024
"""With less the catalog can hardly be opened, and a removal could fail."""
LAYOUT = 2
"""What this version writes. Since 2 the trash may hold what somebody wants back, which older servers would delete."""
READABLE = (1, LAYOUT)
_CANNOT = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Root:
    """The root below which everything lies; see the storage port for what the public methods promise.

    Parameters
    ----------
    only_look : bool
        The root is not taken for this process, and nothing may be changed.
    must_exist : bool
        A folder that is no root is refused, rather than made one.

    Raises
    ------
    RootUnusable
        It cannot be used, another process has it, or its layout is not known.
    """

    shares_blocks = False

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
            self.is_new = self._is_new()  # asked before anything is written to a root that is not ours to touch
            if self.is_new and must_exist and not self._keeps_anything():
                raise RootMissing(f"There is no root at {root}: nothing there was written by Holdfast.")
            if not only_look:
                self._refuse_part_of_another()
                self._lock = self._take_lock()
                undo.callback(os.close, self._lock)
                self._prepare()
            undo.pop_all()

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self.tree.close()

    def upgrade(self) -> None:
        if self._layout() != LAYOUT:
            self.tree.write(layout.FORMAT, json.dumps({"format": LAYOUT, "written_by": self._version}).encode())

    def free_bytes(self) -> int:
        found = os.statvfs(self.tree.root)
        return found.f_bavail * found.f_frsize

    def capacity_bytes(self) -> int:
        found = os.statvfs(self.tree.root)
        return found.f_blocks * found.f_frsize

    def keep_ballast(self) -> None:
        if self.tree.stat(layout.BALLAST) is not None or self.free_bytes() < 8 * BALLAST_BYTES:
            return
        descriptor = self.tree.open(layout.BALLAST, os.O_WRONLY | os.O_CREAT)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        except OSError:
            self.tree.unlink(layout.BALLAST)
        finally:
            os.close(descriptor)

    def drop_ballast(self) -> bool:
        if self.free_bytes() >= LEAST_BYTES or self.tree.stat(layout.BALLAST) is None:
            return False
        self.tree.unlink(layout.BALLAST)
        return True

    @property
    def is_protected(self) -> bool:
        return self.tree.stat(layout.PROTECTED) is not None

    def protect(self) -> None:
        if not self.is_protected:
            self.tree.write(layout.PROTECTED, b"While this file is here, the server needs tokens.\n")

    @property
    def revoked(self) -> frozenset[str]:
        try:
            return frozenset(self.tree.read(layout.REVOKED).decode(errors="replace").split())
        except FileNotFoundError:
            return frozenset()

    def revoke(self, token_id: str) -> None:
        if token_id not in (known := self.revoked):
            self.tree.write(layout.REVOKED, "".join(f"{id_}\n" for id_ in sorted(known | {token_id})).encode())

    def writable(self) -> bool:
        with self._guard:
            under_way = self._probing  # anyone may ask, and disks may be slow: one try is for all who ask meanwhile
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
        self.is_new = self.is_new and self._layout() is None  # somebody may have made it before it was locked
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
        self.drop_ballast()
        self._refuse_without_free_names()
        with suppress(OSError):  # a full disk is no reason not to start
            self.shares_blocks = self._can_share()
            self.keep_ballast()

    def _is_new(self) -> bool:
        """Whether nothing here was ever written by Holdfast: the loss of its format alone makes no root new."""
        return self._layout() is None and not identity.holds_records(self.tree)

    def _refuse_part_of_another(self) -> None:
        """A folder that holds a root, or lies in one, is a root only if it says so: else it was named by mistake."""
        if self._layout() is None and not self._keeps_anything() and (other := identity.other_root(self.tree)):
            raise RootUnusable(
                f"{self.tree.root} is no root, but {other} is one: name that one with --root, or another folder."
            )

    def _keeps_anything(self) -> bool:
        """Whether there is at least a catalog, or what else a root alone keeps."""
        return not layout.OF_ROOTS_ALONE.isdisjoint(self.tree.names((layout.OWN,)))

    def _probe(self) -> bool:
        probe = (layout.OWN, "probe")
        try:
            self.tree.write(probe, b"")
            self.tree.unlink(probe)
        except OSError:
            return False
        return True

    def _take_lock(self) -> int:
        if self.tree.stat(layout.ABOUT) is None:
            self.tree.write(layout.ABOUT, b"Holdfast keeps its own records here. Do not change them by hand.\n")
        lock = os.open(
            self.tree.root / layout.OWN / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with suppress(OSError):
            os.fchmod(lock, 0o600)  # whoever can open it, if only to read, could keep the server from starting
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
        """The layout of the root; None for a new one. `RootUnusable` where this version does not know it."""
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
        """No file of others is ever replaced: for that, a file must get a name only where that is free."""
        first, second = (layout.OWN, "probe-1"), (layout.OWN, "probe-2")
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

    def _can_share(self) -> bool:
        """Whether two files can consist of the same blocks here, tried with two small ones."""
        first, second = (layout.OWN, "probe-1"), (layout.OWN, "probe-2")
        span = Span(0, BLOCK_BYTES)
        with ExitStack() as undo:
            for path in (first, second):
                self.tree.write(path, bytes(BLOCK_BYTES))
                undo.callback(self.tree.unlink, path)
            descriptors = [self.tree.open(path, os.O_RDWR) for path in (first, second)]
            for descriptor in descriptors:
                undo.callback(os.close, descriptor)
            return linux.share(descriptors[0], 0, descriptors[1], span)
