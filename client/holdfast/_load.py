"""Choice of the checkpoint to load: found again if it is pruned during the load, else the newest intact one."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ._api.directory import RemoteDirectory
from ._api.wire import Checkpoint
from ._spool.folder_item import opened
from ._spool.item import SpooledCheckpoint, SpooledFile
from ._spool.notes import note_of
from ._spool.queue import Queue
from ._torchfile.reader.file_memory import FileMemory
from ._torchfile.reader.load_state import load_state
from ._transfer import download
from ._transfer.cache import Cache
from ._transfer.contents import file_of, several_files
from .errors import CheckpointNotFound, HoldfastError, IntegrityError, warn


@dataclass(frozen=True)
class Loader:
    """Loads states of one directory, with the parameters of one call of `CheckpointManager.load`."""

    remote: RemoteDirectory
    cache: Cache | None
    progress: bool | None
    map_location: Any = None
    weights_only: bool = True
    only: Collection[Any] | None = None
    queue: Queue | None = None
    """The queue of the directory, which records what this machine knows of it."""

    def found(self, find: Callable[[], Checkpoint | None], *, is_latest: bool = False) -> Any:
        """Load what ``find`` returns; call it again if that is pruned before it is loaded."""
        while (checkpoint := find()) is not None:
            try:
                return self._state(checkpoint, is_latest=is_latest)
            except CheckpointNotFound as error:
                if error.code != "checkpoint_removed":
                    raise
        return None

    def latest(self, kind: str | None = None) -> Any:
        """Load the newest checkpoint, of one kind or of all; if it is corrupt, the newest intact one.

        Raises
        ------
        IntegrityError
            No checkpoint of the kind is intact.
        """
        try:
            return self.found(lambda: self.remote.latest(kind, with_bytes=self.takes_bytes), is_latest=True)
        except IntegrityError as error:
            return self._intact(error, kind)

    def _intact(self, because: IntegrityError, kind: str | None) -> Any:
        damaged = []
        for checkpoint in self._newest_first(because, kind):
            try:
                state = self._state(checkpoint, is_latest=True)
            except CheckpointNotFound:
                continue
            except IntegrityError:
                damaged.append(checkpoint.name)
                continue
            if damaged:
                warn(
                    f"{', '.join(damaged)} of {self.remote.name!r} cannot be loaded, because the bytes are not those "
                    f"that were saved ({because}). The newest that is intact, {checkpoint.name}, is loaded instead."
                )
            return state
        raise because

    def _newest_first(self, because: IntegrityError, kind: str | None) -> Iterator[Checkpoint]:
        """List the checkpoints of the directory; ``because`` is raised if the server does not list them, either."""
        chosen = {"kind": kind} if kind is not None else {}
        try:
            yield from self.remote.checkpoints(order_by="-position", **chosen)
        except HoldfastError as error:
            raise because from error

    def newest(self, kind: str | None) -> Checkpoint | None:
        """Return the newest checkpoint on the server, of one kind or of all."""
        return self.remote.latest(kind)

    def takes(self, facts: Mapping[str, Any]) -> bool:
        """Tell if a checkpoint that waits in a spool counts: all do, also those that are no states."""
        return True

    def spooled(self, item: SpooledCheckpoint) -> Any:
        """Load a checkpoint that waits in a spool; `InvalidRequest` if it has several files."""
        found = opened(item.folder, item.facts())
        if not isinstance(found, SpooledFile):
            raise several_files(item.name or "a checkpoint", len(found))
        with found as file:
            memory = FileMemory(file.size_bytes)

            def fetch(spans: list[tuple[int, int]]) -> None:
                for start, stop in spans:
                    file.copy_into(memory.view, start, stop)

            return load_state(memory, fetch, only=self.only, **self._options)

    def cached(self, file_digest: str) -> Any:
        """Load a file from the cache, without a server.

        Raises
        ------
        IntegrityError
            The cache does not hold all of the file.
        """
        file = self.cache.file(file_digest) if self.cache is not None else None
        if file is None:
            raise IntegrityError(f"the file {file_digest} is not in the cache")
        return download.file_state(self.remote.server, file, cache=self.cache, **self._options)

    @property
    def takes_bytes(self) -> bool:
        """True if a small checkpoint is to come with its facts: nothing of it is at hand, and all of it is wanted."""
        return self.cache is None and self.only is None

    def _state(self, checkpoint: Checkpoint, *, is_latest: bool) -> Any:
        file = file_of(self.remote.server, checkpoint)
        state = download.file_state(
            self.remote.server,
            file,
            only=self.only,
            cache=self.cache,
            attached=checkpoint.attached.data if checkpoint.attached is not None else None,
            progress=self.progress,
            **self._options,
        )
        if self.queue is not None and checkpoint.directory == self.remote.name:
            is_to_note = self.cache is not None and self.only is None and (is_latest or self._is_newer(checkpoint))
            loaded = {
                "name": checkpoint.name,
                "kind": checkpoint.kind,
                "sequence": checkpoint.sequence,
                "saved_after": checkpoint.saved_after,
                "file_digest": file.digest,
            }
            self.queue.learn(checkpoint.sequence, loaded if is_to_note else None)
        return state

    def noted(self, kind: str) -> dict[str, Any] | None:
        """Return the note of the newest checkpoint of a kind that is in the cache, or None."""
        notes = self.queue.notes() if self.queue is not None and self.cache is not None else {}
        noted = notes.get(note_of(kind))
        if not isinstance(noted, dict) or not isinstance(noted.get("sequence"), int):
            return None
        found = {"saved_after": noted["sequence"] - 1, **noted}
        kinds = {"name": str, "file_digest": str, "saved_after": int}
        return found if all(isinstance(found.get(key), kind) for key, kind in kinds.items()) else None

    def _is_newer(self, checkpoint: Checkpoint) -> bool:
        """Tell if a checkpoint is newer than the one in the cache that is noted."""
        noted = self.noted(checkpoint.kind)
        if noted is None or self.cache is None or self.cache.file(noted["file_digest"]) is None:
            return True
        return (checkpoint.saved_after, checkpoint.sequence) >= (noted["saved_after"], noted["sequence"])

    @property
    def _options(self) -> dict[str, Any]:
        return {"map_location": self.map_location, "weights_only": self.weights_only}
