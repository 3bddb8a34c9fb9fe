"""Formatting of numbers, times, reasons and policies for people. Pure."""

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.core.models import Policy, RemovedBecause
from app.core.names import escaped
from app.core.retention import Reason
from app.core.units import size

_STEPS = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (86400 * 60, 86400, "d"))
_WHY = {
    "newest": "It is the latest checkpoint.",
    "last": "It is one of the last checkpoints that the policy keeps.",
    "best": "It is one of the best checkpoints that the policy keeps.",
    "every": "The policy keeps its epoch.",
    "every_steps": "The policy keeps its step.",
    "manual": "Only its owner removes it: the policy does not apply.",
    "pinned": "It is pinned.",
    "unlimited": "The policy keeps everything.",
}
_GONE = {
    "pruned": "pruned by the policy",
    "replaced": "replaced by a save of the same name",
    "deleted": "deleted by a user",
    "lost": "lost: its file was missing from the disk",
}


def number(value: object) -> str:
    """Format a metric or another value with up to five significant digits; integers in full."""
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def count(value: int) -> str:
    """Format an integer in groups of three digits."""
    return f"{value:,}".replace(",", "\u202f")


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """Format a past time as ``2 min ago``; as a date if it is long ago."""
    if at is None:
        return ""
    passed = ((now or datetime.now(UTC)) - at).total_seconds()
    if passed < 1:
        return "just now"
    for below, unit, name in _STEPS:
        if passed < below:
            return f"{int(passed // unit)} {name} ago"
    return f"{at:%Y-%m-%d}"


def moment(at: datetime | None) -> str:
    """Format a time to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""


def duration(length: timedelta) -> str:
    """Format a duration in the largest unit that gives an integer: ``36 h``."""
    seconds = int(length.total_seconds())
    for unit_s, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds // unit_s} {name}"
    return f"{seconds} s"


def shape(sizes: Sequence[int]) -> str:
    """Format the shape of a tensor: ``96 × 32``, or ``scalar`` without dimensions."""
    return " × ".join(map(str, sizes)) if sizes else "scalar"


def as_json(value: object) -> str:
    """Format a metadata value. Invisible characters and those that change the text direction are escaped."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escaped(text, keep="\n\t")


def tags(found: Sequence[str]) -> str:
    """Format tags separated by commas; a tag with a comma or quotation mark is quoted as in CSV (RFC 4180)."""
    return ", ".join('"' + tag.replace('"', '""') + '"' if set(tag) & {",", '"'} else tag for tag in found)


def tags_in(text: str) -> Sequence[str]:
    """Parse tags that `tags` has formatted, without duplicates."""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return list(dict.fromkeys(word.strip() for row in rows for word in row if word.strip()))


def keep_reason(reason: Reason) -> str:
    """Explain the reason for keeping a checkpoint."""
    return _WHY[reason.code]


def removal(because: RemovedBecause) -> str:
    """Explain the removal of a checkpoint."""
    return _GONE[because]


def policy(found: Policy) -> str:
    """Describe a policy."""
    if found.keeps_everything:
        kept = ["everything"]
    else:
        last, best = found.max_checkpoints, found.max_best_checkpoints
        kept = [f"the last {last}" if last is not None else "all regular checkpoints"]
        kept += [f"the best {best}" if best is not None else "all with a metric"]
    if found.keep_every_epochs is not None:
        kept.append(f"every {found.keep_every_epochs} epochs")
    if found.keep_every_steps is not None:
        kept.append(f"every {found.keep_every_steps} steps")
    return "keeps " + ", ".join(kept)


def until(at: datetime | None, now: datetime | None = None) -> str:
    """Format a future time as ``in 2 min``; as a date if it is far away."""
    if at is None:
        return ""
    left = (at - (now or datetime.now(UTC))).total_seconds()
    if left < 1:
        return "now"
    for below, unit, name in _STEPS:
        if left < below:
            return f"in {int(left // unit)} {name}"
    return f"{at:%Y-%m-%d}"


def percent(share: float) -> str:
    """Format a fraction as a percentage; a fraction between 0 and 1 never appears as 0 % or 100 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.{0 if share in {0, 1} else 1}f} %"


FILTERS = {
    "size": size,
    "number": number,
    "count": count,
    "ago": ago,
    "moment": moment,
    "keep_reason": keep_reason,
    "removal": removal,
    "duration": duration,
    "shape": shape,
    "json": as_json,
    "tags": tags,
    "policy": policy,
    "until": until,
    "percent": percent,
}
