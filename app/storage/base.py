"""The port to where bytes live. What implements it never sees the catalog, and nobody else sees its disk."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.domain import Checkpoint, Directory, File, Manifest, Upload
from app.spans import Span


@dataclass(frozen=True, slots=True)
class Found:
    """What a survey of the files found: a directory, a manifest, or a fault in words."""

    where: str
    directory: Directory | None = None
    manifest: Manifest | None = None
    fault: str | None = None


class Opened(Protocol):
    """A file held open for reading: it can be read to its end even when the checkpoint is removed meanwhile."""

    @property
    def size_bytes(self) -> int:
        """How long the file is."""

    @property
    def mtime_ns(self) -> int:
        """When the file was last changed, in ns since the epoch."""

    @property
    def descriptor(self) -> int:
        """The descriptor of the open file."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; fewer than asked where the file ends. May be called from several threads."""

    def is_as_opened(self) -> bool:
        """Whether nobody has changed the file since it was opened, as far as its size and its times tell."""

    def close(self) -> None:
        """Let go of the file."""


class Partial(Protocol):
    """One file of an upload while its bytes arrive."""

    def allocate(self, span: Span) -> None:
        """Take space for bytes to come. `OSError` where there is none."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put bytes at an offset, and let the disk begin with them."""

    def share(self, source: Opened, start: int, span: Span) -> bool:
        """Let a span consist of the blocks at ``start`` of another file; False where blocks cannot be shared."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; fewer than asked where the file ends."""

    def size_bytes(self) -> int:
        """How long the file is so far."""

    def written(self) -> Iterator[Span]:
        """The parts in which bytes may lie, in order; elsewhere none were ever put."""


class Storage(Protocol):
    """Files of uploads and of checkpoints, addressed by id. A published checkpoint is whole, also after a power cut.

    What changes something may be repeated after a crash, and has durably happened when it returns; only `begin`,
    `discard` and `free` may be undone by a power cut.
    """

    range_max_bytes: int

    def begin(self, upload: Upload) -> None:
        """Make room for an upload: every file of it exists, empty."""

    def partial(self, upload: Upload, path: str) -> AbstractContextManager[Partial]:
        """Open one file of an upload to write and to read back. `FileNotFoundError` when the upload is gone."""

    def settle(self, upload: Upload) -> Mapping[str, int]:
        """Make an upload's bytes durable, ready for its seal; the time of last change of each file, in ns."""

    def obstacle(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        """What stands where a checkpoint is to be published and was not written by this server, or None."""

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        """The commit point: from here the checkpoint exists and is published by `publish`, now or after a crash."""

    def unseal(self, upload_id: str) -> None:
        """Take back a seal before anything of it was published."""

    def is_sealed(self, upload_id: str) -> bool:
        """Whether an upload has passed its commit point."""

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        """The uploads that were sealed and not yet discarded, oldest sequence first."""

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        """Put a sealed checkpoint in its place; what it replaces goes to the trash first.

        Raises
        ------
        ForeignFile
            Something that this server did not write is in the way; it stays untouched.
        """

    def discard(self, upload_id: str) -> None:
        """Forget an upload, its bytes and its seal."""

    def uploads(self) -> set[str]:
        """The ids of all uploads that have bytes here."""

    def rewrite(self, manifest: Manifest) -> None:
        """Put the manifest of a published checkpoint anew, its facts having changed."""

    def withdraw(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint out of its directory: its manifest first, then its files. Other people's files stay."""

    def free(self, checkpoint_id: str) -> None:
        """Give back the space of a withdrawn checkpoint. Readers keep what they have open."""

    def trash(self) -> set[str]:
        """The ids of the checkpoints whose space has not been given back."""

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        """Open a file of a checkpoint for reading. `FileNotFoundError` when it is not there."""

    def make_directory(self, directory: Directory) -> None:
        """Make the place of a directory. `NameTaken` where a file stands in its way."""

    def drop_directory(self, name: str) -> None:
        """Undo `make_directory` where nothing came to lie there."""

    def write_directory(self, directory: Directory) -> None:
        """Keep a directory's policy and counter beside its checkpoints."""

    def survey(self) -> Iterator[Found]:
        """Everything that the files say: directories and manifests, as far as they can be believed."""

    def writable(self) -> bool:
        """Whether bytes could be stored at the moment."""

    def close(self) -> None:
        """Let go of the root."""
