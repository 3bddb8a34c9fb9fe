"""Keras 3, with any backend: a callback that saves a model after each epoch, and loads for what comes after.

Keras chooses its backend when it is imported, by ``KERAS_BACKEND`` or its own settings; this module imports it.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras

from .._arguments import checks
from .._options import Mode
from ..errors import WarnOnce
from ..manager import CheckpointManager
from ._common import files
from ._common.files import workspace
from ._common.saves import manager_of, numbers, save_files

__all__ = ["HoldfastCallback", "load_best", "load_latest"]

_MODEL, _WEIGHTS = ".keras", ".weights.h5"
_GREATER_IS_BETTER = frozenset(
    {"acc", "accuracy", "auc", "dice", "f1", "fbeta", "iou", "precision", "r2", "recall", "sensitivity", "specificity"}
)


class HoldfastCallback(keras.callbacks.Callback):
    """Saves the whole model as a ``.keras`` file after each epoch; the server keeps the last and the best.

    The epoch of a checkpoint is the number of finished epochs, and the logs are its metadata. Saves are in the
    background; `fit` returns once all are durable.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    monitor : str or None
        The value of the logs that ranks the checkpoints.
    mode : {'min', 'max'}, optional
        Whether a smaller or a larger value is better. Default: by the words of the name, ``"max"`` for ``acc``,
        ``accuracy``, ``auc``, ``f1``, ``iou``, ``precision``, ``recall`` and the like, else ``"min"``.
    keep_last, keep_best : int or None
        The number of newest, and of best checkpoints to keep; None keeps all.
    save_weights_only : bool
        Whether to save a ``.weights.h5`` file, which holds no model: for inference, not to go on with a training.
    every_n_epochs : int
        The interval of saves.
    background : bool
        Whether a save returns once the file is written, before it is sent. Not with ``on_unreachable="raise"``.
    **settings
        Further parameters of `CheckpointManager`: ``server``, ``token``, ``spool_dir`` and so on.

    Attributes
    ----------
    manager : CheckpointManager
        Lists, tags and downloads what was saved.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """

    def __init__(
        self,
        directory: str | Path | CheckpointManager,
        monitor: str | None = "val_loss",
        mode: Mode | None = None,
        keep_last: int | None = 3,
        keep_best: int | None = 3,
        *,
        save_weights_only: bool = False,
        every_n_epochs: int = 1,
        background: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.monitor = checks.text("monitor", monitor)
        if not isinstance(directory, CheckpointManager):
            settings |= {"max_checkpoints": keep_last, "max_best_checkpoints": keep_best, "monitor": None}
            settings |= {"mode": mode if mode is not None else _mode_of(monitor), "background": background}
        self.manager = manager_of(directory, **settings)
        self._suffix = _WEIGHTS if checks.switch("save_weights_only", save_weights_only) else _MODEL
        self._every_n_epochs = checks.count("every_n_epochs", every_n_epochs, least=1)
        self._warn_once = WarnOnce()
        self._open = ExitStack()
        self._place: tuple[Path, bool | None] | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Make the folder that files are written to."""
        self._open.close()
        self._place = self._open.enter_context(workspace(self.manager))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save the model, if it is the turn of this epoch."""
        if (epoch + 1) % self._every_n_epochs or not self.manager._saver.is_ours("save"):
            return
        assert self._place is not None
        logged = numbers(logs or {})
        if self.monitor is not None and self.monitor not in logged:
            self._warn_once(
                f"{self.monitor!r} is not in the logs: checkpoints have no metric. Logged: {', '.join(sorted(logged))}"
            )
        folder, wait = self._place
        path = folder / f"checkpoint_epoch_{epoch + 1:04d}{self._suffix}"
        try:
            self._write(path)
            metric = logged.get(self.monitor) if self.monitor is not None else None
            step = _steps_of(self.model)
            save_files(self.manager, path, metadata=logged, epoch=epoch + 1, step=step, metric=metric, wait=wait)
        finally:
            path.unlink(missing_ok=True)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Wait until every save is durable."""
        self._open.close()
        self.manager.wait()

    def _write(self, path: Path) -> None:
        if self._suffix == _MODEL:
            self.model.save(path)
        else:
            self.model.save_weights(path)


def load_latest(
    directory: str | Path | CheckpointManager, *, into: Any = None, settings: dict[str, Any] | None = None, **how: Any
) -> tuple[Any, int]:
    """Load the newest usable model, from the server or from the spool, to go on with its training.

    ``model.fit(..., epochs=10, initial_epoch=epochs_done)`` ends as a training that was never interrupted. A corrupt
    checkpoint is skipped, with a warning.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    into : keras.Model, optional
        A built model that receives the weights of the newest file of either kind, and is returned.
    settings : dict, optional
        Parameters of `CheckpointManager`.
    **how
        Parameters of ``keras.models.load_model``: ``custom_objects``, ``compile`` and ``safe_mode``.

    Returns
    -------
    tuple of keras.Model and int
        The model, and the number of epochs that it was trained for; ``(None, 0)`` if there is none yet.
    """
    return _loaded(files.newest, directory, into, settings, how)


def load_best(
    directory: str | Path | CheckpointManager, *, into: Any = None, settings: dict[str, Any] | None = None, **how: Any
) -> tuple[Any, int]:
    """Load the best model that the server holds; for parameters and result see `load_latest`."""
    return _loaded(files.best, directory, into, settings, how)


def _loaded(
    put: Callable[[CheckpointManager, Path, tuple[str, ...]], tuple[Path | None, int | None]],
    directory: str | Path | CheckpointManager,
    into: Any,
    settings: dict[str, Any] | None,
    how: dict[str, Any],
) -> tuple[Any, int]:
    manager = manager_of(directory, **(settings or {}))
    with TemporaryDirectory(prefix="holdfast-") as folder:
        path, epoch = put(manager, Path(folder), (_MODEL,) if into is None else (_MODEL, _WEIGHTS))
        if path is None:
            return None, 0
        if into is None:
            return keras.models.load_model(path, **how), epoch or 0
        into.load_weights(path)
        return into, epoch or 0


def _mode_of(monitor: str | None) -> Mode:
    """Return the mode for a metric by the words of its name."""
    return "max" if monitor is not None and _GREATER_IS_BETTER.intersection(monitor.lower().split("_")) else "min"


def _steps_of(model: Any) -> int | None:
    """Return the number of steps of a model's optimizer; None if it has none."""
    optimizer = getattr(model, "optimizer", None)
    return int(keras.ops.convert_to_numpy(optimizer.iterations)) if optimizer is not None else None
