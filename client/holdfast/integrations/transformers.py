"""Transformers: a callback that sends each checkpoint of a `Trainer`, and a function that puts the newest back."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from .._options import Mode
from ..errors import InvalidRequest, WarnOnce, warn
from ..manager import CheckpointManager
from ._common.nodes import node_of_rank, on_every_rank, on_one_rank, send_folder
from ._common.ranks import gathered
from ._common.saves import manager_of, numbers


class HoldfastCallback(TrainerCallback):
    """Sends each ``checkpoint-N`` that a `Trainer` writes, as one checkpoint with the evaluation of that very step.

    The files are held by links, so that the training goes on at once, and ``save_total_limit`` may delete the folder.
    `train` returns once every checkpoint is durable. On several nodes, the first rank of each sends what is on its
    disk, and the training waits for that.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    monitor : str, optional
        The value of the evaluation that ranks the checkpoints. Default: ``metric_for_best_model`` of the arguments,
        else ``eval_loss``.
    mode : {'min', 'max'}, optional
        Whether a smaller or a larger value is better. Default: by ``greater_is_better`` of the arguments, else ``min``
        for a loss, and ``max`` for anything else.
    keep_last, keep_best : int or None
        The number of newest, and of best checkpoints to keep; None keeps all.
    **settings
        Further parameters of `CheckpointManager`: ``server``, ``token``, ``spool_dir`` and so on.
    """

    def __init__(
        self,
        directory: str | Path | CheckpointManager,
        monitor: str | None = None,
        mode: Mode | None = None,
        keep_last: int | None = 3,
        keep_best: int | None = 3,
        **settings: Any,
    ) -> None:
        self._directory = directory
        self._monitor, self._mode = monitor, mode
        self._settings = settings
        if not isinstance(directory, CheckpointManager):
            limits = {"max_checkpoints": keep_last, "max_best_checkpoints": keep_best}
            self._settings = {**limits, "background": True, "monitor": None, **settings}
            manager_of(directory, **{**self._settings, "mode": mode or "min"})  # what is invalid is refused now
        self._manager: CheckpointManager | None = None
        self._warn_once = WarnOnce()
        self._evaluated: tuple[int, dict[str, Any]] = (-1, {})

    # the hooks of Transformers

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refuse an output folder that is a URL: the trainer would make a local folder of that name."""
        _refuse_url(args.output_dir)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make the manager by the arguments of the training."""
        _refuse_url(args.output_dir)
        self._evaluated = (-1, {})
        if args.save_strategy == "no":
            self._warn_once("save_strategy='no': the trainer writes no checkpoint, so there is none to send")
        self._monitor = self._monitor or _monitored(args)
        if self._manager is None:
            settings = self._settings
            if not isinstance(self._directory, CheckpointManager):
                settings = {**settings, "mode": self._mode or _mode_of(args, self._monitor)}
            self._manager = manager_of(self._directory, **settings)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Note an evaluation, and its step."""
        self._evaluated = (state.global_step, numbers(metrics or {}))
        if self._monitor not in self._evaluated[1]:
            self._warn_once(
                f"the evaluation has no {self._monitor!r}: checkpoints have no metric. It has: "
                f"{', '.join(sorted(self._evaluated[1]))}"
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Send the folder that was just written."""
        step, values = self._evaluated
        found = values if step == state.global_step else {}
        name = f"checkpoint-{state.global_step}"
        send_folder(
            self.manager,
            Path(args.output_dir) / name,
            name=name,
            epoch=int(state.epoch) if state.epoch is not None else None,
            step=state.global_step,
            metric=found.get(self._monitor or ""),
            metadata={key: value for key, value in found.items() if key not in {"epoch", "step"}},
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait until every checkpoint is durable."""
        self.manager.wait()

    @property
    def manager(self) -> CheckpointManager:
        """The manager, which exists once the training has begun."""
        if self._manager is None:
            raise RuntimeError("the manager is made when the training begins, by its arguments")
        return self._manager


def holdfast_resume(directory: str | Path | CheckpointManager, output_dir: str | Path, **settings: Any) -> str | None:
    """Put the newest usable checkpoint into a trainer's output folder, for ``train(resume_from_checkpoint=...)``.

    It comes from the server or the spool, is verified, and appears whole under its own name, ``checkpoint-N``; what is
    there with the same content is not transferred again. In a distributed job, call it on every rank after
    ``TrainingArguments``; rank 0 chooses, and the first rank of each node fetches.

    Returns
    -------
    str or None
        The folder; None if there is no checkpoint yet.

    Raises
    ------
    HoldfastError
        As `CheckpointManager.resume`; if it fails on one rank, on every rank.
    InvalidRequest
        The output folder is a URL, or the ranks are not connected yet.
    """
    _refuse_url(output_dir)
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and len(gathered(None)) == 1:
        raise InvalidRequest("call holdfast_resume after TrainingArguments, which connects the ranks", code="invalid")
    manager, node = manager_of(directory, **settings), node_of_rank()
    chosen = on_one_rank(lambda: _name(manager.resume(to=output_dir)))
    if chosen is None:
        if on_one_rank(lambda: bool(manager.find(limit=1))):
            warn(f"{manager.checkpoint_dir} has checkpoints, but none that is a folder: the training begins anew")
        return None

    def fetch() -> None:
        if node.is_first and node.number > 0:
            manager.load_folder(chosen, to=output_dir)

    on_every_rank(fetch)
    return str(Path(output_dir) / chosen)


def _name(path: Path | None) -> str | None:
    return path.name if path is not None else None


def _refuse_url(output_dir: Any) -> None:
    if str(output_dir).startswith("holdfast:/"):
        raise InvalidRequest(
            f"output_dir={str(output_dir)!r} would become a local folder of that name: give a local folder, and the "
            "directory to the callback",
            code="invalid_name",
        )


def _monitored(args: Any) -> str:
    given = args.metric_for_best_model or "loss"
    return given if given.startswith("eval_") else f"eval_{given}"


def _mode_of(args: Any, monitor: str | None) -> Mode:
    if args.greater_is_better is not None:
        return "max" if args.greater_is_better else "min"
    return "min" if monitor is None or monitor.endswith("loss") else "max"
