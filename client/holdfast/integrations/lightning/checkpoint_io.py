"""The `CheckpointIO`: loads and saves at ``holdfast://DIRECTORY/NAME``."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO

from ...errors import CheckpointNotFound, InvalidRequest
from ...manager import CheckpointManager
from .._common.saves import save_state
from .._common.urls import SCHEME, split_url


class HoldfastCheckpointIO(CheckpointIO):
    """Saves, loads and removes checkpoints at ``holdfast://DIRECTORY/NAME``; other paths go to another `CheckpointIO`.

    ``Trainer(plugins=[HoldfastCheckpointIO()])`` makes ``trainer.save_checkpoint("holdfast://runs/a/x.ckpt")`` a save
    of the client: with retries, the spool, and no second copy in memory. What Lightning saves so, Lightning removes:
    its retention is ``"manual"``.

    Parameters
    ----------
    inner : CheckpointIO, optional
        The one for other paths. Default: ``TorchCheckpointIO``.
    **settings
        Further parameters of `CheckpointManager`.
    """

    def __init__(self, inner: CheckpointIO | None = None, **settings: Any) -> None:
        super().__init__()
        self.inner = inner if inner is not None else TorchCheckpointIO()
        self._settings = settings
        self._managers: dict[str, CheckpointManager] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint; ``storage_options`` may hold its ``metric`` and its ``metadata``."""
        if (place := self._place(path, is_new=True)) is None:
            self.inner.save_checkpoint(checkpoint, path, storage_options)
            return
        options = dict(storage_options or {})
        metadata, metric = options.pop("metadata", {}), options.pop("metric", None)
        if options:
            raise InvalidRequest(
                f"storage_options has no {', '.join(options)}: only metric and metadata", code="invalid"
            )
        save_state(
            place[0],
            checkpoint,
            epoch=checkpoint.get("epoch"),
            step=checkpoint.get("global_step"),
            metric=metric,
            metadata=metadata,
            name=place[1],
            retention="manual",
        )

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, every byte verified."""
        if (place := self._place(path)) is None:
            found: dict[str, Any] = self.inner.load_checkpoint(path, map_location, weights_only)
            return found
        manager, name = place
        options: dict[str, Any] = {"map_location": map_location or "cpu", "weights_only": weights_only is not False}
        load = {"@best": manager.load_best, "@latest": manager.load_latest}.get(name)
        state: dict[str, Any] | None = load(**options) if load is not None else manager.load(name, **options)
        if state is None:
            raise CheckpointNotFound(f"{path} does not exist", code="checkpoint_not_found")
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it exists."""
        if (place := self._place(path)) is None:
            self.inner.remove_checkpoint(path)
            return
        with suppress(CheckpointNotFound):
            place[0].delete(place[1])

    def teardown(self) -> None:
        """Wait until every save is durable."""
        for manager in self._managers.values():
            manager.wait()
        self.inner.teardown()

    def _place(self, path: str | Path, *, is_new: bool = False) -> tuple[CheckpointManager, str] | None:
        """Return the manager and the name for a path; None if it is none of Holdfast."""
        is_mangled = isinstance(path, Path) and str(path).startswith("holdfast:/")
        if not (str(path).startswith(SCHEME) or is_mangled):
            return None
        directory, name = split_url(path, is_new=is_new)
        if directory not in self._managers:
            settings = {"max_checkpoints": None, "max_best_checkpoints": None, "monitor": None, **self._settings}
            self._managers[directory] = CheckpointManager(directory, **settings)
        return self._managers[directory], name
