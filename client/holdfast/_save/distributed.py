"""Ranks: decides if this process of a distributed job saves, and what a rank answers that does not."""

import os
import sys
from collections.abc import Mapping

from .._api.directory import Best


def rank_of_process(given: int | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process: the given one, else that of torch.distributed, else ``RANK``, else 0.

    ``RANK`` counts only beside a ``WORLD_SIZE`` above 1, as torchrun sets both. It imports nothing.
    """
    if given is not None:
        return given
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    rank, size = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
    return int(rank) if rank.isdecimal() and size.isdecimal() and int(size) > 1 else 0


class NonZeroRank:
    """A rank that does not save: it guesses what rank 0 makes of a save from what the server holds.

    The ranks do not communicate for it. The same training loop asks every rank if the state was the best so far. The
    save of rank 0 may have arrived at the server by then, or not.
    """

    def __init__(self) -> None:
        self._seen = ""

    def improves(self, metric: float, best: Best | None, name: str | None) -> bool:
        """Tell if a metric is better than the best, or if that best is the save in question.

        Parameters
        ----------
        metric : float
        best : Best or None
            The best checkpoint that the server holds now.
        name : str or None
            The name of the save in question, if an epoch gives it one.
        """
        if best is None or best.checkpoint.metric is None:
            return True
        held, is_new = best.checkpoint.metric, best.checkpoint.id != self._seen
        self._seen = best.checkpoint.id
        if metric == held:
            return best.checkpoint.name == name if name is not None else is_new
        return (metric < held) == (best.mode == "min")
