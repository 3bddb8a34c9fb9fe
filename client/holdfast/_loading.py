"""Load a checkpoint's state: what is found, again where it goes meanwhile, and the newest that is intact."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from . import _download
from ._cache import Cache
from ._directory import RemoteDirectory
from ._wire import Checkpoint
from .errors import CheckpointNotFound, HoldfastError, IntegrityError, warn


@dataclass(frozen=True)
class Loading:
    """How somebody wants states: the parameters of `CheckpointManager.load`."""

    remote: RemoteDirectory
    cache: Cache | None
    progress: bool | None
    map_location: Any = None
    weights_only: bool = True
    only: Collection[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.only, str):
            raise TypeError(f"only is a collection of keys, such as ({self.only!r},)")

    def found(self, find: Callable[[], Checkpoint | None]) -> Any:
        """The state of what is found; where that is pruned between the finding and the loading, it is found again."""
        while (checkpoint := find()) is not None:
            try:
                return self._state(checkpoint)
            except CheckpointNotFound as error:
                if error.code != "checkpoint_removed":
                    raise
        return None

    def latest(self) -> Any:
        """The state of the newest checkpoint; where its bytes are not what was saved, of the newest intact one."""
        try:
            return self.found(self.remote.latest)
        except IntegrityError as error:
            return self._intact(error)

    def _intact(self, because: IntegrityError) -> Any:
        damaged = []
        for checkpoint in self._newest_first(because):
            try:
                state = self._state(checkpoint)
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

    def _newest_first(self, because: IntegrityError) -> Iterator[Checkpoint]:
        """The checkpoints of the directory; ``because`` is raised where the server does not tell them, either."""
        try:
            yield from self.remote.checkpoints(order_by="-position")
        except HoldfastError as error:
            raise because from error

    def _state(self, checkpoint: Checkpoint) -> Any:
        return _download.state(
            self.remote.server,
            checkpoint,
            only=self.only,
            cache=self.cache,
            progress=self.progress,
            map_location=self.map_location,
            weights_only=self.weights_only,
        )
