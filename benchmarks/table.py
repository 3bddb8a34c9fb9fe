"""The findings as text for a terminal. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import Figure, Finding
from benchmarks.rounds import Spent

GB = 1e9
MARKS = {"aim": "aim", "reach": "reach", "missed": "MISSED", "": ""}


def findings_table(findings: Iterable[Finding]) -> str:
    """Return a row for each figure, and the measures that were skipped or failed, with reasons."""
    rows: list[tuple[str, ...]] = [("measure", "ours", "theirs", "figure", "reach", "aim", "")]
    for finding in findings:
        if finding.outcome is None:
            rows.append((finding.measure, "", "", finding.status.upper(), "", "", ""))
        else:
            rows += [_row(figure) for figure in finding.outcome.figures]
    return aligned(rows)


def notes(findings: Iterable[Finding]) -> Iterator[str]:
    """Return notes for the reader; first, what is missing and why."""
    done = [finding.outcome for finding in findings if finding.outcome is not None]
    for finding in findings:
        if finding.outcome is None:
            yield f"{finding.status.upper()} {finding.measure}: {finding.reason}"
    for outcome in done:
        yield from outcome.notes


def cpu_table(findings: Iterable[Finding]) -> str:
    """Return the CPU seconds per GB of this process and of the server, as far as known."""
    rows = [("seconds of CPU per GB", "client", "server")]
    for finding in findings:
        if finding.outcome is not None and finding.outcome.size_bytes is not None:
            for name, spent in finding.outcome.spent.items():
                if all(each.client_cpu_s is not None for each in spent):
                    rows.append((f"{finding.measure}, {name}", *_cpu(spent, finding.outcome.size_bytes)))
    return aligned(rows) if len(rows) > 1 else ""


def limits_table(limits: Mapping[str, float]) -> str:
    """Return the limits of the machine, in GB/s."""
    return aligned([("this machine can", "GB/s"), *((name, f"{speed:.2f}") for name, speed in limits.items())])


def heading(machine: Mapping[str, Any], versions: Mapping[str, str], size_mib: int, rounds: int) -> str:
    """Return the subject and the machine of the run."""
    memory = machine["memory_bytes"] / 1024**3
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, {memory:.0f} GiB, Linux {machine['kernel']}, "
        f"{machine['file_system']}; Python {versions['python']}, torch {versions['torch']}; "
        f"{size_mib} MiB, medians of {rounds} rounds"
    )


def _row(figure: Figure) -> tuple[str, ...]:
    sign = "≤" if figure.lower_is_better else "≥"
    bounds = [f"{sign} {bound:g}" if bound is not None else "" for bound in (figure.reach, figure.aim)]
    medians = [number(median, figure.measured_in) for median in (figure.ours, figure.theirs)]
    return (figure.name, *medians, number(figure.value, figure.unit), *bounds, MARKS[figure.verdict])


def number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.3f} {unit}" if unit in ("s", "x") else f"{value:.1f} {unit}"


def _cpu(spent: Sequence[Spent], size_bytes: int) -> tuple[str, str]:
    moved_gb = size_bytes * len(spent) / GB
    client = sum(each.client_cpu_s or 0 for each in spent) / moved_gb
    if any(each.server_cpu_s is None for each in spent):
        return f"{client:.2f}", ""
    return f"{client:.2f}", f"{sum(each.server_cpu_s or 0 for each in spent) / moved_gb:.2f}"


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Align the first and last columns left, numbers right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
