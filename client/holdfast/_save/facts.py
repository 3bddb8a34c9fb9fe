"""Facts of a save: the arguments of one call as they are sent to the server."""

from collections.abc import Iterable, Mapping
from typing import Any

from .._arguments import values
from .._arguments.name_grammar import check_checkpoint

RETENTIONS = ("policy", "manual")


def facts_of(
    kind: str,
    epoch: Any,
    step: Any,
    metric: float | None,
    metadata: Mapping[str, Any],
    *,
    is_best: bool = False,
    tags: str | Iterable[str] | None = None,
    pinned: bool = False,
    name: str | None = None,
    retention: str = "policy",
) -> dict[str, Any]:
    """Check the arguments of a save, and return them as JSON.

    Parameters
    ----------
    kind : {'regular', 'best'}
    retention : {'policy', 'manual'}

    Raises
    ------
    TypeError, ValueError
        One of them cannot be stored.
    """
    if retention not in RETENTIONS:
        raise ValueError(f"retention must be {' or '.join(map(repr, RETENTIONS))}, not {retention!r}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a text, not {name!r}")
    later = {"step": values.counter("step", step), "retention": retention if retention != "policy" else None}
    return {
        "kind": kind,
        "epoch": values.counter("epoch", epoch),
        "metric": values.number_to_wire(metric),
        "is_best": is_best,
        "pinned": values.flag("pinned", pinned),
        "tags": values.tags(tags),
        "metadata": values.metadata(metadata),
        **{fact: value for fact, value in later.items() if value is not None},  # servers of 0.1.0 know none of them
        **({"name": check_checkpoint(name)} if name is not None else {}),
    }
