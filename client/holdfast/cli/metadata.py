"""Metadata on the command line: numbers, other JSON, or text. Pure."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from .statuses import Misuse

_ONLY_DIGITS_AND_E = re.compile(r"-?[0-9]+[eE][0-9]+")
_ENDS_WITH_ZERO = re.compile(r"\.[0-9]*0(?![0-9.])")


def given(texts: Sequence[str], as_json: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of ``--meta`` and ``--meta-json`` together.

    Raises
    ------
    Misuse
        One is not ``KEY=VALUE``, a value of ``--meta-json`` is no JSON, or a key is given twice.
    """
    found: dict[str, Any] = {}
    for key, text in (_split("--meta", each) for each in texts):
        _refuse_known(key, found)
        found[key] = value_of(text)
    for key, text in (_split("--meta-json", each) for each in as_json):
        _refuse_known(key, found)
        try:
            found[key] = json.loads(text, parse_float=_finite, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise Misuse(f"--meta-json {key}: this is no JSON: {error}") from None
    return found


def metric_of(text: str) -> float:
    """Return a metric; ``nan`` and ``inf`` are allowed.

    Raises
    ------
    Misuse
        It is no number, or one beyond a float.
    """
    try:
        number = float(text if "_" not in text else "no number")  # only Python accepts ``1_0``
    except ValueError:
        raise Misuse(f"--metric is {text!r}, which is no number") from None
    if math.isinf(number) and "inf" not in text.lower():
        raise Misuse(f"--metric is {text}, which is beyond a float")
    return number


def _refuse_known(key: str, found: Mapping[str, Any]) -> None:
    if key in found:
        raise Misuse(f"the metadata {key!r} is given twice")


def value_of(text: str) -> Any:
    """Return a value of ``--meta``: as JSON if nothing of it is lost, else as text.

    ``1.10``, ``1e400`` and ``123e456`` are texts: as numbers they would come back otherwise than they were written, and
    they are versions and hashes more often than numbers.
    """
    if text != text.strip():
        return text
    try:
        return json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _int(text: str) -> int:
    number = int(text)
    if str(number) != text:
        raise ValueError(text)
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond a float")
    return number


def _float(text: str) -> float:
    number = float(text)
    if repr(number) == text:
        return number
    if _ONLY_DIGITS_AND_E.fullmatch(text) or _ENDS_WITH_ZERO.search(text) or Decimal(repr(number)) != Decimal(text):
        raise ValueError(text)
    return number


def _refuse(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _split(option: str, given: str) -> tuple[str, str]:
    key, separator, value = given.partition("=")
    if not separator or not key:
        raise Misuse(f"{option} takes KEY=VALUE, not {given!r}")
    return key, value
