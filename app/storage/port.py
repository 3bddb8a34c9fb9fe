"""The port to where bytes live. What implements it never sees the catalog, and nobody else sees its disk."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from app.core.models import Checkpoint, Directory, File, Manifest, Mark, RemovedBecause, Upload
from app.core.spans import Span


@dataclass(frozen=True, slots=True)
class Found:
    """What a survey of the files found: a directory, a manifest, or a fault in words.

    ``doubt`` says in words why a record might not be as it was written, although it can be believed.
    """

    where: str
    directory: Directory | None = None
    manifest: Manifest | None = None
    fault: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Which records lie in a directory: the names of its manifests, and when each was last written, in ns.

    ``record_mtime_ns`` is that of the directory's own record; None where it has none.
    """

    directory: str
    record_mtime_ns: int | None
    manifests: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A removed checkpoint whose bytes are in the trash, as far as its manifest there says so."""

    manifest: Manifest
    removed_at: datetime
    because: RemovedBecause


@dataclass(frozen=True, slots=True)
class Item:
    """Something that lies below the root, outside what the server keeps for itself alone."""

    path: str
    is_folder: bool
    size_bytes: int
    mtime_ns: int
    is_plain: bool
    """Whether it is a file, and no link, pipe or the like."""
    hidden: str | None = None
    """Why what lies in this folder could not be looked at; None where it could, or for what is no folder."""


CHANGED = "{} was changed while it was read; let whoever writes it finish, then adopt again"
"""What is said of a file of others that does not hold still."""


Buffer = bytes | bytearray | memoryview


class NotDurable(OSError):
    """The disk failed to make something durable. To ask again proves nothing: Linux forgets what it did not write."""


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

    def forget(self, offset: int, length: int) -> None:
        """Let the system forget what it remembers of these bytes, so that the next reading is from the disk."""

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

    def allocated_bytes(self) -> int:
        """How much of the disk the file has taken so far."""

    def share(self, source: Opened, start: int, span: Span) -> bool:
        """Let a span consist of the blocks at ``start`` of another file; False where blocks cannot be shared."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; fewer than asked where the file ends."""

    def size_bytes(self) -> int:
        """How long the file is so far."""

    def written(self) -> Iterator[Span]:
        """The parts in which bytes may lie, in order; elsewhere none were ever put."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in a folder: a plain file, a folder, a link, or something else."""

    name: str
    what: Literal["file", "folder", "link", "other"]
    size_bytes: int
    mtime_ns: int


class Visited(Protocol):
    """A folder that other tools wrote into, looked at without following links. Paths are relative to it."""

    @property
    def within(self) -> str | None:
        """Where the folder lies below the root, empty for the root itself; None where it lies elsewhere."""

    @property
    def address(self) -> str:
        """The folder's whole path."""

    def entries(self, path: str) -> Sequence[Entry]:
        """What lies in a folder, sorted by name; nothing where the folder is missing."""

    def entry(self, path: str) -> Entry | None:
        """What lies at a path, or None."""

    def open(self, path: str) -> Opened:
        """Open a plain file."""

    def close(self) -> None:
        """Let go of the folder."""


class Adoption(Protocol):
    """Taking in what other tools wrote. What was there is never changed, and never replaced."""

    def visit(self, folder: str) -> Visited:
        """Look at a folder, anywhere.

        Raises
        ------
        OSError
            It is missing, no folder, or cannot be read.
        """

    def home(self) -> Visited:
        """The root itself, to look at."""

    def copying(self, visited: Visited, path: str) -> AbstractContextManager[str]:
        """Copy a file or a whole folder aside, durably; its path there. What is not put anywhere is gone afterwards.

        Raises
        ------
        ForeignFile
            Something in the folder is no plain file or folder; or a file was changed while it was copied.
        """

    def put(self, copy: str, target: str) -> None:
        """Move a copy to a place below the root: there it is whole or not at all.

        Raises
        ------
        FileExistsError
            Something is in that place.
        ForeignFile
            Something on the way to the place is no folder.
        """

    def open(self, path: str) -> Opened:
        """Open a file below the root, whoever wrote it."""

    def standing(self, directory: str, name: str) -> Manifest | None:
        """The manifest that stands under a name.

        Raises
        ------
        ForeignFile
            What stands there is no manifest, or speaks of something else.
        """

    def settle(self, manifest: Manifest, *, copied: bool) -> None:
        """Make a checkpoint of files that lie in their place: they are made durable, then the manifest is written.

        What was ``copied``, now or by an earlier run, was durable before it had its place; a copy for which that failed
        is made anew, out of new files, and names are made durable anew. What others wrote is taken in where it lies, so
        nothing can be made anew: where the disk once failed to keep it, in an earlier run or before the first one, the
        kernel has forgotten that, and this run cannot tell.
        """


class Storage(Protocol):
    """Files of uploads and of checkpoints, addressed by id. A published checkpoint is whole, also after a power cut.

    What changes something may be repeated after a crash, and has durably happened when it returns; only `begin`,
    `discard` and `free` may be undone by a power cut.
    """

    is_new: bool
    """Whether nothing that this or an earlier server wrote was found when it was opened."""
    range_max_bytes: int
    shares_blocks: bool
    """Whether files can consist of the same blocks, so that what is copied takes no space."""

    @property
    def adoption(self) -> Adoption:
        """Taking in what other tools wrote."""

    def begin(self, upload: Upload) -> None:
        """Make room for an upload; its files are made when their first bytes come."""

    def partial(self, upload: Upload, path: str, *, create: bool = True) -> AbstractContextManager[Partial]:
        """Open one file of an upload to write and to read back; it is made where it is missing, unless told not.

        `FileNotFoundError` when the upload is gone, or the file was not to be made.
        """

    def write_files(self, upload: Upload, contents: Mapping[str, Buffer]) -> None:
        """Put whole small files of an upload, by their paths. `FileNotFoundError` when the upload is gone."""

    def settle(self, upload: Upload) -> Mapping[str, int]:
        """Make an upload's bytes durable, ready for its seal; the time of last change of each file, in ns.

        Empty files are made here.

        Raises
        ------
        NotDurable
            That failed: nothing of these bytes is believed any more, and the upload's files are removed.
        """

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

    def sweep(self) -> None:
        """Try once more to discard what could not be discarded before; what still cannot is left to the next time."""

    def uploads(self) -> set[str]:
        """The ids of all uploads that have bytes here."""

    def rewrite(self, manifest: Manifest) -> None:
        """Put the manifest of a published checkpoint anew, its facts having changed."""

    def withdraw(self, checkpoint: Checkpoint, *, note: bool = False) -> None:
        """Take a checkpoint out of its directory: its manifest first, then its files. Other people's files stay.

        With ``note``, when and why it was removed stands beside it, for a catalog that has lost it.
        """

    def is_in_trash(self, checkpoint: Checkpoint) -> bool:
        """Whether all bytes of a withdrawn checkpoint are still there."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put a withdrawn checkpoint's files and its manifest back in their place; nothing of it stays in the trash.

        Raises
        ------
        ForeignFile
            Something that this server did not write stands there; it stays untouched.
        """

    def free(self, checkpoint_id: str) -> None:
        """Give back the space of a withdrawn checkpoint. Readers keep what they have open."""

    def trash(self) -> set[str]:
        """The ids of the checkpoints whose space has not been given back."""

    def withdrawn(self) -> Iterator[Withdrawn]:
        """What lies in the trash with a manifest that can be believed, whoever knows of it."""

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        """Open a file of a checkpoint for reading. `FileNotFoundError` when it is not there."""

    def make_directory(self, directory: Directory) -> None:
        """Make the place of a directory. `NameTaken` where a file stands in its way."""

    def drop_directory(self, name: str) -> None:
        """Undo `make_directory` where nothing came to lie there."""

    def forget_directory(self, name: str) -> None:
        """Remove a directory's own record, and its folders as far as nothing else lies there."""

    def write_directory(self, directory: Directory) -> None:
        """Keep a directory's policy and counter beside its checkpoints."""

    def mark(self) -> Mark | None:
        """What the last opening of this root left here; None where that is lost."""

    def put_mark(self, opened: Mark) -> None:
        """Leave word of an opening."""

    def records(self, skip: frozenset[str]) -> Iterator[Records]:
        """The names and times of all records, none of which is read; some paths are not looked into."""

    def found(self, directory: str, name: str | None) -> Found:
        """What a survey finds of one manifest; without a name, of the directory's own record."""

    def survey(self) -> Iterator[Found]:
        """Everything that the files say: directories and manifests, as far as they can be believed."""

    def upgrade(self) -> None:
        """Write down that this version uses the root, once all that it holds is as this version expects."""

    def everything(self) -> Iterator[Item]:
        """All that lies in directories and beside them, whoever wrote it."""

    def place_of_manifest(self, directory: str, name: str) -> str:
        """Where the manifest of the checkpoint of a name lies, as a path of `everything`."""

    def place_of_directory(self, name: str) -> str:
        """Where the record of a directory lies, as a path of `everything`."""

    def is_record(self, path: str) -> bool:
        """Whether a path is where manifests and records of directories lie."""

    def is_temporary(self, path: str) -> bool:
        """Whether a path is the name that a manifest or a record of a directory has while it is being written."""

    def record(self, path: str) -> bytes:
        """A manifest or a record of a directory as it stands there."""

    def put_back(self, path: str, place: str) -> None:
        """Give a file the name that it had. `FileExistsError` where another file has it."""

    def drop(self, path: str) -> None:
        """Remove something that this server left behind."""

    def free_bytes(self) -> int:
        """How many bytes could be stored at the moment."""

    def capacity_bytes(self) -> int:
        """How many bytes could be stored if nothing were there."""

    def keep_ballast(self) -> None:
        """Set a little space aside, if there is plenty, for `drop_ballast`."""

    def drop_ballast(self) -> bool:
        """Give up what was set aside where hardly any other space is left; whether there was something to give up."""

    @property
    def is_protected(self) -> bool:
        """Whether `protect` was ever called."""

    def protect(self) -> None:
        """Keep in mind, whatever becomes of the catalog, that nothing here is for those without a token."""

    @property
    def revoked(self) -> frozenset[str]:
        """The ids that were ever given to `revoke`."""

    def revoke(self, token_id: str) -> None:
        """Keep in mind, whatever becomes of the catalog, that this token counts no more. One caller at a time."""

    def writable(self) -> bool:
        """Whether bytes could be stored at the moment."""

    def close(self) -> None:
        """Let go of the root."""
