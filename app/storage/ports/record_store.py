"""The port to manifests and directory records, which rebuild a lost catalog, and to the inventory of a store."""

from collections.abc import Iterator
from typing import Protocol

from app.core.models import Checkpoint, Directory, File, Manifest
from app.storage.ports.files import Opened
from app.storage.ports.values import Found, Item, RecordTimes


class Inventory(Protocol):
    """Everything that lies in a store, by key, for consistency checks and their repairs. Keys are opaque texts."""

    def inventory(self) -> Iterator[Item]:
        """Yield everything that lies in directories and beside them, foreign files included.

        A folder that cannot be listed comes a second time, with the reason.
        """

    def manifest_key(self, directory: str, name: str) -> str:
        """Return the key of the manifest of the checkpoint of a name."""

    def directory_key(self, name: str) -> str:
        """Return the key of a directory's own record."""

    def content_key(self, checkpoint: Checkpoint, file: File) -> str:
        """Return the key of a file of a checkpoint."""

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

    def read(self, directory: str, name: str | None) -> Found:
        """Read one manifest as a survey does; without a name, the directory's own record."""

    def times(self, skip: frozenset[str]) -> Iterator[RecordTimes]:
        """Yield the times of all records, by directory, without reading any; some keys need not be looked into."""

    def survey(self) -> Iterator[Found]:
        """Yield every directory record and every manifest, read and checked; a damaged one as a fault."""
