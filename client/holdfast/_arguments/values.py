"""Epochs, metrics, flags, tags and metadata as JSON values; everything else is refused before a byte is sent. Pure."""

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from .._runtime.interruption import reraise
from .name_grammar import check_tag

MAX_COUNTER = 2**53 - 1
MAX_DEPTH = 20
MAX_BYTES = 1024 * 1024
MAX_DIGITS = 4300
MAX_TAGS = 100
_TOO_LONG = 10**MAX_DIGITS


def metric(value: Any, what: str = "metric") -> float | None:
    """Return a metric as a float. Tensors and NumPy values of one element are numbers; None stays None.

    Raises
    ------
    TypeError
        It is not a number, or a tensor without a value.
    ValueError
        It is an integer that no float can hold.
    """
    if value is None:
        return None
    number = _plain(value, what)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{what} must be a number, not {_kind(value)}")
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"{what} must be a number of the size of a float, not one of so many digits") from None


def counter(what: str, value: Any) -> int | None:
    """Return an epoch or a step as an int that is not negative; None stays None.

    Raises
    ------
    TypeError
        It is not an integer.
    ValueError
        It is negative, or beyond `MAX_COUNTER`.
    """
    if value is None:
        return None
    number = _plain(value, what)
    if isinstance(number, bool):
        raise TypeError(f"{what} must be an integer, not a bool")
    try:
        number = operator.index(number)
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {_kind(value)}") from None
    if number < 0:
        raise ValueError(f"{what} must not be negative, but is {number}")
    if number > MAX_COUNTER:
        raise ValueError(f"{what} must not be greater than {MAX_COUNTER}")
    return number


def flag(name: str, value: Any) -> bool:
    """Return a flag; None is False. A tensor or NumPy value of one element counts, and so do 0 and 1.

    Raises
    ------
    TypeError
        It is neither, such as a text: ``"false"`` would be true.
    """
    found = _plain(value, name)
    if found is None:
        return False
    if isinstance(found, bool) or (isinstance(found, int) and found in (0, 1)):
        return bool(found)
    raise TypeError(f"{name} must be True or False, not {repr(value) if isinstance(value, str) else _kind(value)}")


def tags(value: str | Iterable[str] | None) -> list[str]:
    """Return tags without repetitions; a single text is one tag, and None is none.

    Raises
    ------
    TypeError
        Some are not text.
    ValueError
        The server does not take one of them, or not so many.
    """
    if value is None:
        return []
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"tags must be a list of texts, not {_kind(value)}")
    found = [value] if isinstance(value, str) else list(value)
    for each in found:
        if not isinstance(each, str):
            raise TypeError(f"a tag must be a text, not {_kind(each)}")
    result = list(dict.fromkeys(check_tag(_exact(each)) for each in found))
    if len(result) > MAX_TAGS:
        raise ValueError(f"{len(result)} tags are more than the {MAX_TAGS} that a checkpoint may have")
    return result


def metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as JSON. Numbers that JSON lacks become ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    Enumerations that are text or numbers, and keys that are numbers, become what ``json.dumps`` makes of them.

    Raises
    ------
    TypeError
        A value is neither JSON nor a tensor or NumPy value of one element; the message names it.
    ValueError
        It is nested too deep, too large, or an integer of too many digits; or a text holds half of a surrogate pair.
    """
    found = {_key(key, key): _json(value, str(key), MAX_DEPTH - 1) for key, value in values.items()}
    if _size_bytes(found) > MAX_BYTES:
        raise ValueError(f"metadata has more than the {MAX_BYTES} bytes that the server keeps")
    return found


def monitored(monitor: str | None, values: Mapping[str, Any]) -> float | None:
    """Return the metadata value that stands in for a missing metric, if it is a number."""
    if monitor is None or monitor not in values:
        return None
    number = _plain(values[monitor], monitor)
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return metric(number, f"the monitored value {monitor!r}") if is_number else None


def number_to_wire(value: float | None) -> float | str | None:
    """Return a number as the API takes it."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json(value: Any, where: str, depth: int) -> Any:
    if depth < 0:
        raise ValueError(f"metadata {where[:80]!r} is nested deeper than the {MAX_DEPTH} levels that the server keeps")
    value = _plain(value, f"metadata {where!r}")
    if isinstance(value, float):
        return number_to_wire(value)
    if isinstance(value, int) and not -_TOO_LONG < value < _TOO_LONG:
        raise ValueError(f"metadata {where!r} is an integer of more than {MAX_DIGITS} digits")
    if isinstance(value, str):
        return _text(value, where)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_json(item, f"{where}[{place}]", depth - 1) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        found = {_key(key, where): _json(item, f"{where}.{key}", depth - 1) for key, item in value.items()}
        if len(found) < len(value):
            raise ValueError(f"metadata {where!r} has two keys that JSON writes in the same way")
        return found
    raise TypeError(
        f"metadata {where!r} is {_kind(value)}; only JSON values and tensors or NumPy values of one element can be kept"
    )


def _key(key: Any, where: object) -> str:
    """Return a key as ``json.dumps`` writes it."""
    key = _exact(key)
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    if isinstance(key, int | float):
        return repr(key) if not isinstance(key, float) or math.isfinite(key) else str(number_to_wire(key))
    if not isinstance(key, str):
        raise TypeError(f"metadata {where!r} has the key {key!r}; JSON has only text and numbers as keys")
    return _text(key, str(where))


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"metadata {where!a} holds half of a surrogate pair, which is no text") from None
    return text


def _size_bytes(value: Any) -> int:
    """Estimate the length of a value as JSON, as the server counts it."""
    if isinstance(value, dict):
        return 2 + sum(len(key.encode()) + 2 + _size_bytes(item) for key, item in value.items())
    if isinstance(value, list):
        return 2 + len(value) + sum(map(_size_bytes, value))
    if isinstance(value, str):
        return len(value.encode()) + 2
    return max(8, value.bit_length() // 3) if isinstance(value, int) else 8


def _plain(value: Any, what: str) -> Any:
    """Return a tensor or NumPy value of one element as a Python number; everything else unchanged."""
    if isinstance(value, str | bytes | bool | int | float | list | tuple | Mapping) or value is None:
        return _exact(value)
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):  # as an integer, a time would lose its unit
        return value
    size = getattr(value, "numel", None)
    item = getattr(value, "item", None)
    try:
        count = size() if callable(size) else getattr(value, "size", None)
        if count != 1 or not callable(item):
            return value
        found = item()
        return _exact(float(found) if _is_long(found) else found)
    except Exception as error:  # for example, a tensor on the device "meta" has no value
        reraise(error)
        raise TypeError(f"{what} is {_kind(value)} whose value cannot be read: {error}") from error


def _is_long(value: Any) -> bool:
    """Tell if a value is NumPy's longdouble, which ``item`` does not convert to a Python number."""
    return getattr(getattr(value, "dtype", None), "kind", "") == "f" and not isinstance(value, float)


def _exact(value: Any) -> Any:
    """Convert subclasses of numbers and text, such as enumerations, to the plain type, as ``json.dumps`` does."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return str.__str__(value) if isinstance(value, str) else value


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    try:
        return type(value).__name__ + (f" of shape {tuple(shape)}" if shape else "")
    except TypeError:
        return type(value).__name__
