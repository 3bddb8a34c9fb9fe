"""Epochs, metrics and metadata as JSON can say them; anything else is refused before a byte is sent. Pure."""

import math
import operator
from collections.abc import Mapping
from typing import Any


def metric(value: Any) -> float | None:
    """A metric as a float. Tensors and NumPy values of one element are numbers; None stays None.

    Raises
    ------
    TypeError
        It is not a number.
    """
    if value is None:
        return None
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"metric must be a number, not {_kind(value)}")
    return float(number)


def epoch(value: Any) -> int | None:
    """An epoch as an int that is not negative; None stays None.

    Raises
    ------
    TypeError
        It is not an integer.
    ValueError
        It is negative.
    """
    if value is None:
        return None
    number = _plain(value)
    if isinstance(number, bool):
        raise TypeError("epoch must be an integer, not a bool")
    try:
        number = operator.index(number)
    except TypeError:
        raise TypeError(f"epoch must be an integer, not {_kind(value)}") from None
    if number < 0:
        raise ValueError(f"epoch must not be negative, but is {number}")
    return number


def metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as JSON: numbers that JSON cannot say become ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    Raises
    ------
    TypeError
        A value is neither JSON nor a tensor or NumPy value of one element; the message names it.
    """
    return {key: _json(value, key) for key, value in values.items()}


def monitored(monitor: str | None, values: Mapping[str, Any]) -> float | None:
    """The metadata value that stands in for a metric that was not given, if it is a number."""
    if monitor is None or monitor not in values:
        return None
    number = _plain(values[monitor])
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None


def number_to_wire(value: float | None) -> float | str | None:
    """A number as the API takes it."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json(value: Any, where: str) -> Any:
    value = _plain(value)
    if isinstance(value, float):
        return number_to_wire(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_json(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"metadata {where!r} has the key {key!r}; JSON has only text as keys")
        return {key: _json(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"metadata {where!r} is {_kind(value)}; only JSON values and tensors or NumPy values of one element can be kept"
    )


def _plain(value: Any) -> Any:
    """A tensor or NumPy value of one element as Python's own number; everything else as it is."""
    if isinstance(value, str | bytes | bool | int | float | list | tuple | Mapping) or value is None:
        return _exact(value)
    size = getattr(value, "numel", None)
    count = size() if callable(size) else getattr(value, "size", None)
    item = getattr(value, "item", None)
    return _exact(item()) if count == 1 and callable(item) else value


def _exact(value: Any) -> Any:
    """Subclasses of numbers and text (NumPy's float64 is one) as the plain type."""
    if isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape else "")
