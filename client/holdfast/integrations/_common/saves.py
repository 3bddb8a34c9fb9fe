"""Saves with facts as a mapping: a framework names its metrics as it likes, also ``epoch`` or ``name``."""

from collections.abc import Mapping
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..._arguments import checks, values
from ..._runtime.interruption import reraise
from ..._save.facts import facts_of
from ..._save.folder import file_to_save, folder_to_save
from ..._transfer.folders.local_files import LocalFiles
from ...errors import CheckpointNotFound
from ...manager import CheckpointManager

if TYPE_CHECKING:
    from ..._shared.save import SharedSave

Kind = Literal["regular", "best"]


def manager_of(directory: str | Path | CheckpointManager, **settings: Any) -> CheckpointManager:
    """Return the manager that was given, or make one for a directory.

    Raises
    ------
    TypeError
        There is no such setting, or a manager was given beside some.
    """
    known = signature(CheckpointManager.__init__).parameters
    for name in settings:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise TypeError(f"there is no parameter {name!r}, here or of CheckpointManager{hint}")
    if not isinstance(directory, CheckpointManager):
        return CheckpointManager(directory, **settings)
    given = sorted(name for name, value in settings.items() if value is not None)
    if given:
        raise TypeError(f"a manager was given, which has its own {', '.join(given)}")
    return directory


def save_state(
    manager: CheckpointManager,
    state: Any,
    *,
    metadata: Mapping[str, Any],
    kind: Kind = "regular",
    epoch: int | None = None,
    step: int | None = None,
    metric: Any = None,
    wait: bool | None = None,
    **about: Any,
) -> Path:
    """Save a state as `CheckpointManager.save` does, with metadata that may have any names."""
    facts = facts_of(kind, epoch, step, values.metric(metric), metadata, **about)
    return manager._save(state, "best" if kind == "best" else "checkpoint", facts, checks.choice("wait", wait))


def save_files(
    manager: CheckpointManager,
    path: Path,
    *,
    metadata: Mapping[str, Any],
    epoch: int | None = None,
    step: int | None = None,
    metric: Any = None,
    wait: bool | None = None,
    **about: Any,
) -> Path:
    """Save a local file or folder as a manager does, under its own name, with metadata that may have any names.

    It replaces only what has that name when it is sent.
    """
    facts = facts_of("regular", epoch, step, values.metric(metric), metadata, **about)
    make = folder_to_save if path.is_dir() else file_to_save

    def guarded(path: Path, name: str) -> LocalFiles:
        files = make(path, name)
        files.guards_name = True
        return files

    return manager._save_files(path, guarded, facts, wait)


def shared_save(
    manager: CheckpointManager,
    name: str,
    *,
    save_id: str,
    writer: str,
    writers: list[str],
    expected: Mapping[str, str],
    metadata: Mapping[str, Any],
    epoch: int | None = None,
    step: int | None = None,
    metric: Any = None,
    **about: Any,
) -> "SharedSave":
    """Begin a part of a checkpoint as `CheckpointManager.shared_save` does, with metadata that may have any names.

    Parameters
    ----------
    expected : mapping
        The precondition: what `state_of_name` returned on one of the ranks.
    """
    from ..._shared.begin import begin

    facts = facts_of("regular", epoch, step, values.metric(metric), metadata, **about, name=name)
    terms = {"writers": writers, "attempt": 0, "commit_when_ready": False}
    save = {**facts, "directory": manager._remote.name, "policy": manager._policy, "save_id": save_id}
    return begin(manager._remote.server, manager.checkpoint_dir / name, save, writer, terms, expected)


def state_of_name(manager: CheckpointManager, name: str) -> dict[str, str]:
    """Return the precondition that what has a name now is still there, or still nothing.

    Another job that saves under the name meanwhile is not overwritten: the later of the two fails.
    """
    try:
        return {"If-Match": manager._remote.named(name).digest}
    except CheckpointNotFound:
        return {"If-None-Match": "*"}


def numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are numbers, or tensors and arrays of one; the rest is left out."""
    result: dict[str, Any] = {}
    for name, value in found.items():
        try:
            number = values.metric(value)
        except (TypeError, ValueError) as error:
            reraise(error)
            continue
        if number is not None:
            result[str(name)] = number
    return result
