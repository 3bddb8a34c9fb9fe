"""PyTorch Ignite: a save handler for `ignite.handlers.Checkpoint`, which decides itself what it keeps."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.handlers.checkpoint import BaseSaveHandler

from ..errors import CheckpointNotFound, ServerUnreachable
from ..manager import CheckpointManager
from ._common.saves import Kind, manager_of, save_state

log = logging.getLogger("holdfast")


class HoldfastSaver(BaseSaveHandler):
    """Saves what a `Checkpoint` of Ignite gives it, as ``Checkpoint(to_save, HoldfastSaver("runs/a"), n_saved=2)``.

    Ignite removes what exceeds ``n_saved``, so its checkpoints have ``retention="manual"``: no limit of the server
    counts or removes them. An old one is deleted only once the new one is on the server, although Ignite
    asks for that before.

    The score ranks a checkpoint, and greater is better, as for Ignite. A `Checkpoint` of a single object saves it
    without its name: what it ranks by a score is then of the kind ``"best"``, which `CheckpointManager.resume` takes
    only if there is nothing else.

    Parameters
    ----------
    directory : str, Path or CheckpointManager
        The directory, or a manager with settings of its own.
    **settings
        Further parameters of `CheckpointManager`.

    Attributes
    ----------
    manager : CheckpointManager
        Loads what was saved: ``Checkpoint.load_objects(to_save, checkpoint=saver.manager.resume())``.
    """

    def __init__(self, directory: str | Path | CheckpointManager, **settings: Any) -> None:
        if not isinstance(directory, CheckpointManager):
            settings = {"max_checkpoints": None, "max_best_checkpoints": None, "mode": "max", **settings}
        self.manager = manager_of(directory, **settings)
        self._obsolete: list[str] = []

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Save a checkpoint under its file name, and delete those that Ignite has removed before."""
        about = dict(metadata or {})
        score = _score(about)
        is_bare = not str(about.get("basename", "checkpoint")).endswith("checkpoint")
        kind: Kind = "best" if is_bare and score is not None else "regular"
        save_state(
            self.manager,
            checkpoint,
            kind=kind,
            name=filename,
            step=_step(filename, about, score),
            metric=score,
            metadata={name: value for name, value in about.items() if value is not None and name != "priority"},
            retention="manual",
            wait=None if not self._obsolete else True,
        )
        if not self.manager.pending:  # otherwise the new one is not on the server yet
            self._delete_obsolete(besides=filename)

    def remove(self, filename: str) -> None:
        """Delete a checkpoint once its successor is durable."""
        self._obsolete.append(filename)

    def _delete_obsolete(self, besides: str) -> None:
        """Delete what Ignite has removed; what cannot be deleted now is left to the next save."""
        while self._obsolete:
            try:
                if self._obsolete[0] != besides:
                    self.manager.delete(self._obsolete[0])
            except CheckpointNotFound:
                pass
            except ServerUnreachable as error:
                log.warning("%s cannot be deleted yet: %s", self._obsolete[0], error)
                return
            del self._obsolete[0]


def _score(about: Mapping[str, Any]) -> float | None:
    """Return the score of a checkpoint; a priority that is an integer without a name is a number of steps."""
    priority = about.get("priority")
    if priority is None or (about.get("score_name") is None and isinstance(priority, int)):
        return None
    return float(priority)


def _step(filename: str, about: Mapping[str, Any], score: float | None) -> int | None:
    """Return the global step, which Ignite tells a save handler in the name only."""
    if score is None and isinstance(about.get("priority"), int):
        return int(about["priority"])
    rest = filename.removeprefix(str(about.get("basename", "")))
    found = re.match(r"_(\d+)_", rest) if score is not None else None
    return int(found[1]) if found else None
