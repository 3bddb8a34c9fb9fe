"""Sizes as people read them. Pure."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(size_bytes: float) -> str:
    """A number of bytes in the unit that leaves fewer than four digits before the point: ``1.5 MiB``."""
    value, unit = float(size_bytes), 0
    while abs(value) >= (1024 if unit == 0 else 1023.95) and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"
