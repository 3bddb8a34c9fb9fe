"""What every use case stands on, and the small questions that several of them ask."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.catalog import Catalog, Session
from app.core.errors import CheckpointNotFound, CheckpointRemoved, DirectoryNotFound, Refusal, UploadNotFound
from app.core.limits import MOST, Limits
from app.core.models import Checkpoint, Directory, Manifest, Policy, Upload
from app.core.quotas import Quota
from app.storage.port import Storage

logger = logging.getLogger("holdfast")


class Bell:
    """Wakes those who wait for events; may be rung from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.silenced = False

    def ring(self) -> None:
        """Wake all who wait now."""
        with self._guard:
            waiting, self._waiting = self._waiting, set()
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    def silence(self) -> None:
        """The server stops: wake all, and let nobody wait any more."""
        self.silenced = True
        self.ring()

    @contextmanager
    def waiter(self) -> Iterator[asyncio.Event]:
        """An event of the running loop that the next ring sets. Ask first, look then, wait last: no ring is missed.

        Nobody waits any more once the block has ended.
        """
        event = asyncio.Event()
        waiting = (asyncio.get_running_loop(), event)
        with self._guard:
            if self.silenced:
                event.set()
            else:
                self._waiting.add(waiting)
        try:
            yield event
        finally:
            with self._guard:
                self._waiting.discard(waiting)


@dataclass(frozen=True)
class Parts:
    """The catalog, the storage and the clock, put together once."""

    catalog: Catalog
    storage: Storage
    clock: Callable[[], datetime]
    lease: timedelta = timedelta(hours=24)
    writer_window: timedelta = timedelta(minutes=1)
    undo_window: timedelta = timedelta()
    reserve_bytes: int = 0
    most_uploads: int = 1000
    copy_catalog_every: timedelta = timedelta()
    quotas: tuple[Quota, ...] = ()
    limits: Limits = MOST
    bell: Bell = field(default_factory=Bell)

    @property
    def is_stopping(self) -> bool:
        """Whether the server is about to stop: what has begun may end, nothing new begins."""
        return self.bell.silenced

    def undo_begins(self) -> datetime | None:
        """What was removed until then cannot be wanted back any more; None for everything."""
        return self.clock() - self.undo_window if self.undo_window else None

    def rewrite_manifest(self, manifest: Manifest) -> None:
        """Bring a manifest up to date with facts that the catalog holds already; what fails is left to the janitor."""
        try:
            self.storage.rewrite(manifest)
            with self.catalog.writing() as session:
                session.checkpoints.mark_clean(manifest.checkpoint.id)
        except (OSError, Refusal):
            logger.exception("the manifest of %s stays behind for now", manifest.checkpoint.id)

    def rewrite_directory(self, name: str) -> None:
        """Bring a directory's record up to date with its row; what fails is left to the janitor."""
        with self.catalog.lock(name):
            with self.catalog.reading() as session:
                directory = session.directories.get(name)
            if directory is None:
                return
            try:
                self.storage.make_directory(directory)
                self.storage.write_directory(directory)
                with self.catalog.writing() as session:
                    session.directories.mark_dirty(name, False)
            except (OSError, Refusal):
                logger.exception("the record of %s stays behind for now", name)


def known_directory(session: Session, name: str) -> Directory:
    """The directory, if anything was ever saved to it or an operator spoke of it."""
    directory = session.directories.get(name)
    if directory is None or not _is_one(directory):
        raise DirectoryNotFound(f"There is no directory {name!r}.", directory=name)
    return directory


def is_known(session: Session, name: str) -> bool:
    """Whether there is such a directory."""
    directory = session.directories.get(name)
    return directory is not None and _is_one(directory)


def _is_one(directory: Directory) -> bool:
    return directory.sequence > 0 or directory.policy != Policy()


def known_checkpoint(session: Session, checkpoint_id: str) -> Checkpoint:
    """The checkpoint of this id, removed or not."""
    checkpoint = session.checkpoints.get(checkpoint_id)
    if checkpoint is None:
        raise no_checkpoint(checkpoint_id)
    return checkpoint


def no_checkpoint(checkpoint_id: str) -> CheckpointNotFound:
    """Said alike of what is not there and of what is out of reach."""
    return CheckpointNotFound(f"There is no checkpoint with the id {checkpoint_id!r}.")


def known_upload(session: Session, upload_id: str) -> Upload:
    """The upload of this id."""
    upload = session.uploads.get(upload_id)
    if upload is None:
        raise no_upload(upload_id)
    return upload


def no_upload(upload_id: str) -> UploadNotFound:
    """Said alike of what is not there and of what is out of reach."""
    return UploadNotFound(f"There is no upload {upload_id!r}; it may have expired. Begin it again.")


def live_checkpoint(session: Session, checkpoint_id: str) -> Checkpoint:
    """The checkpoint of this id, whose bytes are there."""
    return refuse_removed(session.checkpoints.get(checkpoint_id), checkpoint_id)


def refuse_removed(checkpoint: Checkpoint | None, checkpoint_id: str) -> Checkpoint:
    """What was found under this id, if it is a checkpoint whose bytes are there."""
    if checkpoint is None:
        raise no_checkpoint(checkpoint_id)
    if checkpoint.removed_at is not None:
        raise CheckpointRemoved(
            f"{checkpoint.directory}/{checkpoint.name} was {checkpoint.removed_because} "
            f"at {checkpoint.removed_at:%Y-%m-%dT%H:%M:%SZ}; its facts remain, its bytes are gone.",
            removed_because=checkpoint.removed_because,
        )
    return checkpoint
