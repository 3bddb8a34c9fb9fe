"""Sparklines as points of an SVG, and thinning of long series. Pure."""

from collections.abc import Sequence
from functools import lru_cache

MOST_CACHED = 2_000
"""The most lines that are not drawn again; the first page has hundreds, few of which change between two looks."""


@lru_cache(MOST_CACHED)
def sparkline(values: tuple[float, ...], width: float = 96, height: float = 24, margin: float = 2) -> str:
    """Return the points of a line through equally spaced values; an empty string for fewer than two."""
    if len(values) < 2:
        return ""
    least, most = min(values), max(values)
    inner, extent = height - 2 * margin, most / 2 - least / 2  # halved, so that it is finite
    step = (width - 2 * margin) / (len(values) - 1)
    heights = [(value / 2 - least / 2) / extent if extent else 0.5 for value in values]
    return " ".join(f"{margin + i * step:.1f},{margin + (1 - h) * inner:.1f}" for i, h in enumerate(heights))


def thinned(values: Sequence[float], most: int) -> Sequence[int]:
    """Return the indices of at most ``most`` values: the first, the last, and the extremes of each section."""
    if len(values) <= most:
        return range(len(values))
    stretch = -(-2 * len(values) // (most - 2))
    kept = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        places = range(start, min(start + stretch, len(values)))
        kept |= {min(places, key=values.__getitem__), max(places, key=values.__getitem__)}
    return sorted(kept)


FILTERS = {"sparkline": sparkline}
