"""Load a checkpoint's state: what is found, again where it goes meanwhile, and the newest that is intact."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ._api.directory import RemoteDirectory
from ._api.wire import Checkpoint
from ._spool.item import Kept
from ._spool.queue import Item, Queue, note_of
from ._torchfile.reader import restore
from ._torchfile.reader.arena import Arena
from ._transfer import download
from ._transfer.cache import Cache
from ._transfer.contents import file_of
from .errors import CheckpointNotFound, HoldfastError, IntegrityError, warn


@dataclass(frozen=True)
class Loading:
    """How somebody wants states: the parameters of `CheckpointManager.load`."""

    remote: RemoteDirectory
    cache: Cache | None
    progress: bool | None
    map_location: Any = None
    weights_only: bool = True
    only: Collection[Any] | None = None
    queue: Queue | None = None
    """Where it is kept what is known of the directory."""

    def found(self, find: Callable[[], Checkpoint | None], *, is_latest: bool = False) -> Any:
        """The state of what is found; where that is pruned between the finding and the loading, it is found again."""
        while (checkpoint := find()) is not None:
            try:
                return self._state(checkpoint, is_latest=is_latest)
            except CheckpointNotFound as error:
                if error.code != "checkpoint_removed":
                    raise
        return None

    def latest(self, kind: str | None = None) -> Any:
        """The state of the newest checkpoint, of one kind or of all.

        Where its bytes are not what was saved, the state of the newest intact one.
        """
        try:
            return self.found(lambda: self.remote.latest(kind), is_latest=True)
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
        """The checkpoints of the directory; ``because`` is raised where the server does not tell them, either."""
        chosen = {"kind": kind} if kind is not None else {}
        try:
            yield from self.remote.checkpoints(order_by="-position", **chosen)
        except HoldfastError as error:
            raise because from error

    def kept(self, item: Item) -> Any:
        """The state of a checkpoint that waits in a spool."""
        with Kept(item.folder, item.facts()) as file:
            arena = Arena(file.size_bytes)

            def fetch(spans: list[tuple[int, int]]) -> None:
                for start, stop in spans:
                    file.copy_into(arena.view, start, stop)

            return restore.load_state(arena, fetch, only=self.only, **self._how)

    def cached(self, file_digest: str) -> Any:
        """The state of a file that was loaded before, without a server. `IntegrityError` where it is not all there."""
        file = self.cache.file(file_digest) if self.cache is not None else None
        if file is None:
            raise IntegrityError(f"the file {file_digest} is not in the cache")
        return download.file_state(self.remote.server, file, cache=self.cache, **self._how)

    def _state(self, checkpoint: Checkpoint, *, is_latest: bool) -> Any:
        file = file_of(self.remote.server, checkpoint)
        state = download.file_state(
            self.remote.server, file, only=self.only, cache=self.cache, progress=self.progress, **self._how
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
        """What is in the cache of all of its kind that was the newest when it was loaded, or came nearest to that."""
        recalled = self.queue.recalled() if self.queue is not None and self.cache is not None else {}
        noted = recalled.get(note_of(kind))
        if not isinstance(noted, dict) or not isinstance(noted.get("sequence"), int):
            return None
        found = {"saved_after": noted["sequence"] - 1, **noted}
        kinds = {"name": str, "file_digest": str, "saved_after": int}
        return found if all(isinstance(found.get(key), kind) for key, kind in kinds.items()) else None

    def _is_newer(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is newer than what is noted of those in the cache."""
        noted = self.noted(checkpoint.kind)
        if noted is None or self.cache is None or self.cache.file(noted["file_digest"]) is None:
            return True
        return (checkpoint.saved_after, checkpoint.sequence) >= (noted["saved_after"], noted["sequence"])

    @property
    def _how(self) -> dict[str, Any]:
        return {"map_location": self.map_location, "weights_only": self.weights_only}
