"""Results at scale: a figure of one checkout, with its percentiles, or a failure. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure, Skipped
from benchmarks.scale.targets import BOUNDS
from benchmarks.scale.turns import p50_ms, p99_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A figure, and where it was measured.

    Parameters
    ----------
    subject : str
        The layout or size that it is about.
    checkout : str
        The label of the checkout.
    p99_ms : float or None
        Beside ``figure.ours``, which is the median in ms where times were measured.
    seconds, base_seconds : sequence of float
        Every single timing, and those of the base of a ratio.
    """

    subject: str
    checkout: str
    figure: Figure
    p99_ms: float | None = None
    seconds: Sequence[float] = ()
    base_seconds: Sequence[float] = ()

    def plain(self) -> dict[str, Any]:
        """Return everything, for the JSON file."""
        figure = self.figure
        return {
            "name": figure.name,
            "subject": self.subject,
            "checkout": self.checkout,
            "value": figure.value,
            "unit": figure.unit,
            "reach": figure.reach,
            "aim": figure.aim,
            "verdict": figure.verdict,
            "p50_ms": figure.ours,
            "p99_ms": self.p99_ms,
            "base_p50_ms": figure.theirs,
            "seconds": list(self.seconds),
            "base_seconds": list(self.base_seconds),
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """A figure, or some, that could not be measured, and the reason."""

    name: str
    reason: str


Result = Reading | Failure


def attempted(name: str, readings: Iterable[Result]) -> Iterator[Result]:
    """Yield readings; a failure becomes the last one, so that the measures that follow are taken."""
    try:
        yield from readings
    except Skipped:
        raise
    except Exception as error:
        yield Failure(name, "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]))


def of_times(name: str, subject: str, checkout: str, seconds: Sequence[float], base: Sequence[float] = ()) -> Reading:
    """Return the reading of a time: its ratio to a base, or its median in ms, as the targets have it."""
    median, base_median = p50_ms(seconds), p50_ms(base) if base else None
    is_ratio = BOUNDS[name].unit == "x"
    if is_ratio and base_median is None:
        raise ValueError(f"{name} is a ratio and needs a base")
    value = median / base_median if is_ratio and base_median else median
    return Reading(
        subject=subject,
        checkout=checkout,
        figure=_figure(name, value, median, base_median),
        p99_ms=p99_ms(seconds),
        seconds=seconds,
        base_seconds=base,
    )


def of_tail(name: str, subject: str, checkout: str, seconds: Sequence[float]) -> Reading:
    """Return the reading of a 99th percentile in ms."""
    figure = _figure(name, p99_ms(seconds), p50_ms(seconds), None)
    return Reading(subject=subject, checkout=checkout, figure=figure, p99_ms=p99_ms(seconds), seconds=seconds)


def of_value(name: str, subject: str, checkout: str, value: float) -> Reading:
    """Return the reading of a value that is no time, or no median."""
    return Reading(subject=subject, checkout=checkout, figure=_figure(name, value, None, None))


def _figure(name: str, value: float, median_ms: float | None, base_ms: float | None) -> Figure:
    bound = BOUNDS[name]
    return Figure(
        name=name,
        value=value,
        unit=bound.unit,
        ours=median_ms,
        theirs=base_ms,
        measured_in="ms",
        reach=bound.reach,
        aim=bound.aim,
        lower_is_better=not bound.is_floor,
    )
