"""Changes to single checkpoints and to policies: checked before anything is sent, and sent once."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from .._api.server import Server
from .._arguments import checks, values
from .._options import checked_mode

Json = dict[str, Any]


class Unchanged:
    """The default of a fact that a change leaves as it is."""

    def __repr__(self) -> str:
        return "unchanged"


UNCHANGED: Final = Unchanged()
Retention = Literal["policy", "manual"]


def facts_to_change(
    *,
    epoch: Any = UNCHANGED,
    step: Any = UNCHANGED,
    metric: Any = UNCHANGED,
    is_best: Any = UNCHANGED,
    retention: Any = UNCHANGED,
    metadata: Mapping[str, Any] | None = None,
) -> Json:
    """Return the facts to change as JSON; None clears an epoch, a step, a metric or a metadata value.

    Raises
    ------
    TypeError, ValueError
        A value cannot be stored, or no fact is given.
    """
    if retention is not UNCHANGED and retention not in ("policy", "manual"):
        raise ValueError(f"retention must be 'policy' or 'manual', not {retention!r}")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, not {metadata!r}")
    given = {
        "epoch": epoch if epoch is UNCHANGED else values.counter("epoch", epoch),
        "step": step if step is UNCHANGED else values.counter("step", step),
        "metric": metric if metric is UNCHANGED else values.number_to_wire(values.metric(metric)),
        "is_best": is_best if is_best is UNCHANGED else values.flag("is_best", is_best),
        "retention": retention,
        "metadata": values.metadata(metadata) if metadata else UNCHANGED,
    }
    found = {name: value for name, value in given.items() if value is not UNCHANGED}
    if not found:
        raise ValueError("name at least one fact to change")
    return found


def policy_of(given: Mapping[str, Any]) -> Json:
    """Return the limits of a policy as JSON; None for a limit keeps all that it covers.

    Raises
    ------
    TypeError, ValueError
        A policy has no such field, or takes no such value.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"policy must be a mapping, not {given!r}")
    for name in given:
        if name != "mode" and name not in _LEAST:
            raise TypeError(f"a policy has no {name!r}: it has mode, {', '.join(_LEAST)}")
    return {
        name: checked_mode(value) if name == "mode" else checks.limit(name, value, least=_LEAST[name])
        for name, value in given.items()
        if not isinstance(value, Unchanged)
    }


_LEAST = {"max_checkpoints": 0, "max_best_checkpoints": 0, "keep_every_epochs": 1, "keep_every_steps": 1}


def checked_etag(given: Any) -> str | None:
    """Return the etag of a policy, or None; raise `TypeError` or `ValueError` if it can be none."""
    etag = checks.text("if_match", given)
    if etag is not None and not (etag.isascii() and etag.isprintable()):
        raise ValueError(f"if_match must be the etag of a policy, not {given!r}")
    return etag


def checked_tags(tags: Iterable[str]) -> list[str]:
    """Return tags that the server accepts; raise `TypeError` or `ValueError` if there are none, or it does not."""
    found = values.tags(tags)
    if not found:
        raise ValueError("name at least one tag")
    return found


def tags_after(kept: Iterable[str], *, add: Collection[str] = (), remove: Collection[str] = ()) -> list[str]:
    """Return the tags of a checkpoint after some were added and some removed."""
    return list(dict.fromkeys([*(tag for tag in kept if tag not in remove), *add]))


def patch(server: Server, checkpoint_id: str, facts: Mapping[str, Any]) -> Json:
    """Change facts of a checkpoint; return all of them."""
    return server.call("PATCH", f"/v1/checkpoints/{checkpoint_id}", body=dict(facts))


def delete(server: Server, checkpoint_id: str) -> Json:
    """Delete a checkpoint that is not pinned; return its facts."""
    return server.call("DELETE", f"/v1/checkpoints/{checkpoint_id}")


def restore(server: Server, checkpoint_id: str) -> Json:
    """Restore a removed checkpoint whose bytes the server still has; return its facts."""
    return server.call("POST", f"/v1/checkpoints/{checkpoint_id}/restore")


def put_policy(server: Server, directory: str, policy: Mapping[str, Any], if_match: str | None) -> Json:
    """Set the policy of a directory as its operator, if ``if_match`` still names it; return the directory."""
    precondition = {"If-Match": if_match} if if_match is not None else {}
    return server.call("PUT", f"/v1/directories/{quote(directory)}", body=dict(policy), precondition=precondition)
