"""Outcomes of saves: what the user should know of one that has arrived. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from .._api.wire import Committed


def warnings_of(committed: Committed, directory: str, policy: Mapping[str, Any]) -> Iterator[str]:
    """Yield the warnings about a save.

    Parameters
    ----------
    directory : str
        The server's name of the directory.
    policy : mapping
        The policy that the save has sent.
    """
    other = committed.other_writer
    if other is not None:
        yield (
            f"another process ({other}) saved to {directory!r} a moment ago. If that is another job, give each its "
            "own checkpoint_dir, or set HOLDFAST_PREFIX; if it is this job before a restart, all is well."
        )
    if committed.loss is not None:
        yield f"{committed.loss}. If it was this job before a restart, all is well."
    in_force = {name: committed.policy[name] for name in committed.policy["set_by_operator"]}
    stronger = [f"{name}={value}" for name, value in in_force.items() if value != policy.get(name)]
    if stronger:
        yield f"an operator's limits are in force for {directory!r}: {', '.join(stronger)}"
