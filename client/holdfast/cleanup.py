"""save_checkpoint_with_cleanup: one function for scripts that need no manager."""

from pathlib import Path
from typing import Any

from ._api.directory import RemoteDirectory
from ._api.server import Server
from ._arguments import checks
from ._arguments.name_grammar import check_checkpoint
from ._arguments.name_mapping import configured_prefix, directory_name
from ._save.drain import DRAIN_S
from ._save.saver import Saver
from ._save.target import SaveTarget
from ._spool.spool import Spool, default_folder
from .errors import WarnOnce

_warn_once = WarnOnce()


def save_checkpoint_with_cleanup(
    state: Any,
    checkpoint_dir: str | Path,
    filename: str | Path = "checkpoint.pt",
    max_to_keep: int | None = 3,
    *,
    server: str | None = None,
    token: str | None = None,
    token_file: str | Path | None = None,
    rank: int | None = None,
) -> Path:
    """Save a state under a file name, then keep the newest ``max_to_keep`` checkpoints of the directory.

    Parameters
    ----------
    state : dict
        Any object that ``torch.save`` takes.
    checkpoint_dir : str or Path
        As for `CheckpointManager`.
    filename : str or Path
        The checkpoint's name. One of the same name is replaced; the new one is durable before the old one is removed.
    max_to_keep : int or None
        The number of newest regular checkpoints to keep; None keeps all. The directory's other limits stay.
    server, token, token_file : str, optional
        As for `CheckpointManager`.
    rank : int, optional
        As for `CheckpointManager`: only rank 0 of a distributed job saves.

    Returns
    -------
    Path
        ``checkpoint_dir / filename``.

    Raises
    ------
    ValueError
        ``checkpoint_dir``, ``filename`` or ``max_to_keep`` is invalid.
    HoldfastError
        As `CheckpointManager.save`.

    Examples
    --------
    >>> for step in range(4):
    ...     path = save_checkpoint_with_cleanup({"step": step}, "runs/simple", f"step_{step}.pt", max_to_keep=2)
    >>> path
    PosixPath('runs/simple/step_3.pt')
    """
    checkpoint_dir = Path(checks.path("checkpoint_dir", checkpoint_dir))
    filename = checks.path("filename", filename)
    directory = directory_name(checkpoint_dir, configured_prefix())
    check_checkpoint(filename)
    max_to_keep = checks.limit("max_to_keep", max_to_keep, least=0)
    rank = checks.limit("rank", rank, least=0)
    remote = RemoteDirectory(Server(server, token, token_file=token_file), directory)
    target = SaveTarget(remote.server, directory, Spool(default_folder()), None, DRAIN_S)
    saver = Saver(remote, target, background=False, max_pending=1, rank=rank, find_base=None, warn_once=_warn_once)
    saver.save_as(filename, state, {"kind": "regular"}, {"max_checkpoints": max_to_keep})
    return checkpoint_dir / filename
