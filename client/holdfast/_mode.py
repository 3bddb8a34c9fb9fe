"""A directory's mode: what another one would change, and the change itself, which leaves all limits as they are."""

from itertools import islice
from typing import Any
from urllib.parse import quote

from ._directory import RemoteDirectory
from ._http import understood
from .errors import CheckpointNotFound


def change(remote: RemoteDirectory, mode: str, *, dry_run: bool) -> dict[str, Any]:
    """Rank a directory by another mode, or only say what that would change.

    Returns
    -------
    dict
        ``directory``, ``mode``, ``before`` (the mode until now, or None), ``dry_run``, ``best`` (the names of the best
        checkpoints by that mode, best first, as many as the policy keeps for that, and at least one) and ``goes`` (the
        names of those that the policy does not keep then; they go at the next save or prune).
    """
    policy = _policy(remote)
    with understood():
        before, operators = policy.get("mode"), {name: policy[name] for name in policy.get("set_by_operator", [])}
        limit = max(1, policy.get("max_best_checkpoints") or 1)
    if not dry_run:
        remote.server.call("PUT", f"/v1/directories/{quote(remote.name)}", body={"mode": mode, **operators})
    ranked = islice(remote.checkpoints(order_by="best", mode=mode), limit)
    best = [checkpoint.name for checkpoint in ranked]
    goes = _going(remote, mode) if policy or not dry_run else []
    return {
        "directory": remote.name,
        "mode": mode,
        "before": before,
        "dry_run": dry_run,
        "best": best,
        "goes": goes,
    }


def _policy(remote: RemoteDirectory) -> dict[str, Any]:
    """The policy in force; empty where the directory does not exist yet."""
    try:
        found = remote.server.ask(f"/v1/directories/{quote(remote.name)}")
    except CheckpointNotFound:
        return {}
    with understood():
        return dict(found["policy"])


def _going(remote: RemoteDirectory, mode: str) -> list[str]:
    asked: dict[str, Any] = {"directory": remote.name, "dry_run": True, "policy": {"mode": mode}, "verdicts": "going"}
    names: list[str] = []
    while True:
        page = remote.server.call("POST", "/v1/prune", body=asked)
        with understood():
            names += [verdict["checkpoint"]["name"] for each in page["directories"] for verdict in each["verdicts"]]
            token = page.get("next_page_token")
        if token is None:
            return names
        asked["page_token"] = token
