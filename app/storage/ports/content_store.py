"""The port to the bytes of uploads and checkpoints, addressed by id and by the path within a checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from app.core.models import Checkpoint, File, Manifest, RangeUrl, Upload, Version
from app.core.spans import Span
from app.storage.ports.files import Opened, Partial
from app.storage.ports.values import Buffer, Trashed


class ContentStore(Protocol):
    """Bytes of uploads and of checkpoints. A published checkpoint is whole, also after a power cut.

    Every change is idempotent, so that it can be repeated after a crash, and durable on return. A power cut may undo
    only `begin`, `remove_file`, `rename_file`, `keep_only`, `discard` and `purge`. Versions are opaque: only the store
    that gave one compares it.
    """

    range_max_bytes: int
    """The longest range that the store takes or gives in one request."""

    # uploads

    def begin(self, upload: Upload) -> None:
        """Make room for an upload; a file of it is created when its first bytes arrive."""

    def partial(self, upload: Upload, path: str, *, create: bool = True) -> AbstractContextManager[Partial]:
        """Open one file of an upload for writing and reading; with ``create``, a missing file is created.

        Raises
        ------
        FileNotFoundError
            The upload is gone, or the file is missing and was not to be created.
        """

    def write_files(self, upload: Upload, contents: Mapping[str, Buffer]) -> None:
        """Write whole small files of an upload, by path. `FileNotFoundError` if the upload is gone."""

    def write_whole(self, upload: Upload, contents: Mapping[str, Buffer]) -> Mapping[str, Version]:
        """Begin an upload, write all of its files, and make their bytes durable; return their versions by path.

        The seal follows, or `discard`. Nothing else is done with such an upload but reading it.

        Raises
        ------
        NotDurable
            The store cannot vouch for these bytes.
        """

    def remove_file(self, upload: Upload, path: str) -> None:
        """Remove one file of an upload, and the folders that it leaves empty; nothing if it is missing. Not durable."""

    def rename_file(self, upload: Upload, path: str, to: str) -> None:
        """Give one file of an upload another path, in place of a file there; nothing if it is missing. Not durable."""

    def keep_only(self, upload: Upload) -> None:
        """Remove the files of an upload that ``upload.files`` does not name, and empty folders. Not durable."""

    def upload_url(self, upload: Upload, path: str, span: Span) -> RangeUrl | None:
        """Return the URL to which the client sends a range; None if it sends the range to the server.

        The client sends a PUT with the headers and the raw bytes, and takes any 2xx for success. `arrived` reports the
        range from then on. Such bytes renew no lease; the server renews it when the client asks what is missing.
        """

    def arrived(self, upload: Upload) -> Mapping[str, Sequence[Span]]:
        """Return the ranges, by path, that clients have sent to the URLs of `upload_url`, and that are whole here.

        They are not trusted: each file that has any is read back after `finalize`. A store may also report ranges that
        came through the server and survive its restart. A store that gives no URLs returns nothing.
        """

    def finalize(self, upload: Upload) -> Mapping[str, Version]:
        """Make an upload's bytes durable, ready for its seal; return the version of each file by path.

        Empty files are created here, and files are cut to the size that ``upload.files`` declares: what a removal left
        at a path, that was not durable, is no part of the next file there. From here on, a URL that `upload_url` gave
        before changes nothing. A later write through the server changes the version, unless it comes within the
        granularity of the store's clock. The files can be read by `partial`.

        Raises
        ------
        NotDurable
            The store cannot vouch for these bytes any more, or has lost some, and has removed the upload's files.
        FileNotFoundError
            The upload is gone, or one of its files is.
        """

    def discard(self, upload_id: str) -> None:
        """Forget an upload, its bytes and its seal."""

    def sweep(self) -> None:
        """Retry each `discard` that failed; what fails again is left to the next call."""

    def uploads(self) -> set[str]:
        """Return the ids of all uploads that have bytes here."""

    # commit

    def conflict(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        """Return the key of a foreign file in the place of a checkpoint that is about to be published; None if free."""

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        """Pass the commit point: from here the checkpoint exists, and `publish` follows, now or after a crash."""

    def unseal(self, upload_id: str) -> None:
        """Take back a seal before anything of it was published."""

    def is_sealed(self, upload_id: str) -> bool:
        """Return whether an upload has passed its commit point."""

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        """Return the uploads that were sealed and not yet discarded, lowest sequence first."""

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        """Move a sealed checkpoint to its place and write its manifest; the one that it replaces goes to the trash.

        Raises
        ------
        ForeignFile
            A file that this server did not write is in the way; it stays untouched.
        FileNotFoundError
            The bytes are neither in the upload nor in place.
        """

    # reading

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        """Open a file of a checkpoint for reading, even if its manifest is lost.

        Raises
        ------
        FileNotFoundError
            It is missing, or the checkpoint is in the trash.
        """

    def download_url(self, checkpoint: Checkpoint, file: File, span: Span) -> RangeUrl | None:
        """Return the URL from which the client fetches a range; None if it fetches the range from the server."""

    # removal

    def move_to_trash(self, checkpoint: Checkpoint, *, note: bool = False, is_final: bool = False) -> None:
        """Take a checkpoint out of its directory: its manifest first, then its files. Foreign files stay.

        With ``note``, the time and the reason of the removal are kept beside it, for a catalog that has lost them. With
        ``is_final``, it is never restored: `purge` follows, and only that it has left its directory is durable.
        """

    def is_in_trash(self, checkpoint: Checkpoint) -> bool:
        """Return whether the trash holds all bytes of a checkpoint."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Move a checkpoint's files and its manifest from the trash back to their place.

        Raises
        ------
        ForeignFile
            A file that this server did not write is in the way; it stays untouched.
        """

    def purge(self, checkpoint_id: str) -> None:
        """Delete the bytes of a checkpoint in the trash. Readers can finish what they have open."""

    def trash(self) -> set[str]:
        """Return the ids of the checkpoints in the trash."""

    def trashed(self) -> Iterator[Trashed]:
        """Yield the checkpoints in the trash that have a readable manifest, also those unknown to the catalog."""

    def is_writable(self) -> bool:
        """Return whether the store accepts bytes at the moment."""
