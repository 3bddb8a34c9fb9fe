"""Checkpoints as plain files below a root that this process alone owns."""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from app.core.errors import ForeignFile, NameTaken
from app.core.models import Checkpoint, Directory, File, Manifest, Mark, Upload
from app.storage import manifest as manifests
from app.storage.local import identity, layout, trash
from app.storage.local.adoption import LocalAdoption
from app.storage.local.durability import Durability
from app.storage.local.files import LocalOpened, LocalPartial
from app.storage.local.manifest_cache import Written
from app.storage.local.root import Root
from app.storage.local.survey import everything, found_at, survey
from app.storage.local.tree import Parts
from app.storage.port import Buffer, Found, Item, NotDurable, Opened, Partial, Records, Withdrawn

logger = logging.getLogger("holdfast")


class LocalStorage(Root):
    """The storage port on a local file system; see the port for what each method promises.

    ``<root>/<directory>/<name>`` is the checkpoint, ``<root>/<directory>/.holdfast/<name>.json`` its manifest,
    ``<root>/.holdfast/incoming/<upload>/files/<name>`` the same thing before it is published.
    """

    range_max_bytes = 64 * 1024 * 1024

    def __init__(self, root: Path, *, version: str, only_look: bool = False, must_exist: bool = False) -> None:
        super().__init__(root, version=version, only_look=only_look, must_exist=must_exist)
        self.adoption = LocalAdoption(self.tree)
        self._durability = Durability(self.tree)
        self._disbelieved: set[str] = set()
        self._renewing = threading.Lock()
        self._remains: set[str] = set()
        self._written = Written()

    # uploads

    def begin(self, upload: Upload) -> None:
        self._renew(upload)
        if self.tree.stat(layout.of_files(upload.id)) is None:
            self._durability.begin(upload.id)
            self._make_folder(upload.id)

    def _make_folder(self, upload_id: str) -> None:
        with self.tree.folder(layout.of_files(upload_id), create=True, durable=False):
            pass

    @contextmanager
    def partial(self, upload: Upload, path: str, *, create: bool = True) -> Iterator[Partial]:
        self._renew(upload)
        place = layout.of_upload(upload, path)
        if create:
            descriptor = self.tree.open_or_make(place, os.O_RDWR, below=layout.DEPTH_OF_FILES)
        else:
            descriptor = self.tree.open(place, os.O_RDWR)
        try:
            yield LocalPartial(descriptor)
        finally:
            os.close(descriptor)

    def write_files(self, upload: Upload, contents: Mapping[str, Buffer]) -> None:
        self._renew(upload)
        for folder, names in _by_folder(upload, contents).items():
            found = {name: contents[path] for name, path in names.items()}
            self.tree.fill_files(folder, found, below=layout.DEPTH_OF_FILES)

    def settle(self, upload: Upload) -> Mapping[str, int]:
        empty = [file.path for file in upload.files if not file.size_bytes]  # as far as anybody has said
        for folder, names in _by_folder(upload, empty).items():
            self.tree.make_files(folder, names, below=layout.DEPTH_OF_FILES)
        try:
            self._durability.sync(upload.id, len(upload.files))
        except NotDurable:
            self._disbelieved.add(upload.id)
            with suppress(OSError):  # or else whoever wants the files next does it first
                self._renew(upload)
            raise
        times: dict[str, int] = {}
        for folder, names in _by_folder(upload, [file.path for file in upload.files]).items():
            found = self.tree.stats(folder, names)
            times |= {path: found[name].st_mtime_ns for name, path in names.items()}
        return times

    def discard(self, upload_id: str) -> None:
        try:
            self.tree.remove((*layout.INCOMING, upload_id))
        except OSError:
            self._remains.add(upload_id)
            raise
        self._durability.end(upload_id)
        self._remains.discard(upload_id)
        self._disbelieved.discard(upload_id)

    def sweep(self) -> None:
        for upload_id in tuple(self._remains):
            try:
                self.discard(upload_id)
            except OSError:
                logger.exception("the remains of upload %s cannot be removed yet", upload_id)

    def uploads(self) -> set[str]:
        return set(self.tree.names(layout.INCOMING))

    # commit

    def obstacle(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        place = (*layout.parts(directory), name)
        if self.tree.stat(place) is None:
            return None
        ours = replaces is not None and self._standing(directory, name) == replaces.id
        if replaces is None or not ours or self.tree.is_folder(place) != replaces.is_folder:
            return f"{directory}/{name}"
        foreign = self._foreign_within(replaces)
        return f"{directory}/{name}/{'/'.join(foreign[0])}" if foreign else None

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        self.tree.make_up()
        self.tree.sync_names(layout.INCOMING)
        self.tree.write(layout.of_seal(upload_id), self._written.dumped(manifest))

    def unseal(self, upload_id: str) -> None:
        self.tree.unlink(layout.of_seal(upload_id))

    def is_sealed(self, upload_id: str) -> bool:
        return self.tree.stat(layout.of_seal(upload_id)) is not None

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        seals = []
        for upload_id in self.tree.names(layout.INCOMING):
            try:
                if self.is_sealed(upload_id):
                    seals.append((upload_id, manifests.load(self.tree.read(layout.of_seal(upload_id)))))
            except FileNotFoundError:  # for those who only look: the process that has the root went on meanwhile
                continue
            except (manifests.Unreadable, ForeignFile) as error:
                logger.error("the seal of upload %s is left alone: %s", upload_id, error)
        return sorted(seals, key=lambda seal: seal[1].checkpoint.sequence)

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        self.tree.make_up()
        checkpoint = manifest.checkpoint
        if manifest.replaces is not None:
            self._set_aside(checkpoint.directory, checkpoint.name, manifest.replaces)
        self._move_in((*layout.INCOMING, upload_id, "files", checkpoint.name), checkpoint)
        self.rewrite(manifest)

    def rewrite(self, manifest: Manifest) -> None:
        self.tree.make_up()
        checkpoint = manifest.checkpoint
        place = layout.of_manifest(checkpoint.directory, checkpoint.name)
        self.tree.write(place, self._written.dumped(manifest))
        self._written.forget(manifest)
        if (found := self.tree.stat(place)) is not None:
            self._written.stands(place, found, checkpoint.id)

    # removal

    def withdraw(self, checkpoint: Checkpoint, *, note: bool = False) -> None:
        self.tree.make_up()
        standing = self._standing(checkpoint.directory, checkpoint.name)
        aside = (*layout.TRASH, checkpoint.id)
        if standing == checkpoint.id:
            if note:
                trash.note(self.tree, checkpoint)
            self.tree.move(layout.of_manifest(checkpoint.directory, checkpoint.name), (*aside, layout.SEAL))
        elif standing is not None or self.tree.stat((*aside, layout.SEAL)) is None:
            return
        place, target = layout.of_checkpoint(checkpoint), (*aside, checkpoint.name)
        if self.tree.is_folder(place) != checkpoint.is_folder:
            return  # somebody put something else there
        if not self._foreign_within(checkpoint) and self.tree.stat(target) is None:
            self._move_if_free(place, target)
        elif checkpoint.is_folder:
            for file in checkpoint.files:
                parts = layout.parts(file.path)
                self._move_if_free((*place, *parts), (*target, *parts))
            self.tree.remove_empty(place)

    def is_in_trash(self, checkpoint: Checkpoint) -> bool:
        aside = (*layout.TRASH, checkpoint.id)
        if self.tree.stat((*aside, layout.SEAL)) is None:  # it went first
            return False
        for file in checkpoint.files:
            inner = layout.parts(file.path) if checkpoint.is_folder else ()
            found = self.tree.stat((*aside, checkpoint.name, *inner))
            if found is None or found.st_size != file.size_bytes:
                return False
        return True

    def restore(self, checkpoint: Checkpoint) -> None:
        self.tree.make_up()
        aside = (*layout.TRASH, checkpoint.id)
        if self.tree.stat(aside) is None:
            return
        self._bring_back(checkpoint)
        manifest = layout.of_manifest(checkpoint.directory, checkpoint.name)
        if self.tree.stat((*aside, layout.SEAL)) is not None and self.tree.stat(manifest) is None:
            self.tree.move((*aside, layout.SEAL), manifest)
        self.free(checkpoint.id)
        self.tree.sync_names(layout.TRASH)  # nobody looks there again for what is live

    def free(self, checkpoint_id: str) -> None:
        self.tree.make_up()
        self.tree.unlink((*layout.TRASH, checkpoint_id, layout.SEAL))
        self.tree.remove((*layout.TRASH, checkpoint_id))

    def trash(self) -> set[str]:
        return set(self.tree.names(layout.TRASH))

    def withdrawn(self) -> Iterator[Withdrawn]:
        for found in trash.withdrawn(self.tree):
            self.withdraw(found.manifest.checkpoint)  # a crash may have come between its manifest and its files
            if self.is_in_trash(found.manifest.checkpoint):
                yield found

    # reading

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        return LocalOpened(self.tree.open(layout.parts(checkpoint.stored_at(file)), os.O_RDONLY))

    # directories

    def make_directory(self, directory: Directory) -> None:
        self.tree.make_up()
        try:
            with self.tree.folder((*layout.parts(directory.name), layout.OWN), create=True):
                pass
        except ForeignFile as error:
            raise NameTaken(f"{directory.name} cannot be a directory: {error.detail}") from error

    def drop_directory(self, name: str) -> None:
        parts = (*layout.parts(name), layout.OWN)
        with suppress(OSError):
            for length in range(len(parts), 0, -1):
                with self.tree.folder(parts[: length - 1]) as parent:
                    os.rmdir(parts[length - 1], dir_fd=parent)

    def forget_directory(self, name: str) -> None:
        self.tree.unlink(layout.of_directory(name))
        self.drop_directory(name)

    def write_directory(self, directory: Directory) -> None:
        self.tree.make_up()
        self.tree.write(layout.of_directory(directory.name), manifests.dump_directory(directory))

    def mark(self) -> Mark | None:
        return identity.mark(self.tree)

    def put_mark(self, opened: Mark) -> None:
        identity.put_mark(self.tree, opened)

    def records(self, skip: frozenset[str]) -> Iterator[Records]:
        return identity.records(self.tree, skip=skip)

    def found(self, directory: str, name: str | None) -> Found:
        return found_at(self.tree, directory, name or "directory")

    def survey(self) -> Iterator[Found]:
        return survey(self.tree)

    # checks

    def everything(self) -> Iterator[Item]:
        return everything(self.tree)

    def place_of_manifest(self, directory: str, name: str) -> str:
        return "/".join(layout.of_manifest(directory, name))

    def place_of_directory(self, name: str) -> str:
        return "/".join(layout.of_directory(name))

    def is_record(self, path: str) -> bool:
        return path.split("/")[1:][-2:-1] == [layout.OWN]

    def is_temporary(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        return self.is_record(path) and name.startswith(".") and name.endswith(".json.new")

    def record(self, path: str) -> bytes:
        return self.tree.read(layout.parts(path))

    def put_back(self, path: str, place: str) -> None:
        self.tree.move_file_to_free_name(layout.parts(path), layout.parts(place))

    def drop(self, path: str) -> None:
        self.tree.unlink(layout.parts(path))

    # below

    def _renew(self, upload: Upload) -> None:
        """Remove the files of an upload whose bytes are not believed: new ones are made, as these pass for durable."""
        with self._renewing:
            if upload.id in self._disbelieved:
                self.tree.remove(layout.of_files(upload.id))
                self._make_folder(upload.id)
                self._disbelieved.discard(upload.id)

    def _bring_back(self, checkpoint: Checkpoint) -> None:
        aside, place = (*layout.TRASH, checkpoint.id, checkpoint.name), layout.of_checkpoint(checkpoint)
        if self.tree.stat(aside) is None:
            return
        try:
            if not checkpoint.is_folder:
                self.tree.move_file_to_free_name(aside, place)
            elif self.tree.stat(place) is None:
                self.tree.move(aside, place)
            else:
                for file in checkpoint.files:
                    parts = layout.parts(file.path)
                    if self.tree.stat((*aside, *parts)) is not None:
                        self.tree.move_file_to_free_name((*aside, *parts), (*place, *parts))
        except FileExistsError as error:
            raise ForeignFile(f"{'/'.join(place)} exists and was not written by this server.") from error

    def _standing(self, directory: str, name: str) -> str | None:
        """The id in the manifest that stands under a name. One that cannot be read is nobody's."""
        path = layout.of_manifest(directory, name)
        found = self.tree.stat(path)
        if found is None:
            return None
        standing = self._written.standing(path, found)
        if standing is None:
            try:
                standing = manifests.load(self.tree.read(path)).checkpoint.id
            except manifests.Unreadable:
                return ""
            self._written.stands(path, found, standing)
        return standing

    def _foreign_within(self, checkpoint: Checkpoint) -> list[Parts]:
        place = layout.of_checkpoint(checkpoint)
        if not checkpoint.is_folder or not self.tree.is_folder(place):
            return []
        ours = {layout.parts(file.path) for file in checkpoint.files}
        return [path for path in self.tree.files(place) if path not in ours]

    def _set_aside(self, directory: str, name: str, old_id: str) -> None:
        """Move what is replaced to the trash: files first, so that its manifest marks what is still to do."""
        if self._standing(directory, name) != old_id:
            return
        self._move_if_free((*layout.parts(directory), name), (*layout.TRASH, old_id, name))
        self.tree.move(layout.of_manifest(directory, name), (*layout.TRASH, old_id, layout.SEAL))

    def _move_in(self, source: Parts, checkpoint: Checkpoint) -> None:
        place = layout.of_checkpoint(checkpoint)
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


def _by_folder(upload: Upload, paths: Iterable[str]) -> dict[Parts, dict[str, str]]:
    """Some paths of an upload by the folder that they lie in, and there by the name of their file."""
    found: dict[Parts, dict[str, str]] = {}
    for path in paths:
        place = layout.of_upload(upload, path)
        found.setdefault(place[:-1], {})[place[-1]] = path
    return found
