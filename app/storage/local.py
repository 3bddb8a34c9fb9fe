"""Checkpoints as plain files below a root that this process alone owns."""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from app import manifest as manifests
from app.domain import Checkpoint, Directory, File, Manifest, Upload
from app.errors import CatalogUnusable, ForeignFile, NameTaken
from app.storage import places
from app.storage.base import Found, Opened, Partial
from app.storage.files import LocalOpened, LocalPartial
from app.storage.survey import survey
from app.storage.tree import Parts, Tree

logger = logging.getLogger("holdfast")

LAYOUT = 1


class LocalStorage:
    """The storage port on a local file system; see the port for what each method promises.

    ``<root>/<directory>/<name>`` is the checkpoint, ``<root>/<directory>/.holdfast/<name>.json`` its manifest,
    ``<root>/.holdfast/incoming/<upload>/files/<name>`` the same thing before it is published.
    """

    range_max_bytes = 64 * 1024 * 1024

    def __init__(self, root: Path, *, version: str) -> None:
        self._probing = threading.Lock()
        with ExitStack() as undo:
            try:
                self.tree = Tree(root)
            except OSError as error:
                raise CatalogUnusable(f"{root} cannot be the root: {error}") from error
            undo.callback(self.tree.close)
            self._lock = self._take_lock()
            undo.callback(os.close, self._lock)
            self.is_new = self._check_layout(version)
            for folder in (places.INCOMING, places.TRASH):
                with self.tree.folder(folder, create=True):
                    pass
            undo.pop_all()

    def close(self) -> None:
        os.close(self._lock)
        self.tree.close()

    def writable(self) -> bool:
        probe = (places.OWN, "probe")
        with self._probing:
            try:
                self.tree.write(probe, b"")
                self.tree.unlink(probe)
            except OSError:
                return False
            return True

    # uploads

    def begin(self, upload: Upload) -> None:
        for file in upload.files:
            path = places.of_upload(upload, file.path)
            with self.tree.folder(path[:-1], create=True, durable=False):
                os.close(self.tree.open(path, os.O_WRONLY | os.O_CREAT))

    @contextmanager
    def partial(self, upload: Upload, path: str) -> Iterator[Partial]:
        descriptor = self.tree.open(places.of_upload(upload, path), os.O_RDWR)
        try:
            yield LocalPartial(descriptor)
        finally:
            os.close(descriptor)

    def settle(self, upload: Upload) -> Mapping[str, int]:
        self.tree.sync((*places.INCOMING, upload.id, "files"))
        times = {}
        for file in upload.files:
            found = self.tree.stat(places.of_upload(upload, file.path))
            if found is None:
                raise FileNotFoundError(file.path)
            times[file.path] = found.st_mtime_ns
        return times

    def discard(self, upload_id: str) -> None:
        self.tree.remove((*places.INCOMING, upload_id))

    def uploads(self) -> set[str]:
        return set(self.tree.names(places.INCOMING))

    # commit

    def obstacle(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        place = (*places.parts(directory), name)
        if self.tree.stat(place) is None:
            return None
        ours = replaces is not None and self._standing(directory, name) == replaces.id
        if replaces is None or not ours or self.tree.is_folder(place) != replaces.is_folder:
            return f"{directory}/{name}"
        foreign = self._foreign_within(replaces)
        return f"{directory}/{name}/{'/'.join(foreign[0])}" if foreign else None

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        self.tree.sync_names(places.INCOMING)
        self.tree.write(places.of_seal(upload_id), manifests.dump(manifest))

    def unseal(self, upload_id: str) -> None:
        self.tree.unlink(places.of_seal(upload_id))

    def is_sealed(self, upload_id: str) -> bool:
        return self.tree.stat(places.of_seal(upload_id)) is not None

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        seals = []
        for upload_id in self.tree.names(places.INCOMING):
            if not self.is_sealed(upload_id):
                continue
            try:
                seals.append((upload_id, manifests.load(self.tree.read(places.of_seal(upload_id)))))
            except manifests.Unreadable as error:
                logger.error("the seal of upload %s is left alone: %s", upload_id, error)
        return sorted(seals, key=lambda seal: seal[1].checkpoint.sequence)

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        checkpoint = manifest.checkpoint
        if manifest.replaces is not None:
            self._set_aside(checkpoint.directory, checkpoint.name, manifest.replaces)
        self._move_in((*places.INCOMING, upload_id, "files", checkpoint.name), checkpoint)
        self.rewrite(manifest)

    def rewrite(self, manifest: Manifest) -> None:
        self.tree.write(
            places.of_manifest(manifest.checkpoint.directory, manifest.checkpoint.name), manifests.dump(manifest)
        )

    # removal

    def withdraw(self, checkpoint: Checkpoint) -> None:
        standing = self._standing(checkpoint.directory, checkpoint.name)
        aside = (*places.TRASH, checkpoint.id)
        if standing == checkpoint.id:
            self.tree.move(places.of_manifest(checkpoint.directory, checkpoint.name), (*aside, places.SEAL))
        elif standing is not None or self.tree.stat((*aside, places.SEAL)) is None:
            return
        place, target = places.of_checkpoint(checkpoint), (*aside, checkpoint.name)
        if self.tree.is_folder(place) != checkpoint.is_folder:
            return  # somebody put something else there
        if not self._foreign_within(checkpoint) and self.tree.stat(target) is None:
            self._move_if_free(place, target)
        elif checkpoint.is_folder:
            for file in checkpoint.files:
                parts = places.parts(file.path)
                self._move_if_free((*place, *parts), (*target, *parts))
            self.tree.remove_empty(place)

    def free(self, checkpoint_id: str) -> None:
        self.tree.unlink((*places.TRASH, checkpoint_id, places.SEAL))
        self.tree.remove((*places.TRASH, checkpoint_id))

    def trash(self) -> set[str]:
        return set(self.tree.names(places.TRASH))

    # reading

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        return LocalOpened(self.tree.open(places.parts(checkpoint.stored_at(file)), os.O_RDONLY))

    # directories

    def make_directory(self, directory: Directory) -> None:
        try:
            with self.tree.folder((*places.parts(directory.name), places.OWN), create=True):
                pass
        except ForeignFile as error:
            raise NameTaken(f"{directory.name} cannot be a directory: {error.detail}") from error

    def drop_directory(self, name: str) -> None:
        parts = (*places.parts(name), places.OWN)
        with suppress(OSError):
            for length in range(len(parts), 0, -1):
                with self.tree.folder(parts[: length - 1]) as parent:
                    os.rmdir(parts[length - 1], dir_fd=parent)

    def write_directory(self, directory: Directory) -> None:
        self.tree.write(places.of_directory(directory.name), manifests.dump_directory(directory))

    def survey(self) -> Iterator[Found]:
        return survey(self.tree)

    # below

    def _take_lock(self) -> int:
        self.tree.write(
            (places.OWN, "about.txt"), b"Holdfast keeps its own records here. Do not change them by hand.\n"
        )
        lock = os.open(
            self.tree.root / places.OWN / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )
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
        if self.tree.stat(places.FORMAT) is None:
            self.tree.write(places.FORMAT, json.dumps({"format": LAYOUT, "written_by": version}).encode())
            return True
        try:
            found = json.loads(self.tree.read(places.FORMAT))["format"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CatalogUnusable(f"{'/'.join(places.FORMAT)} cannot be read: {error!r}") from error
        if found != LAYOUT:
            raise CatalogUnusable(f"{self.tree.root} has layout {found!r}; this version of Holdfast reads {LAYOUT}.")
        return False

    def _standing(self, directory: str, name: str) -> str | None:
        """The id in the manifest that stands under a name. One that cannot be read is nobody's."""
        path = places.of_manifest(directory, name)
        if self.tree.stat(path) is None:
            return None
        try:
            return manifests.load(self.tree.read(path)).checkpoint.id
        except manifests.Unreadable:
            return ""

    def _foreign_within(self, checkpoint: Checkpoint) -> list[Parts]:
        place = places.of_checkpoint(checkpoint)
        if not checkpoint.is_folder or not self.tree.is_folder(place):
            return []
        ours = {places.parts(file.path) for file in checkpoint.files}
        return [path for path in self.tree.files(place) if path not in ours]

    def _set_aside(self, directory: str, name: str, old_id: str) -> None:
        """Move what is replaced to the trash: files first, so that its manifest marks what is still to do."""
        if self._standing(directory, name) != old_id:
            return
        self._move_if_free((*places.parts(directory), name), (*places.TRASH, old_id, name))
        self.tree.move(places.of_manifest(directory, name), (*places.TRASH, old_id, places.SEAL))

    def _move_in(self, source: Parts, checkpoint: Checkpoint) -> None:
        place = places.of_checkpoint(checkpoint)
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
