"""Facts about a checkpoint from the records that its tool wrote into it. Hostile input; pure."""

import json
from collections.abc import Mapping
from typing import Any

from app.core import ranking
from app.formats.foreign_names import ExternalFacts, direction

TRAINER_STATE = "trainer_state.json"
"""The record of Transformers."""
METRICS = "metrics/metrics"
"""The record of Orbax."""
MAX_BYTES = 16 * 1024 * 1024
_MOST = 2**63 - 1
_MOST_VALUES = 100
_NO_METRICS = ("runtime", "per_second", "samples", "_time", "epoch", "step")


def read(name: str, data: bytes) -> ExternalFacts:
    """Parse a record; no facts if it is malformed."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return ExternalFacts()
    if not isinstance(record, dict):
        return ExternalFacts()
    return _of_trainer(record) if name == TRAINER_STATE else _of_metrics(record)


def _of_metrics(record: Mapping[str, Any]) -> ExternalFacts:
    values = dict(list(_values(record).items())[:_MOST_VALUES])
    ranked = [name for name in values if direction(name) is not None]
    return ExternalFacts(values=values, metric=ranked[0] if len(ranked) == 1 else None)


def _of_trainer(record: Mapping[str, Any]) -> ExternalFacts:
    """Read epoch, step and the evaluation at that step."""
    step = _count(record.get("global_step"))
    history = [line for line in _list(record.get("log_history")) if isinstance(line, dict)]
    values = _evaluated(history, step)
    return ExternalFacts(_count(record.get("epoch")), step, values, _metric(record, history, values))


def _evaluated(history: list[dict[str, Any]], step: int | None) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for line in history:
        if step is not None and _count(line.get("step")) == step:
            found |= {name: value for name, value in _values(line).items() if name.startswith("eval_")}
    return dict(list(found.items())[:_MOST_VALUES])


def _values(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line; those under names that cannot be shown are left out."""
    named = {name: value for name, value in line.items() if len(name) <= 200 and name.isprintable()}
    numbers = {name: ranking.finite(value) for name, value in named.items()}
    return {name: value for name, value in numbers.items() if value is not None and not name.endswith(_NO_METRICS)}


def _metric(record: Mapping[str, Any], history: list[dict[str, Any]], values: Mapping[str, float]) -> str | None:
    """Return the metric that explains the best value of the run; else the only one; else the loss."""
    best = ranking.finite(record.get("best_metric"))
    explain = {name for name in values if best is not None and any(line.get(name) == best for line in history)}
    for names in (explain, set(values), explain & {"eval_loss"}, set(values) & {"eval_loss"}):
        if len(names) == 1:
            return names.pop()
    return None


def _count(value: object) -> int | None:
    """Return a whole number; Transformers writes epochs as floats."""
    if isinstance(value, bool) or not isinstance(value, int | float) or (number := ranking.finite(value)) is None:
        return None
    return int(value) if 0 <= value <= _MOST and number == int(value) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
