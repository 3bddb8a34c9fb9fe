"""Which process of a distributed job saves, and what the others answer."""

import os
import sys
from collections.abc import Mapping

from .._api.directory import Best


def rank_of_process(given: int | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """The rank of this process: what was given, else what torch.distributed says, else ``RANK``, else 0.

    ``RANK`` counts only beside a ``WORLD_SIZE`` above 1, as torchrun sets both. Nothing is imported for it.
    """
    if given is not None:
        return given
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    rank, size = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
    return int(rank) if rank.isdecimal() and size.isdecimal() and int(size) > 1 else 0


class Followed:
    """What another process makes of a save, as far as one can tell without talking to it.

    Ranks that do not save are asked by the same training loop whether the state was the best so far. They guess it from
    what the server holds, whether or not the save of rank 0 has arrived there.
    """

    def __init__(self) -> None:
        self._seen = ""

    def improves(self, metric: float, best: Best | None, name: str | None) -> bool:
        """Whether a metric is better than the best, or that best is the very save that is asked about.

        Parameters
        ----------
        metric : float
        best : Best or None
            What the server holds now.
        name : str or None
            The name of the save that is asked about, if an epoch gives it one.
        """
        if best is None or best.checkpoint.metric is None:
            return True
        held, is_new = best.checkpoint.metric, best.checkpoint.id != self._seen
        self._seen = best.checkpoint.id
        if metric == held:
            return best.checkpoint.name == name if name is not None else is_new
        return (metric < held) == (best.mode == "min")
