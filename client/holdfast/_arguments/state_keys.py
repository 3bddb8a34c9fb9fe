"""Selection of keys of a state by ``only=``."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

_SHOWN = 20
_LOOKED_AT = 1000


def requested_keys(only: Iterable[Hashable] | None) -> tuple[Any, ...] | None:
    """Return the requested keys, each once. An iterator is consumed here and nowhere else.

    Raises
    ------
    TypeError
        It is no collection of keys.
    """
    if only is None:
        return None
    if isinstance(only, str | bytes):
        raise TypeError(f"only is a collection of keys, such as ({only!r},)")
    try:
        return tuple(dict.fromkeys(only))
    except TypeError as error:
        raise TypeError(f"only is a collection of keys of the state, such as ('model',), not {only!r:.200}") from error


def select_keys(state: Any, only: Collection[Any]) -> dict[Any, Any]:
    """Return the part of a state under some keys; raise `KeyError` if it lacks one of them."""
    if not isinstance(state, Mapping):
        raise KeyError(f"the checkpoint is a {type(state).__name__} and has no keys to choose from")
    require(only, state)
    return {name: state[name] for name in only}


def require(only: Collection[Any], names: Collection[Any]) -> None:
    """Raise `KeyError` if one of the keys is not among the names."""
    for name in only:
        if name not in names:
            raise KeyError(f"the checkpoint has no {name!r}; it has {_shown(name, list(names))}")


def _shown(name: Any, names: list[Any]) -> str:
    """List some of the names; those similar to the missing one come first."""
    if len(names) <= _SHOWN:
        return ", ".join(map(repr, names)) or "none"
    from difflib import get_close_matches

    near = get_close_matches(str(name), [each for each in names[:_LOOKED_AT] if isinstance(each, str)], 3)
    shown = list(dict.fromkeys([*near, *names[: _SHOWN - len(near)]]))
    return f"{', '.join(map(repr, shown))} and {len(names) - len(shown)} more"
