"""Facts of external checkpoints: from their names, the records of their tools, and agreement among them."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace

from app.catalog import Catalog
from app.core.errors import Refusal
from app.core.models import Directory, Facts, Mode
from app.formats import tool_records
from app.formats.foreign_names import ExternalCheckpoint, ExternalFacts, direction, facts_in_name
from app.service.maintenance.adopt_scan import joined
from app.storage.ports import ExternalFolder


@dataclass(frozen=True, slots=True)
class Ranking:
    """The value that ranks adopted checkpoints, and the mode."""

    metric: str
    mode: Mode


def record_of(visited: ExternalFolder, path: str, external: ExternalCheckpoint) -> ExternalFacts:
    """Read the facts that the name of a checkpoint and the record of its tool state."""
    parent = (path or visited.address).rpartition("/")[2]
    named = facts_in_name(external.name, is_folder=external.is_folder, parent=parent)
    sizes = {file: size_bytes for file, size_bytes, _ in external.files if external.is_folder}
    records = (tool_records.TRAINER_STATE, tool_records.METRICS)
    record = next((name for name in records if 0 < sizes.get(name, 0) <= tool_records.MAX_BYTES), None)
    if record is None:
        return named
    try:
        with closing(visited.open(joined(path, external.name, record))) as opened:
            said = tool_records.read(record, opened.read(0, sizes[record]))
    except (OSError, Refusal):
        return named
    step = named.step if named.step is not None else said.step
    epoch = named.epoch if named.epoch is not None else said.epoch
    values = {**named.values, **said.values}
    return replace(named, epoch=epoch, step=step, values=values, metric=said.metric or named.metric)


def metric_of(
    catalog: Catalog, directory: Directory, said: Iterable[ExternalFacts], chosen: Ranking | None = None
) -> Ranking | None:
    """Choose the metric of all adopted checkpoints, and its mode; None unless all of them agree on it.

    Parameters
    ----------
    chosen : Ranking, optional
        The choice of the operator, which counts if any checkpoint has that value.
    """
    if chosen is not None:
        return chosen if any(chosen.metric in one.values for one in said) else None
    names = {one.metric for one in said if one.metric is not None}
    metric = names.pop() if len(names) == 1 else None
    mode = direction(metric) if metric is not None else None
    if metric is None or mode is None or directory.policy.mode not in {None, mode}:
        return None
    if directory.policy.mode is None:
        with catalog.reading() as session:
            if any(one.facts.metric is not None for one in session.checkpoints.live(directory.name)):
                return None
    return Ranking(metric, mode)


def facts(said: ExternalFacts, ranking: Ranking | None) -> Facts:
    """Make the facts of a checkpoint, given the metric that ranks all of them."""
    value = said.values.get(ranking.metric) if ranking is not None else None
    return Facts(kind=said.kind, epoch=said.epoch, step=said.step, metric=value, metadata=dict(said.values))
