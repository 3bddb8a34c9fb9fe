"""Filters and order of a list of checkpoints, checked before anything is sent. Pure."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from .._arguments import checks, values
from .._arguments.name_grammar import check_checkpoint, check_tag
from .._options import checked_mode

ORDERS = ("position", "best", "epoch", "step", "metric", "created_at", "name", "size_bytes")
"""The orders of a list; all but ``best`` can be reversed with a leading ``-``."""


def query_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a list for filters by name; None filters nothing.

    Raises
    ------
    TypeError
        There is no such filter, or a value has the wrong type.
    ValueError
        The server takes no such value, or the filters contradict each other.
    """
    for name in given:
        if name not in _CHECKS:
            raise TypeError(f"there is no filter {name!r}: the filters are {', '.join(_CHECKS)}")
    found = {name: _CHECKS[name](name, value) for name, value in given.items() if value is not None}
    if found.get("order_by") != "best" and (found.keys() & {"by", "mode"}):
        raise ValueError("by and mode rank checkpoints: they need order_by='best'")
    for name in ("epoch", "step", "metric"):
        least, most = found.get(f"{name}_min"), found.get(f"{name}_max")
        if least is not None and most is not None and least > most:
            raise ValueError(f"{name}_min must not be greater than {name}_max")
    if not found.get("include_removed"):
        found.pop("include_removed", None)
    return found


def _text(name: str, value: Any) -> str:
    found = checks.text(name, value)
    assert found is not None
    return found


def _one_of(*known: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
        return value

    return check


def _finite(name: str, value: Any) -> float:
    found = values.metric(value, name)
    if found is None or not math.isfinite(found):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return found


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "order_by": _one_of(*ORDERS, *(f"-{order}" for order in ORDERS if order != "best")),
    "by": _text,
    "mode": lambda _, value: checked_mode(value),
    "name": lambda name, value: check_checkpoint(_text(name, value)),
    "kind": _one_of("regular", "best"),
    "retention": _one_of("policy", "manual"),
    "tag": lambda name, value: check_tag(_text(name, value)),
    "pinned": checks.switch,
    "is_best": checks.switch,
    "epoch_min": values.counter,
    "epoch_max": values.counter,
    "step_min": values.counter,
    "step_max": values.counter,
    "metric_min": _finite,
    "metric_max": _finite,
    "include_removed": checks.switch,
}
