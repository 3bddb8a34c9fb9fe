"""Sizes and durations as operators write and read them. Pure."""

import re

DAY_S = 86400
MAX_DURATION_S = 100 * 366 * DAY_S
"""The longest duration that a setting takes."""

_BYTES = {"": 1, "b": 1} | {
    f"{letter}{kind}": base**power
    for power, letter in enumerate("kmgtp", start=1)
    for kind, base in (("b", 1000), ("ib", 1024))
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def parse_bytes(text: str) -> int | None:
    """Parse a size such as ``500GiB``, ``2TB`` or ``12``; None if it is not one."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.strip().lower())
    if not found or found[2] not in _BYTES:
        return None
    return int(float(found[1]) * _BYTES[found[2]]) if "." in found[1] else int(found[1]) * _BYTES[found[2]]


def parse_seconds(text: str) -> float | None:
    """Parse a duration with its unit, such as ``30m``, ``1.5h`` or ``7d``, in seconds; None if it is not one."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    return float(found[1]) * _SECONDS[found[2]] if found else None


def size(size_bytes: float) -> str:
    """Format a number of bytes with fewer than four digits before the point: ``1.5 MiB``."""
    value, unit = float(size_bytes), 0
    while abs(value) >= (1024 if unit == 0 else 1023.95) and unit < len(_BINARY) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_BINARY[unit]}"
