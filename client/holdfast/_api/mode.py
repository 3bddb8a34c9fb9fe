"""The mode of a directory: a preview of the effect of another mode, and the change, which keeps all limits."""

from itertools import islice
from typing import Any
from urllib.parse import quote

from ..errors import CheckpointNotFound, HoldfastError
from .directory import RemoteDirectory
from .server import parse_errors

_ATTEMPTS = 10


def change_mode(remote: RemoteDirectory, mode: str, *, dry_run: bool) -> dict[str, Any]:
    """Rank a directory by another mode, or only preview the effect.

    Returns
    -------
    dict
        ``directory``, ``mode``, ``before`` (the mode until now, or None), ``dry_run``, ``best`` (the names of the best
        checkpoints by that mode, best first, as many as the policy keeps for that, and at least one) and ``goes`` (the
        names of those that the policy does not keep then; they go at the next save or prune).
    """
    policy = _policy(remote)[0] if dry_run else _changed(remote, mode)
    with parse_errors():
        before, limit = policy.get("mode"), max(1, policy.get("max_best_checkpoints") or 1)
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


def _changed(remote: RemoteDirectory, mode: str) -> dict[str, Any]:
    """Change only the mode, also while other writers change the policy; return the policy before."""
    for attempt in range(_ATTEMPTS):
        policy, precondition = _policy(remote)
        with parse_errors():
            operators = {name: policy[name] for name in policy.get("set_by_operator", [])}
        try:
            remote.server.call(
                "PUT",
                f"/v1/directories/{quote(remote.name)}",
                body={"mode": mode, **operators},
                precondition=precondition,
            )
        except HoldfastError as error:
            if error.code != "policy_changed" or attempt == _ATTEMPTS - 1:
                raise
        else:
            break
    return policy


def _policy(remote: RemoteDirectory) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the policy in force, empty if the directory does not exist yet, and the precondition that names it.

    Servers before this version send no tag of the policy, and need no precondition.
    """
    try:
        found = remote.server.ask(f"/v1/directories/{quote(remote.name)}")
    except CheckpointNotFound:
        return {}, {"If-None-Match": "*"}
    with parse_errors():
        etag = found.get("policy_etag")
        return dict(found["policy"]), {"If-Match": str(etag)} if etag is not None else {}


def _going(remote: RemoteDirectory, mode: str) -> list[str]:
    asked: dict[str, Any] = {"directory": remote.name, "dry_run": True, "policy": {"mode": mode}, "verdicts": "going"}
    names: list[str] = []
    while True:
        page = remote.server.call("POST", "/v1/prune", body=asked)
        with parse_errors():
            names += [verdict["checkpoint"]["name"] for each in page["directories"] for verdict in each["verdicts"]]
            token = page.get("next_page_token")
        if token is None:
            return names
        asked["page_token"] = token
