"""Agreement: the facts that all writers of a shared upload must state alike. Pure."""

from typing import Any

from app.core.models import Facts, Save


def differences(begun: Save, save: Save) -> list[str]:
    """Return the names of the facts in which two reservations differ."""
    one, other = _stated(begun), _stated(save)
    return [name for name, value in one.items() if value != other[name]]


def _stated(save: Save) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(save.facts, name) for name in Facts.__dataclass_fields__}
    terms = save.shared
    return {
        "name": save.name,
        **facts,
        "metric": repr(facts["metric"]),  # as NaN differs from itself
        "tags": sorted(facts["tags"]),
        "policy": (save.policy.mode, dict(save.policy.limits)),
        "only_if_improved": save.only_if_improved,
        "writers": sorted(terms.writers) if terms is not None and terms.writers is not None else None,
        "commit_when_ready": terms.commit_when_ready if terms is not None else None,
    }
