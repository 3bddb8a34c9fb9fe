"""The port to manifests and directory records, which rebuild a lost catalog, and to the inventory of a store."""

from collections.abc import Iterator
from typing import Protocol

from app.core.models import Checkpoint, Directory, File, Manifest
from app.storage.ports.files import Opened
from app.storage.ports.values import InventoryEntry, RecordTimes, SurveyedRecord


class Inventory(Protocol):
    """Everything that lies in a store, by key, for consistency checks and their repairs.

    Keys are opaque texts: only the store that gave one takes it apart, and the operator reads it.
    """

    def inventory(self) -> Iterator[InventoryEntry]:
        """Yield everything that lies in directories and beside them, foreign files included.

        A folder that cannot be listed comes a second time, with the reason. A store without folders yields none.
        """

    def manifest_key(self, directory: str, name: str) -> str:
        """Return the key of the manifest of the checkpoint of a name."""

    def directory_key(self, name: str) -> str:
        """Return the key of a directory's own record."""

    def place_key(self, directory: str) -> str | None:
        """Return the key of a folder that the inventory lists while the place of a directory is there.

        If it is not listed, what the directory lacks may only be out of reach, as on a disk that is not mounted. None
        if the store has no such folder: then whatever the inventory does not list is gone.
        """

    def content_key(self, checkpoint: Checkpoint, file: File) -> str:
        """Return the key of a file of a checkpoint."""

    def is_below(self, key: str, folder: str) -> bool:
        """Return whether a key is that of a folder or of anything in it. `place_key` and `inventory` give folders."""

    def is_record(self, key: str) -> bool:
        """Return whether only a manifest or a directory record belongs under a key."""

    def is_temporary(self, key: str) -> bool:
        """Return whether a key is that of a record which is being written."""

    def read_record(self, key: str) -> bytes:
        """Read a manifest or a directory record as it is. `FileNotFoundError` if it is missing."""

    def open_item(self, key: str) -> Opened:
        """Open any file, foreign or not. `FileNotFoundError` if it is missing."""

    def put_back(self, key: str, to: str) -> None:
        """Give a file its former key. `FileExistsError` if another file has that key."""

    def drop(self, key: str) -> None:
        """Delete a file that this server left behind; nothing happens if it is missing."""


class RecordStore(Inventory, Protocol):
    """Manifests and directory records. A record is the old or the new one, never a mixture, also after a power cut.

    Every change is idempotent and durable on return.
    """

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest of a published checkpoint, whose facts have changed."""

    def make_directory(self, directory: Directory) -> None:
        """Make the place of a directory. `NameTaken` if a file stands in its way."""

    def drop_directory(self, name: str) -> None:
        """Undo `make_directory` as far as the place is empty."""

    def forget_directory(self, name: str) -> None:
        """Delete a directory's own record, and its place as far as nothing else lies there."""

    def write_directory(self, directory: Directory) -> None:
        """Write a directory's policy and counter beside its checkpoints."""

    def read(self, directory: str, name: str | None) -> SurveyedRecord:
        """Read one manifest as a survey does; without a name, the directory's own record."""

    def times(self, skip: frozenset[str]) -> Iterator[RecordTimes]:
        """Yield the times of all records, by directory, without reading any.

        ``skip`` are the checkpoints that are folders, each as ``directory/name``: none of them has records below it.
        """

    def survey(self) -> Iterator[SurveyedRecord]:
        """Yield every directory record and every manifest, read and checked.

        A record that is damaged is a fault; so is a manifest that is about another place, or whose files are missing or
        of another size.
        """
