"""Orbax, for states of JAX: steps as `orbax.checkpoint.CheckpointManager` writes them, kept on a server.

Each checkpoint is a folder named by its step. `CheckpointManager.resume` and `load_folder` put it into a local folder
that Orbax reads as its own.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp

from ..errors import CheckpointNotFound, HoldfastError, ServerUnreachable, warn
from ..manager import CheckpointManager
from ._common.files import workspace
from ._common.saves import manager_of, numbers, save_files

__all__ = ["restore", "save", "send_steps"]

_HALF_DONE = ".orbax-checkpoint-tmp"
_TREE = "_METADATA"
"""The file of a folder that holds a state itself, not under ``default``."""


def save(
    directory: str | Path | CheckpointManager,
    step: int,
    state: Any,
    metrics: Mapping[str, Any] | None = None,
    *,
    wait: bool | None = None,
    **about: Any,
) -> Path:
    """Let Orbax write a state, and save it as the checkpoint of a step; durable as after `CheckpointManager.save`.

    In the background (``background=True`` of the manager, or ``wait=False``) it returns once Orbax has written the
    files; without a spool, once they are durable.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    step : int
        The number of steps so far. It names the checkpoint: ``100``.
    state : pytree, or orbax.checkpoint.args.CheckpointArgs
        Arrays and numbers, as for ``StandardSave``, or arguments of Orbax, such as a ``Composite``.
    metrics : mapping, optional
        Numbers by name. They become metadata, and what Orbax reads as the metrics of the step. The one that the
        manager's ``monitor`` names (``"loss"`` if ``mode="min"``) ranks the checkpoint.
    wait : bool, optional
        As for `CheckpointManager.save`.
    **about
        ``epoch``, ``tags``, ``pinned`` and ``retention``, as for `CheckpointManager.save`.

    Returns
    -------
    Path
        The path of the checkpoint.

    Raises
    ------
    HoldfastError
        The job has several processes (``several_processes``): each holds a part of the state. Otherwise as for
        `CheckpointManager.save_folder`.
    """
    manager = manager_of(directory)
    if jax.process_count() > 1:
        raise HoldfastError(
            "several processes hold the state: save with orbax.checkpoint.CheckpointManager in a folder that all of "
            "them share, and let send_steps() send it",
            code="several_processes",
        )
    found = numbers(metrics or {})
    with workspace(manager) as (folder, must_wait):
        _write(folder, step, state, found)
        metric = found.get(manager.monitor) if manager.monitor is not None else None
        how = {"metadata": found, "step": step, "metric": metric, **about}
        return save_files(manager, folder / str(step), wait=must_wait or wait, **how)


def restore(
    directory: str | Path | CheckpointManager,
    which: Literal["latest", "best"] | int = "latest",
    target: Any = None,
) -> tuple[Any, int]:
    """Restore the state of a step, every byte verified.

    The newest comes from the server or from the spool, as for `CheckpointManager.resume`. Folders that Orbax wrote and
    the server has adopted are restored, too.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    which : {'latest', 'best'} or int
        The newest, the best, or that of a step.
    target : pytree, or orbax.checkpoint.args.CheckpointArgs, optional
        Arrays, or ``jax.ShapeDtypeStruct``, of the wanted structure, types and shardings; or arguments of Orbax.
        Without, the state is restored as it was saved, which needs the same devices.

    Returns
    -------
    tuple of object and int
        The state and its step; ``(None, 0)`` if there is none.

    Raises
    ------
    CheckpointNotFound
        There is no checkpoint of that step.
    """
    manager = manager_of(directory)
    if which not in ("latest", "best") and (isinstance(which, bool) or not isinstance(which, int)):
        raise ValueError(f"which must be 'latest', 'best' or a step, not {which!r}")
    with TemporaryDirectory(prefix="holdfast-") as to:
        place = _put(manager, which, to)
        if place is None:
            return None, 0
        return _read(place, target), _step_of(place.name) or 0


def send_steps(checkpoint_manager: Any, directory: str | Path | CheckpointManager) -> list[Path]:
    """Save the finished steps of an Orbax manager that the directory has never had; only process 0 does so.

    Call it after each save, and once more after ``wait_until_finished``. While the server is unreachable, nothing is
    sent, with a warning: the steps are in Orbax's folder, and the next call sends those that are still there.

    Parameters
    ----------
    checkpoint_manager : orbax.checkpoint.CheckpointManager
        The manager, in a local folder.
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.

    Returns
    -------
    list of Path
        The paths of the checkpoints, in the order of their steps.
    """
    manager = manager_of(directory)
    if jax.process_index() != 0:
        return []
    finished = set(checkpoint_manager.all_steps(read=True))
    places = [place for place in Path(checkpoint_manager.directory).iterdir() if _HALF_DONE not in place.name]
    folders = {_step_of(place.name): place for place in places}
    try:
        known = {each.name for each in manager._remote.checkpoints(include_removed=True)}
    except ServerUnreachable as error:
        warn(f"{error}. No step is sent; those that Orbax keeps are sent later")
        return []
    known |= {path.name for path in manager.pending}
    sent = []
    for step in sorted(finished & folders.keys()):
        folder = folders[step]
        if folder.name not in known:
            found = numbers(checkpoint_manager.metrics(step) or {})
            metric = found.get(manager.monitor) if manager.monitor is not None else None
            sent.append(save_files(manager, folder, step=step, metric=metric, metadata=found))
    return sent


def _write(folder: Path, step: int, state: Any, metrics: Mapping[str, Any]) -> None:
    """Let Orbax write a step below a folder."""
    keep_metrics = {"best_fn": lambda found: 0.0} if metrics else {}  # without it, Orbax writes none
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **keep_metrics)
    args = state if isinstance(state, ocp.args.CheckpointArgs) else ocp.args.StandardSave(state)
    with ocp.CheckpointManager(folder, options=options) as writing:
        writing.save(step, args=args, metrics=dict(metrics) or None, force=True)


def _put(manager: CheckpointManager, which: Literal["latest", "best"] | int, to: str) -> Path | None:
    """Put the folder of a step below a folder of this machine."""
    if which == "latest":
        newest: Path | None = manager.resume(to=to)
        return newest
    manager._saver.background.wait()
    if which == "best":
        return manager.load_folder(which="best", to=to)
    try:
        return manager.load_folder(str(which), to=to)
    except CheckpointNotFound:
        for found in manager._remote.checkpoints(step_min=which, step_max=which):
            if found.is_folder:
                return manager.load_folder(found.name, to=to)
        raise


def _read(folder: Path, target: Any) -> Any:
    """Restore what Orbax wrote into a folder, of a manager or of a checkpointer alone."""
    args = target
    if target is not None and not isinstance(target, ocp.args.CheckpointArgs):
        args = ocp.args.StandardRestore(target)
    if (folder / _TREE).is_file():
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reading:
            return reading.restore(folder, args=args or ocp.args.StandardRestore())
    step = folder.rename(folder.with_name("1"))  # whatever prefix the names of a manager's steps have
    with ocp.CheckpointManager(step.parent) as reading:
        return reading.restore(1, args=args or _args_of(step))


def _args_of(step: Path) -> Any:
    """Return what makes a manager of a new process know a single state; None for several items, which it finds."""
    return ocp.args.StandardRestore() if (step / "default" / _TREE).is_file() else None


def _step_of(name: str) -> int | None:
    """Return the step that a folder's name ends with: ``100``, ``ckpt_00000100``."""
    found = re.search(r"(\d+)$", name)
    return int(found[1]) if found else None
