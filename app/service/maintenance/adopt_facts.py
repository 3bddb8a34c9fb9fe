"""Facts of external checkpoints: from their names, the records of their tools, and agreement among them."""

from collections.abc import Iterable
from contextlib import closing

from app.catalog import Catalog
from app.core.errors import Refusal
from app.core.models import Directory, Facts, Mode
from app.formats import trainer_state
from app.formats.foreign_names import ExternalCheckpoint, ExternalFacts, direction, facts_in_name
from app.service.maintenance.adopt_scan import joined
from app.storage.ports import ExternalFolder


def record_of(visited: ExternalFolder, path: str, external: ExternalCheckpoint) -> ExternalFacts:
    """Read the facts that the name of a checkpoint and the record of its tool state."""
    named = facts_in_name(external.name, is_folder=external.is_folder)
    sizes = {file: size_bytes for file, size_bytes, _ in external.files}
    if not external.is_folder or not 0 < sizes.get(trainer_state.NAME, 0) <= trainer_state.MAX_BYTES:
        return named
    try:
        with closing(visited.open(joined(path, external.name, trainer_state.NAME))) as opened:
            said = trainer_state.read(opened.read(0, sizes[trainer_state.NAME]))
    except (OSError, Refusal):
        return named
    step = named.step if named.step is not None else said.step
    epoch = named.epoch if named.epoch is not None else said.epoch
    return ExternalFacts(epoch, step, {**named.values, **said.values}, said.metric or named.metric)


def metric_of(catalog: Catalog, directory: Directory, said: Iterable[ExternalFacts]) -> tuple[str | None, Mode | None]:
    """Choose the metric of all adopted checkpoints, and its mode; None unless all of them agree on it."""
    names = {one.metric for one in said if one.metric is not None}
    metric = names.pop() if len(names) == 1 else None
    mode = direction(metric) if metric is not None else None
    if mode is None or directory.policy.mode not in {None, mode}:
        return None, None
    if directory.policy.mode is None:
        with catalog.reading() as session:
            if any(one.facts.metric is not None for one in session.checkpoints.live(directory.name)):
                return None, None
    return metric, mode


def facts(said: ExternalFacts, metric: str | None) -> Facts:
    """Make the facts of a checkpoint, given the metric on which all agree."""
    value = said.values.get(metric) if metric is not None and said.metric == metric else None
    return Facts(epoch=said.epoch, step=said.step, metric=value, metadata=dict(said.values))
