"""The callback: when to save, with which facts, and what to resume from."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..._arguments import checks
from ..._options import Mode
from ...errors import CheckpointNotFound, HoldfastError, InvalidRequest, WarnOnce
from ...manager import CheckpointManager
from .._common.ranks import require_agreement
from .._common.saves import manager_of, numbers, save_state
from .._common.urls import SCHEME

_RESUMED = "@resume"
_SHARDED = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")


class HoldfastCheckpoint(Checkpoint):
    """Saves the state of a `Trainer` after each epoch, or at some steps; the server keeps the last and the best.

    Every checkpoint has the epoch, the step, and the logged values of that moment as metadata. Saves are in the
    background; `fit` returns once all are durable. After SIGTERM, Lightning ends the step, and the state is saved.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    monitor : str, optional
        The logged value that ranks the checkpoints. One that was not logged at the very step is not used.
    mode : {'min', 'max'}
        Whether a smaller or a larger value is better.
    keep_last, keep_best : int or None
        The number of newest, and of best checkpoints to keep; None keeps all.
    every_n_epochs : int or None
        The interval of saves at the end of epochs; None saves at steps only.
    every_n_train_steps : int, optional
        The interval of saves at steps.
    save_weights_only : bool
        Whether to save the weights without the state of the training, from which it could not be resumed.
    background : bool
        Whether a save returns as soon as it has a snapshot of the state.
    **settings
        Further parameters of `CheckpointManager`: ``server``, ``token``, ``spool_dir`` and so on.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid.
    """

    def __init__(
        self,
        directory: str | Path | CheckpointManager,
        monitor: str | None = None,
        mode: Mode = "min",
        keep_last: int | None = 3,
        keep_best: int | None = 3,
        *,
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        save_weights_only: bool = False,
        background: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__()
        if not isinstance(directory, CheckpointManager):
            settings |= {"max_checkpoints": keep_last, "max_best_checkpoints": keep_best, "mode": mode}
            settings |= {"background": background, "monitor": None}
        self.manager = manager_of(directory, **settings)
        self.monitor = checks.text("monitor", monitor)
        self._every_n_epochs = checks.limit("every_n_epochs", every_n_epochs, least=1)
        self._every_n_train_steps = checks.limit("every_n_train_steps", every_n_train_steps, least=1)
        self._save_weights_only = checks.switch("save_weights_only", save_weights_only)
        self._resumed: dict[str, Any] | None = None
        self._warn_once = WarnOnce()
        self._last_saved = -1
        self._evaluated_at = -1
        self._before: dict[str, float] = {}
        self._evaluated: set[str] = set()

    @property
    def state_key(self) -> str:
        """The key of this callback's state in checkpoints."""
        return str(self._generate_state_key(directory=str(self.manager.checkpoint_dir), monitor=self.monitor))

    def resume(self, *, weights_only: bool = True) -> str | None:
        """Load the newest usable state, for ``fit(ckpt_path=callback.resume())``.

        It comes from the server, the spool or the cache, as for `CheckpointManager.resume`; every rank loads it. If the
        ranks have found different ones, `fit` fails on each of them.

        Parameters
        ----------
        weights_only : bool
            As for ``torch.load``. False lets the checkpoint run code: only for files that you trust.

        Returns
        -------
        str or None
            A name for `fit` to load it by; None if there is no checkpoint yet.
        """
        self._resumed = self.manager.resume(map_location="cpu", weights_only=weights_only)
        return None if self._resumed is None else f"{self._url}{_place_of(self._resumed).replace(' ', '-')}"

    # the hooks of Lightning

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Prepare to load what `resume` has found, and refuse what cannot be saved whole."""
        _refuse_sharded(trainer.strategy)
        trainer.strategy.checkpoint_io = _Resuming(self, trainer.strategy.checkpoint_io)
        if stage == "fit":
            self._refuse_twins(trainer)
            require_agreement(_place_of(self._resumed), "resume from different places; call resume() on every rank")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Save at a step."""
        every, step = self._every_n_train_steps, trainer.global_step
        if every is not None and step % every == 0 and step != self._last_saved:
            self._save(trainer)

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        """Note what was logged before."""
        self._before = numbers(trainer.callback_metrics)

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        """Note what was evaluated, and at which step; a checkpoint of this very step receives it."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = numbers(trainer.callback_metrics)
        self._evaluated |= {name for name, value in found.items() if self._before.get(name) != value}
        self._evaluated_at = trainer.global_step
        if self._last_saved == trainer.global_step and self.monitor in self._evaluated:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        """Save at the end of an epoch, and warn of a value that is never logged."""
        is_evaluated = self._evaluated_at >= 0 or not trainer.enable_validation
        logged = numbers(trainer.callback_metrics)
        if self.monitor is not None and self.monitor not in logged and is_evaluated:
            self._warn_once(
                f"{self.monitor!r} is not logged: checkpoints have no metric. "
                f"Logged: {', '.join(sorted(logged)) or 'nothing'}"
            )
        if self._every_n_epochs is not None and (trainer.current_epoch + 1) % self._every_n_epochs == 0:
            self._save(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Save before the end of a training that is preempted."""
        is_new = trainer.global_step not in {0, self._last_saved}
        if isinstance(exception, SIGTERMException) and is_new and not trainer.sanity_checking:
            self._save(trainer)
            self.manager.wait()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Wait until every save is durable, and forget what was resumed from."""
        self._resumed = None
        if isinstance(trainer.strategy.checkpoint_io, _Resuming):
            trainer.strategy.checkpoint_io = trainer.strategy.checkpoint_io.inner
        self.manager.wait()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the state to resume from: a spawned process loads it itself."""
        return {**self.__dict__, "_resumed": None}

    # saving and loading

    @property
    def _url(self) -> str:
        return f"{SCHEME}{self.manager.checkpoint_dir}/{_RESUMED}-"

    def _refuse_twins(self, trainer: Any) -> None:
        """Refuse another callback for the same directory, whose checkpoints would have the same names."""
        directory = self.manager.checkpoint_dir
        found = [each for each in trainer.callbacks if isinstance(each, HoldfastCheckpoint)]
        if sum(each.manager.checkpoint_dir == directory for each in found) > 1:
            raise InvalidRequest(f"several HoldfastCheckpoint save to {directory}: give each its own", code="invalid")

    def _save(self, trainer: Any) -> None:
        if trainer.fast_dev_run:
            return
        self._last_saved = trainer.global_step
        logged = self._logged(trainer)
        save_state(
            self.manager,
            trainer._checkpoint_connector.dump_checkpoint(self._save_weights_only),
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            metric=logged.get(self.monitor) if self.monitor is not None else None,
            metadata=logged,
        )

    def _logged(self, trainer: Any) -> dict[str, Any]:
        """Return the logged values without those of an evaluation of another step."""
        stale = self._evaluated if self._evaluated_at != trainer.global_step else set()
        return {name: value for name, value in numbers(trainer.callback_metrics).items() if name not in stale}

    def _state_to_resume(self, map_location: Any, weights_only: bool | None) -> dict[str, Any]:
        state: dict[str, Any] | None = self._resumed
        self._resumed = None
        if state is None:  # in a process that was spawned since, or for the second time
            is_safe = weights_only is not False
            state = self.manager.resume(map_location=map_location or "cpu", weights_only=is_safe)
        if state is None:
            raise CheckpointNotFound(f"{self.manager.checkpoint_dir} holds no checkpoint", code="checkpoint_not_found")
        return state


class _Resuming(CheckpointIO):
    """Loads the state that a callback has found to resume from; all else goes to another `CheckpointIO`."""

    def __init__(self, callback: HoldfastCheckpoint, inner: CheckpointIO) -> None:
        super().__init__()
        self.inner = inner
        self._callback = callback

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.inner.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        if str(path).startswith(self._callback._url):
            return self._callback._state_to_resume(map_location, weights_only)
        options = {} if map_location is None else {"map_location": map_location}
        found: dict[str, Any] = self.inner.load_checkpoint(path, weights_only=weights_only, **options)
        return found

    def remove_checkpoint(self, path: Any) -> None:
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        self.inner.teardown()


def _place_of(state: dict[str, Any] | None) -> str:
    """Describe where a training stood, in words."""
    return "the beginning" if state is None else f"epoch {state.get('epoch')} step {state.get('global_step')}"


def _refuse_sharded(strategy: Any) -> None:
    """Refuse strategies whose ranks hold parts of the state, unless they gather it."""
    kinds = {kind.__name__ for kind in type(strategy).__mro__} & set(_SHARDED)
    is_whole = getattr(strategy, "_state_dict_type", None) == "full" or (
        getattr(strategy, "_save_distributed_checkpoint", True) is False
    )
    if kinds and not is_whole:
        raise HoldfastError(
            f"{min(kinds)} saves a part of the state on each rank. Use state_dict_type='full' (FSDP) or "
            "save_distributed_checkpoint=False (ModelParallel), or save with holdfast.integrations.dcp",
            code="sharded_state",
        )
