"""Checkpoints as plain files below a root that this process alone owns."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from app import manifest as manifests
from app import naming
from app.domain import Checkpoint, Directory, File, Manifest, Upload
from app.errors import CatalogUnusable, ForeignFile, NameTaken, Refusal
from app.storage.base import Found, Opened, Partial
from app.storage.tree import Parts, Tree

logger = logging.getLogger("holdfast")

OWN = ".holdfast"
LAYOUT = 1
MANIFEST_MAX_BYTES = 256 * 1024 * 1024

INCOMING: Parts = (OWN, "incoming")
TRASH: Parts = (OWN, "trash")
SEAL = "manifest.json"


class LocalStorage:
    """The storage port on a local file system; see the port for what each method promises.

    ``<root>/<directory>/<name>`` is the checkpoint, ``<root>/<directory>/.holdfast/<name>.json`` its manifest,
    ``<root>/.holdfast/incoming/<upload>/files/<name>`` the same thing before it is published.
    """

    range_max_bytes = 64 * 1024 * 1024

    def __init__(self, root: Path, *, version: str) -> None:
        with ExitStack() as undo:
            try:
                self.tree = Tree(root)
            except OSError as error:
                raise CatalogUnusable(f"{root} cannot be the root: {error}") from error
            undo.callback(self.tree.close)
            self._lock = self._take_lock()
            undo.callback(os.close, self._lock)
            self.is_new = self._check_layout(version)
            for folder in (INCOMING, TRASH):
                with self.tree.folder(folder, create=True):
                    pass
            undo.pop_all()

    def close(self) -> None:
        os.close(self._lock)
        self.tree.close()

    def writable(self) -> bool:
        try:
            self.tree.write((OWN, "probe"), b"")
            self.tree.unlink((OWN, "probe"))
        except OSError:
            return False
        return True

    # uploads

    def begin(self, upload: Upload) -> None:
        for file in upload.files:
            path = _incoming(upload, file.path)
            with self.tree.folder(path[:-1], create=True, durable=False):
                os.close(self.tree.open(path, os.O_WRONLY | os.O_CREAT))

    @contextmanager
    def partial(self, upload: Upload, path: str) -> Iterator[Partial]:
        descriptor = self.tree.open(_incoming(upload, path), os.O_RDWR)
        try:
            yield _LocalPartial(descriptor)
        finally:
            os.close(descriptor)

    def settle(self, upload: Upload) -> Mapping[str, int]:
        self.tree.sync((*INCOMING, upload.id, "files"))
        times = {}
        for file in upload.files:
            found = self.tree.stat(_incoming(upload, file.path))
            if found is None:
                raise FileNotFoundError(file.path)
            times[file.path] = found.st_mtime_ns
        return times

    def discard(self, upload_id: str) -> None:
        self.tree.remove((*INCOMING, upload_id))

    def uploads(self) -> set[str]:
        return set(self.tree.names(INCOMING))

    # commit

    def obstacle(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        place = (*_parts(directory), name)
        if self.tree.stat(place) is None:
            return None
        ours = replaces is not None and self._standing(directory, name) == replaces.id
        if replaces is None or not ours or self.tree.is_folder(place) != replaces.is_folder:
            return f"{directory}/{name}"
        foreign = self._foreign_within(replaces)
        return f"{directory}/{name}/{'/'.join(foreign[0])}" if foreign else None

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        self.tree.sync_names(INCOMING)
        self.tree.write((*INCOMING, upload_id, SEAL), manifests.dump(manifest))

    def unseal(self, upload_id: str) -> None:
        self.tree.unlink((*INCOMING, upload_id, SEAL))

    def is_sealed(self, upload_id: str) -> bool:
        return self.tree.stat((*INCOMING, upload_id, SEAL)) is not None

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        seals = []
        for upload_id in self.tree.names(INCOMING):
            if not self.is_sealed(upload_id):
                continue
            try:
                seals.append((upload_id, manifests.load(self.tree.read((*INCOMING, upload_id, SEAL)))))
            except manifests.Unreadable as error:
                logger.error("the seal of upload %s is left alone: %s", upload_id, error)
        return sorted(seals, key=lambda seal: seal[1].checkpoint.sequence)

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        checkpoint = manifest.checkpoint
        if manifest.replaces is not None:
            self._set_aside(checkpoint.directory, checkpoint.name, manifest.replaces)
        self._move_in((*INCOMING, upload_id, "files", checkpoint.name), checkpoint)
        self.rewrite(manifest)

    def rewrite(self, manifest: Manifest) -> None:
        self.tree.write(_manifest_path(manifest.checkpoint), manifests.dump(manifest))

    # removal

    def withdraw(self, checkpoint: Checkpoint) -> None:
        standing = self._standing(checkpoint.directory, checkpoint.name)
        aside = (*TRASH, checkpoint.id)
        if standing == checkpoint.id:
            self.tree.move(_manifest_path(checkpoint), (*aside, SEAL))
        elif standing is not None or self.tree.stat((*aside, SEAL)) is None:
            return
        place, target = (*_parts(checkpoint.directory), checkpoint.name), (*aside, checkpoint.name)
        if self.tree.is_folder(place) != checkpoint.is_folder:
            return  # somebody put something else there
        if not self._foreign_within(checkpoint) and self.tree.stat(target) is None:
            self._move_if_free(place, target)
        elif checkpoint.is_folder:
            for file in checkpoint.files:
                parts = _parts(file.path)
                self._move_if_free((*place, *parts), (*target, *parts))
            self.tree.remove_empty(place)

    def free(self, checkpoint_id: str) -> None:
        self.tree.unlink((*TRASH, checkpoint_id, SEAL))
        self.tree.remove((*TRASH, checkpoint_id))

    def trash(self) -> set[str]:
        return set(self.tree.names(TRASH))

    # reading

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        return _LocalOpened(self.tree.open(_parts(checkpoint.stored_at(file)), os.O_RDONLY))

    # directories

    def make_directory(self, directory: Directory) -> None:
        try:
            with self.tree.folder((*_parts(directory.name), OWN), create=True):
                pass
        except ForeignFile as error:
            raise NameTaken(f"{directory.name} cannot be a directory: {error.detail}") from error

    def drop_directory(self, name: str) -> None:
        parts = (*_parts(name), OWN)
        with suppress(OSError):
            for length in range(len(parts), 0, -1):
                with self.tree.folder(parts[: length - 1]) as parent:
                    os.rmdir(parts[length - 1], dir_fd=parent)

    def write_directory(self, directory: Directory) -> None:
        self.tree.write((*_parts(directory.name), OWN, "directory.json"), manifests.dump_directory(directory))

    def survey(self) -> Iterator[Found]:
        for parts in self._directories(()):
            where = "/".join(parts)
            try:
                naming.directory_name(where)
            except Refusal as refusal:
                yield Found(where, fault=refusal.detail)
                continue
            for name in self.tree.names((*parts, OWN)):
                if name.endswith(".json") and not name.startswith("."):
                    yield self._read_found(parts, name)

    # below

    def _take_lock(self) -> int:
        self.tree.write((OWN, "about.txt"), b"Holdfast keeps its own records here. Do not change them by hand.\n")
        lock = os.open(self.tree.root / OWN / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise CatalogUnusable(
                f"{self.tree.root} is in use by another Holdfast process (process id {owner}). "
                "One process owns a root: stop that one first, or choose another root."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _check_layout(self, version: str) -> bool:
        path = (OWN, "format.json")
        if self.tree.stat(path) is None:
            self.tree.write(path, json.dumps({"format": LAYOUT, "written_by": version}).encode())
            return True
        try:
            found = json.loads(self.tree.read(path))["format"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CatalogUnusable(f"{self.tree.root / OWN / 'format.json'} cannot be read: {error!r}") from error
        if found != LAYOUT:
            raise CatalogUnusable(f"{self.tree.root} has layout {found!r}; this version of Holdfast reads {LAYOUT}.")
        return False

    def _standing(self, directory: str, name: str) -> str | None:
        """The id in the manifest that stands under a name. One that cannot be read is nobody's."""
        path = (*_parts(directory), OWN, f"{name}.json")
        if self.tree.stat(path) is None:
            return None
        try:
            return manifests.load(self.tree.read(path)).checkpoint.id
        except manifests.Unreadable:
            return ""

    def _foreign_within(self, checkpoint: Checkpoint) -> list[Parts]:
        place = (*_parts(checkpoint.directory), checkpoint.name)
        if not checkpoint.is_folder or not self.tree.is_folder(place):
            return []
        ours = {_parts(file.path) for file in checkpoint.files}
        return [path for path in self.tree.files(place) if path not in ours]

    def _set_aside(self, directory: str, name: str, old_id: str) -> None:
        """Move what is replaced to the trash: files first, so that its manifest marks what is still to do."""
        if self._standing(directory, name) != old_id:
            return
        self._move_if_free((*_parts(directory), name), (*TRASH, old_id, name))
        self.tree.move((*_parts(directory), OWN, f"{name}.json"), (*TRASH, old_id, SEAL))

    def _move_in(self, source: Parts, checkpoint: Checkpoint) -> None:
        place = (*_parts(checkpoint.directory), checkpoint.name)
        if self.tree.stat(source) is None:  # a crash came after the move
            if self.tree.stat(place) is None:
                raise FileNotFoundError(
                    f"The bytes of {'/'.join(place)} are neither in {'/'.join(source)} nor in place."
                )
            return
        try:
            if not checkpoint.is_folder:
                self.tree.move_file_to_free_name(source, place)
            elif self.tree.stat(place) is None:
                self.tree.move(source, place)
            else:
                raise FileExistsError
        except FileExistsError as error:
            raise ForeignFile(f"{'/'.join(place)} exists and was not written by this server.") from error

    def _move_if_free(self, source: Parts, target: Parts) -> None:
        """Move what is there, unless that was done before and something else has taken its place since."""
        if self.tree.stat(source) is not None and self.tree.stat(target) is None:
            self.tree.move(source, target)

    def _directories(self, parts: Parts) -> Iterator[Parts]:
        for name in self.tree.names(parts):
            if name == OWN or not self.tree.is_folder((*parts, name)):
                continue
            if self.tree.is_folder((*parts, name, OWN)):
                yield (*parts, name)
            yield from self._directories((*parts, name))

    def _read_found(self, parts: Parts, name: str) -> Found:
        where = "/".join((*parts, OWN, name))
        try:
            found = self.tree.stat((*parts, OWN, name))
            if found is None or found.st_size > MANIFEST_MAX_BYTES:
                return Found(where, fault="it is gone or too large to be a manifest")
            data = self.tree.read((*parts, OWN, name))
            if name == "directory.json":
                return Found(where, directory=manifests.load_directory(data))
            return self._checked(where, parts, name, manifests.load(data))
        except (manifests.Unreadable, Refusal, OSError) as error:
            return Found(where, fault=str(error))

    def _checked(self, where: str, parts: Parts, name: str, manifest: Manifest) -> Found:
        checkpoint = manifest.checkpoint
        if (checkpoint.directory, f"{checkpoint.name}.json") != ("/".join(parts), name):
            return Found(where, fault=f"it speaks of {checkpoint.directory}/{checkpoint.name}")
        for file in checkpoint.files:
            found = self.tree.stat(_parts(checkpoint.stored_at(file)))
            if found is None or found.st_size != file.size_bytes:
                state = "missing" if found is None else f"{found.st_size} bytes long instead of {file.size_bytes}"
                return Found(where, fault=f"{checkpoint.stored_at(file)} is {state}")
        return Found(where, manifest=manifest)


class _LocalOpened:
    def __init__(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._descriptor = descriptor
        self.size_bytes = found.st_size
        self.mtime_ns = found.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)


class _LocalPartial:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size


def _parts(path: str) -> Parts:
    return tuple(path.split("/"))


def _manifest_path(checkpoint: Checkpoint) -> Parts:
    return (*_parts(checkpoint.directory), OWN, f"{checkpoint.name}.json")


def _incoming(upload: Upload, path: str) -> Parts:
    inner = _parts(path) if upload.is_folder else ()
    return (*INCOMING, upload.id, "files", upload.name, *inner)
