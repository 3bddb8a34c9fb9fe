"""Saves with facts as a mapping: a framework names its metrics as it likes, also ``epoch`` or ``name``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..._arguments import checks, values
from ..._save.facts import facts_of
from ...manager import CheckpointManager

Kind = Literal["regular", "best"]


def manager_of(directory: str | Path | CheckpointManager, **settings: Any) -> CheckpointManager:
    """Return the manager that was given, or make one for a directory."""
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


def numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are numbers, or tensors and arrays of one; the rest is left out."""
    result: dict[str, Any] = {}
    for name, value in found.items():
        try:
            number = values.metric(value)
        except (TypeError, ValueError):
            continue
        if number is not None:
            result[str(name)] = number
    return result
