"""Formats of sizes, times and names for people. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_AGES = ((86400 * 365, "year"), (86400 * 30, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))
_INTERVALS = ("epochs", "steps")
NONE = "-"
"""The sign for a missing value."""


def size(size_bytes: float) -> str:
    """Format a number of bytes: ``1.5 MiB``."""
    for unit in _UNITS:
        if abs(size_bytes) < (1024 if unit == "B" else 1023.95) or unit == _UNITS[-1]:
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"


def count(number: int, noun: str) -> str:
    """Format a count with its noun: ``1 checkpoint``, ``2 checkpoints``, ``2 directories``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def ago(at: str, now: datetime) -> str:
    """Format the age of a time of the API: ``3 minutes ago``."""
    seconds = (now - datetime.fromisoformat(at)).total_seconds()
    for length, noun in _AGES:
        if seconds >= length:
            return f"{count(int(seconds // length), noun)} ago"
    return "just now" if seconds < 10 else f"{count(int(seconds), 'second')} ago"


def number(value: Any) -> str:
    """Format a metric, an epoch or another JSON value, rounded; `NONE` if there is none."""
    if value is None:
        return NONE
    return f"{value:.6g}" if isinstance(value, float) else brief(value)


def exact(value: Any) -> str:
    """Format the same value for programs, without rounding."""
    return NONE if value is None else brief(value)


def brief(value: Any) -> str:
    """Format a JSON value on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def printable(text: str) -> str:
    """Escape everything in a text that is not printable, so that it is safe on a terminal and on one line."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


def shape(tensor: Mapping[str, Any]) -> str:
    """Format the shape of a tensor: ``[512, 768]``."""
    return "[" + ", ".join(map(str, tensor["shape"])) + "]"


def flags(checkpoint: Mapping[str, Any]) -> str:
    """List the marks of a checkpoint, for one column."""
    found = [word for word in ("pinned", "is_best") if checkpoint.get(word)]
    found += ["manual"] if checkpoint.get("retention") == "manual" else []
    found += ["damaged"] if checkpoint.get("damage") else []
    if checkpoint.get("removed_because"):
        found.append(f"{checkpoint['removed_because']}{' (can be restored)' if checkpoint.get('restorable') else ''}")
    found += [f"#{tag}" for tag in checkpoint["tags"]]
    return ", ".join("flagged best" if word == "is_best" else word for word in found)


def policy(found: Mapping[str, Any]) -> str:
    """Describe a policy in words."""
    last, best = found["max_checkpoints"], found["max_best_checkpoints"]
    every = [f"every {found[f'keep_every_{unit}']} {unit}" for unit in _INTERVALS if found.get(f"keep_every_{unit}")]
    if last is None and best is None:
        kept = "everything"
    else:
        kept = ", ".join(
            [
                "all regular ones" if last is None else f"the last {last}",
                "all that are ranked" if best is None else f"the best {best}",
                *every,
            ]
        )
    ranked = f"; {found['mode']} is best" if found["mode"] else ""
    operator = f" (operator: {', '.join(found['set_by_operator'])})" if found["set_by_operator"] else ""
    return f"{kept}{ranked}{operator}"
