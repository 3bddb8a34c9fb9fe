"""skorch: a callback that saves a net after each epoch, and lets a new one go on from there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skorch.callbacks import Callback

from .._options import Mode
from ..errors import WarnOnce
from ..manager import CheckpointManager
from ._common.saves import manager_of, numbers, save_state

_PARTS = ("_modules", "_criteria", "_optimizers")


class HoldfastCheckpoint(Callback):
    """Saves modules, criteria, optimizers and the history of a net after each epoch; the server keeps last and best.

    The numbers of the epoch's line of the history are its metadata. Saves are in the background; `fit` returns once all
    are durable.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    monitor : str or None
        The column of the history that ranks the checkpoints.
    mode : {'min', 'max'}
        Whether a smaller or a larger value is better.
    keep_last, keep_best : int or None
        The number of newest, and of best checkpoints to keep; None keeps all.
    resume : bool
        Whether a net that has not been trained goes on from the newest usable state, when its training begins. As
        with skorch's ``LoadInitState``, ``max_epochs`` more epochs follow.
    settings : dict, optional
        Further parameters of `CheckpointManager`.

    Attributes
    ----------
    manager_ : CheckpointManager
        Loads what was saved.
    """

    def __init__(
        self,
        directory: str | Path | CheckpointManager,
        monitor: str | None = "valid_loss",
        mode: Mode = "min",
        keep_last: int | None = 3,
        keep_best: int | None = 3,
        resume: bool = False,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.monitor = monitor
        self.mode = mode
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.resume = resume
        self.settings = settings

    def initialize(self) -> "HoldfastCheckpoint":
        """Make the manager."""
        settings = dict(self.settings or {})
        if not isinstance(self.directory, CheckpointManager):
            settings |= {"max_checkpoints": self.keep_last, "max_best_checkpoints": self.keep_best, "mode": self.mode}
            settings = {"background": True, "monitor": None, **settings}
        self.manager_ = manager_of(self.directory, **settings)
        self.warn_once_ = WarnOnce()
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        """Load the newest usable state, if asked for."""
        if self.resume and len(net.history) == 0:
            state = self.manager_.resume(map_location=net.device)
            if state is not None:
                load_into(net, state)

    def on_epoch_end(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **_: Any) -> None:
        """Save the net."""
        line = numbers({name: value for name, value in net.history[-1].items() if name != "batches"})
        line.pop("epoch", None)
        if self.monitor is not None and self.monitor not in line:
            self.warn_once_(
                f"the history has no column {self.monitor!r}: checkpoints have no metric. It has: "
                f"{', '.join(sorted(line))}"
            )
        save_state(
            self.manager_,
            state_of(net),
            epoch=len(net.history),
            metric=line.get(self.monitor) if self.monitor is not None else None,
            metadata=line,
        )

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        """Wait until every save is durable."""
        self.manager_.wait()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the manager, so that a net can be pickled."""
        return {name: value for name, value in self.__dict__.items() if name not in {"manager_", "warn_once_"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the manager again."""
        self.__dict__.update(state)
        self.initialize()


def state_of(net: Any) -> dict[str, Any]:
    """Return the state of an initialized net, as tensors and plain values."""
    state: dict[str, Any] = {name: getattr(net, name).state_dict() for name in _names(net)}
    return {**state, "history": [_plain(line) for line in net.history]}


def load_into(net: Any, state: dict[str, Any]) -> None:
    """Load a state of `state_of` into an initialized net of the same parts.

    Raises
    ------
    KeyError
        The net has a part that the state lacks.
    """
    for name in _names(net):
        getattr(net, name).load_state_dict(state[name])
    net.history.clear()
    net.history.extend(state["history"])


def _names(net: Any) -> Iterator[str]:
    """Yield the attributes that hold the parts of a net."""
    for part in _PARTS:
        for name in getattr(net, part):
            yield name if name.endswith("_") else f"{name}_"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value
