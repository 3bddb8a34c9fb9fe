"""The readings as text for a terminal, and as JSON. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.figures import Figure
from benchmarks.scale.readings import Reading
from benchmarks.table import MARKS, aligned

DIGITS = {"x": 2, "B": 0}


def readings_table(readings: Sequence[Reading], labels: Sequence[str]) -> str:
    """Return a row for each figure of the first checkout, beside the value of the other one, if there is one.

    The column after the other's value is our median relative to the other's, or our value relative to its value.
    """
    compares = len(labels) > 1
    others = [labels[1], "to it"] if compares else []
    rows = [("measure", "measured", *others, "p50 ms", "p99 ms", "base p50", "reach", "aim", "verdict")]
    subject = None
    for ours, theirs in _paired(readings, labels):
        if ours.subject != subject:
            subject = ours.subject
            rows.append((f"-- {subject}", *[""] * (len(rows[0]) - 1)))
        beside = _beside(ours.figure, theirs.figure if theirs else None) if compares else []
        times = [_ms(ours.figure.ours), _ms(ours.p99_ms), _ms(ours.figure.theirs)]
        rows.append((ours.figure.name, _value(ours.figure), *beside, *times, *_bounds(ours.figure)))
    return aligned(rows)


def _paired(readings: Iterable[Reading], labels: Sequence[str]) -> Iterable[tuple[Reading, Reading | None]]:
    found: dict[tuple[str, str], dict[str, Reading]] = {}
    for reading in readings:
        found.setdefault((reading.subject, reading.figure.name), {})[reading.checkout] = reading
    for of in found.values():
        if labels[0] in of:
            yield of[labels[0]], of.get(labels[-1])


def _beside(ours: Figure, theirs: Figure | None) -> Sequence[str]:
    if theirs is None:
        return ["", ""]
    before, now = (theirs.ours, ours.ours) if theirs.ours and ours.ours else (theirs.value, ours.value)
    return [_value(theirs), f"{now / before:.2f} x" if before else ""]


def _bounds(figure: Figure) -> Sequence[str]:
    sign = "≤" if figure.lower_is_better else "≥"
    bounds = [f"{sign} {bound:g}" if bound is not None else "" for bound in (figure.reach, figure.aim)]
    return [*bounds, MARKS[figure.verdict]]


def _value(figure: Figure) -> str:
    return f"{figure.value:,.{DIGITS.get(figure.unit, 1)}f} {figure.unit}".rstrip()


def _ms(value: float | None) -> str:
    return f"{value:,.1f}" if value is not None else ""


def failures(reasons: Mapping[str, str]) -> str:
    """Return a line for each group that could not be measured to the end, with its reason."""
    return "\n".join(f"{name}: {reason}" for name, reason in reasons.items())
