"""Checks of parameters: an invalid value is refused where it is given, not at its first use."""

import math
import operator
import os
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest


def count(name: str, value: Any, *, least: int) -> int:
    """Return an integer that is at least ``least``.

    Raises
    ------
    ValueError
        It is none, or smaller.
    """
    found = None if isinstance(value, bool) else _integer(value)
    if found is None or found < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    return found


def limit(name: str, value: Any, *, least: int) -> int | None:
    """Return a value as `count` does, or None."""
    if value is None:
        return None
    try:
        return count(name, value, least=least)
    except ValueError:
        raise ValueError(f"{name} must be None or an integer of at least {least}, not {value!r}") from None


def seconds(name: str, value: Any, *, may_be_zero: bool = True) -> float:
    """Return a finite number of seconds.

    Raises
    ------
    TypeError
        It is no number.
    ValueError
        It is negative, not finite, or zero where that makes no sense.
    """
    found = _number(name, value)
    if not math.isfinite(found) or found < 0 or (found == 0 and not may_be_zero):
        raise ValueError(f"{name} must be a {'' if may_be_zero else 'positive '}number of seconds, not {value!r}")
    return found


def timeout(name: str, value: Any) -> float | None:
    """Return a value as `seconds` does, or None for no timeout."""
    return None if value is None else seconds(name, value)


def share(name: str, value: Any) -> float:
    """Return a number from 0 to 1; raise `TypeError` or `ValueError` for anything else."""
    found = _number(name, value)
    if not 0 <= found <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {value!r}")
    return found


def switch(name: str, value: Any) -> bool:
    """Return True or False; raise `TypeError` for anything else: the text ``"no"`` would be true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def choice(name: str, value: Any) -> bool | None:
    """Return a value as `switch` does, or None."""
    return None if value is None else switch(name, value)


def folder(name: str, value: Any) -> Path:
    """Return a folder of this machine, with ``~`` expanded.

    Raises
    ------
    TypeError
        It is no path.
    ValueError
        It is empty.
    """
    return Path(path(name, value)).expanduser()


def path(name: str, value: Any, *, may_be_empty: bool = False) -> str:
    """Return a path, or a name that may be given as one, as text.

    Raises
    ------
    TypeError
        It is neither a str nor a path.
    InvalidRequest
        It is empty.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name} must be a str or a Path, not {value!r}")
    if not os.fspath(value).strip() and not may_be_empty:
        raise InvalidRequest(f"{name} must not be empty")
    return os.fspath(value)


def text(name: str, value: Any) -> str | None:
    """Return a text that is not empty, or None; raise `TypeError` or `ValueError` for anything else."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a text or None, not {value!r}")
    if value is not None and not value.strip():
        raise ValueError(f"{name} must not be empty")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None


def _integer(value: Any) -> int | None:
    try:
        return operator.index(value)
    except TypeError:
        return None
