"""Lookups of directories, checkpoints and uploads, with one refusal for each that does not exist."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.catalog import Session
from app.core import digests
from app.core.errors import (
    Altered,
    CheckpointNotFound,
    CheckpointRemoved,
    DirectoryNotFound,
    PreconditionFailed,
    UploadNotFound,
)
from app.core.models import Checkpoint, Directory, Policy, Precondition, Upload


def known_directory(session: Session, name: str) -> Directory:
    """Find a directory that was saved to or that has a policy of its operator.

    Raises
    ------
    DirectoryNotFound
    """
    directory = session.directories.get(name)
    if directory is None or not _exists(directory):
        raise DirectoryNotFound(f"There is no directory {name!r}.", directory=name)
    return directory


def is_known(session: Session, name: str) -> bool:
    """Tell if a directory exists; the row of a first upload alone does not count."""
    directory = session.directories.get(name)
    return directory is not None and _exists(directory)


def _exists(directory: Directory) -> bool:
    return directory.sequence > 0 or directory.policy != Policy()


def known_checkpoint(session: Session, checkpoint_id: str) -> Checkpoint:
    """Find a checkpoint, live or removed.

    Raises
    ------
    CheckpointNotFound
    """
    checkpoint = session.checkpoints.get(checkpoint_id)
    if checkpoint is None:
        raise checkpoint_not_found(checkpoint_id)
    return checkpoint


def live_checkpoint(session: Session, checkpoint_id: str) -> Checkpoint:
    """Find a checkpoint that is not removed.

    Raises
    ------
    CheckpointNotFound, CheckpointRemoved
    """
    return require_live(session.checkpoints.get(checkpoint_id), checkpoint_id)


def require_live(checkpoint: Checkpoint | None, checkpoint_id: str) -> Checkpoint:
    """Give back a checkpoint that was looked up by its id, if it exists and is live."""
    if checkpoint is None:
        raise checkpoint_not_found(checkpoint_id)
    if checkpoint.removed_at is not None:
        raise CheckpointRemoved(
            f"{checkpoint.directory}/{checkpoint.name} was {checkpoint.removed_because} "
            f"at {checkpoint.removed_at:%Y-%m-%dT%H:%M:%SZ}; its facts remain, its bytes are gone.",
            removed_because=checkpoint.removed_because,
        )
    return checkpoint


def require_expected(precondition: Precondition, directory: str, name: str, current: Checkpoint | None) -> None:
    """Check a precondition against the live checkpoint of a name, if any. Hold the directory's lock until the change.

    Raises
    ------
    PreconditionFailed
        It names the checkpoint that is there.
    """
    if (header := digests.unmet_header(precondition, current)) is None:
        return
    digest = current.digest if current is not None and precondition.may_read else None
    found = "does not exist" if current is None else f"has the digest {digest}" if digest else "is another checkpoint"
    raise PreconditionFailed(
        f"{directory}/{name} {found}, and `{header}` expects another state; nothing was changed.",
        name=name,
        checkpoint_id=current.id if current is not None else None,
        digest=digest,
    )


def checkpoint_not_found(checkpoint_id: str) -> CheckpointNotFound:
    """Make the refusal of an unknown id; the same for a checkpoint that the token may not reach."""
    return CheckpointNotFound(f"There is no checkpoint with the id {checkpoint_id!r}.")


@contextmanager
def readable_maps(checkpoint: Checkpoint) -> Iterator[None]:
    """Read the file maps of a checkpoint in this block.

    Raises
    ------
    Altered
        The catalog's record of them is damaged.
    """
    try:
        yield
    except ValueError as error:
        raise Altered(
            f"The catalog's record of the files of {checkpoint.directory}/{checkpoint.name} is damaged; "
            "`holdfast-server fsck` reads it from the manifest."
        ) from error


def known_upload(session: Session, upload_id: str) -> Upload:
    """Find an upload that is not yet committed.

    Raises
    ------
    UploadNotFound
    """
    upload = session.uploads.get(upload_id)
    if upload is None:
        raise upload_not_found(upload_id)
    return upload


def upload_not_found(upload_id: str) -> UploadNotFound:
    """Make the refusal of an unknown id; the same for an upload that the token may not reach."""
    return UploadNotFound(f"There is no upload {upload_id!r}; it may have expired. Begin it again.")
