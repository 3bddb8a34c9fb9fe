"""The table of metrics, from the registry of a server that has a quota of each kind and removed one of each reason."""

import dataclasses
import typing
from typing import Any

from app.api.prometheus import ProcessFigures, registry
from app.catalog.reports.statistics import Statistics
from app.core.quotas import Quota, Usage
from scripts.reference.markdown import code, sentence
from scripts.reference.markdown import table as a_table


def table(_: str) -> str:
    """Return each metric with its type, its labels and its help text."""
    rows = []
    for metric in _registry().collect():
        suffix = "_total" if metric.type == "counter" else ""
        labels = sorted({label for sample in metric.samples for label in sample.labels})
        name = f"{metric.name}{suffix}" + (f"{{{','.join(labels)}}}" if labels else "")
        rows.append((code(name), metric.type, sentence(metric.documentation)))
    return a_table(("metric", "type", "description"), sorted(rows))


def _registry() -> Any:
    process = ProcessFigures(longest_stall_s=lambda: 0.0, scrubbed_bytes=lambda: 0, free_bytes=lambda: 0)
    quotas = [(Quota("runs", max_bytes=1, max_checkpoints=1), Usage(0, 0))]
    return registry(_Counts(), process, lambda _: quotas)


class _Counts:
    def statistics(self, prefix: str = "") -> Statistics:
        """Return zeros, and one removal so that its label is known."""
        types = typing.get_type_hints(Statistics)
        values: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Statistics)}
        values.update(
            {name: {"pruned": 1} for name, kind in types.items() if typing.get_origin(kind) not in (None, int)}
        )
        return Statistics(**values)
