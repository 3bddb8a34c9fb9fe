"""Agreement of the ranks of a job, if torch.distributed is initialised."""

import sys
from typing import Any

from ...errors import HoldfastError


def require_agreement(value: Any, deed: str) -> None:
    """Raise an error on every rank unless all have the same value. Collective.

    Parameters
    ----------
    value : object
        It can be pickled and compared.
    deed : str
        What ranks with different values would do, for the message.

    Raises
    ------
    HoldfastError
        The values differ (``ranks_disagree``).
    """
    found = gathered(value)
    if any(other != found[0] for other in found):
        listed = ", ".join(f"rank {rank}: {other!r}" for rank, other in enumerate(found[:8]))
        raise HoldfastError(f"the ranks would {deed}: {listed}", code="ranks_disagree")


def rank_of_job() -> int:
    """Return the rank of this process in torch.distributed; 0 without it."""
    return int(sys.modules["torch.distributed"].get_rank()) if _is_distributed() else 0


def gathered(value: Any) -> list[Any]:
    """Return the values of all ranks, in their order; that of this process alone without torch.distributed."""
    if not _is_distributed():
        return [value]
    distributed = sys.modules["torch.distributed"]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def _is_distributed() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()
