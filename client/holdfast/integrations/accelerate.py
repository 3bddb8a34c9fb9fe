"""Accelerate: saves and loads the state of an `Accelerator` on all ranks, as one checkpoint."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ..errors import InvalidRequest
from ..manager import CheckpointManager
from ._common.nodes import Node, node_of_rank, on_every_rank, on_one_rank, send_folder
from ._common.ranks import gathered, require_agreement
from ._common.saves import manager_of


def save_state(
    accelerator: Any,
    directory: str | Path | CheckpointManager,
    *,
    epoch: int | None = None,
    step: int | None = None,
    metric: float | None = None,
    name: str | None = None,
    retention: Literal["policy", "manual"] = "policy",
    metadata: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Save the state of an accelerator as one checkpoint; every rank calls it, and it is durable when this returns.

    Accelerate writes into a temporary folder of each node, and the first rank of the node sends it. While the server is
    away, a copy waits in the spool of the node, if there is one node.

    Parameters
    ----------
    accelerator : Accelerator
        With the model, the optimizers and the rest prepared.
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    epoch, step, metric, retention
        As for `CheckpointManager.save`, and the same on every rank.
    name : str, optional
        Its name. Default: ``checkpoint_epoch_3_step_100`` by what is given; one of the three is needed.
    metadata : mapping, optional
        Further JSON values.
    settings : mapping, optional
        Further parameters of `CheckpointManager`.
    **options
        For ``accelerator.save_state``.

    Returns
    -------
    Path
        ``checkpoint_dir / name``.

    Raises
    ------
    InvalidRequest
        No name or counter is given, or the accelerator names its checkpoints itself.
    HoldfastError
        The save failed on a rank, or the ranks do not agree; then it is raised on every rank.
    """
    if accelerator.project_configuration.automatic_checkpoint_naming:
        raise InvalidRequest(
            "automatic_checkpoint_naming makes Accelerate write elsewhere than it is told: turn it off, as the server "
            "numbers and prunes the checkpoints",
            code="invalid",
        )
    manager = manager_of(directory, **(settings or {}))
    name = name or _default_name(epoch, step)
    facts = {"epoch": epoch, "step": step, "metric": metric, "retention": retention, "metadata": dict(metadata or {})}
    require_agreement((str(manager.checkpoint_dir), name, facts), "save different checkpoints")
    with _folder_of_node() as (_, folder):
        on_every_rank(lambda: accelerator.save_state(str(folder / name), **options))
        accelerator.wait_for_everyone()
        return send_folder(manager, folder / name, name=name, wait=True, **facts)


def load_state(
    accelerator: Any,
    directory: str | Path | CheckpointManager,
    which: str = "latest",
    *,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path | None:
    """Load the state of an accelerator; every rank calls it.

    Parameters
    ----------
    which : str
        ``"latest"``, ``"best"``, or the name of a checkpoint.
    settings : mapping, optional
        Further parameters of `CheckpointManager`.
    **options
        For ``accelerator.load_state``.

    Returns
    -------
    Path or None
        ``checkpoint_dir / name`` of what was loaded; None if there is no latest or best one.

    Raises
    ------
    CheckpointNotFound
        There is no checkpoint of that name.
    HoldfastError
        The load failed on a rank; then it is raised on every rank.
    """
    manager = manager_of(directory, **(settings or {}))
    with _folder_of_node() as (node, folder):
        name = on_one_rank(lambda: _fetch(manager, which, folder))
        if name is None:
            return None
        on_every_rank(lambda: node.is_first and node.number > 0 and manager.load_folder(name, to=folder))
        on_every_rank(lambda: accelerator.load_state(str(folder / name), **options))
        accelerator.wait_for_everyone()
        return manager.checkpoint_dir / name


def _fetch(manager: CheckpointManager, which: str, folder: Path) -> str | None:
    """Put the chosen checkpoint into a folder; return its name, or None if there is none."""
    if which == "latest":
        found = manager.resume(to=folder)
    else:
        found = manager.load_folder(None if which == "best" else which, to=folder, which="best")
    return found.name if found is not None else None


@contextmanager
def _folder_of_node() -> Iterator[tuple[Node, Path]]:
    """Yield the node of this rank, and a temporary folder that the ranks of the node share. Collective."""
    node = node_of_rank()
    key = gathered(secrets.token_hex(8))[0]
    folder = Path(tempfile.gettempdir()) / f"holdfast-{key}-{node.number}"
    on_every_rank(lambda: folder.mkdir(mode=0o700) if node.is_first else None)
    try:
        yield node, folder
    finally:
        if node.is_first:
            shutil.rmtree(folder, ignore_errors=True)


def _default_name(epoch: int | None, step: int | None) -> str:
    counters = [f"{name}_{value}" for name, value in (("epoch", epoch), ("step", step)) if value is not None]
    if not counters:
        raise InvalidRequest("give an epoch, a step or a name: every rank needs the same name", code="invalid_name")
    return "_".join(["checkpoint", *counters])
