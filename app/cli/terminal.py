"""What people at a terminal get and pipes do not: colours, tables and bars. Pipes get plain text, always the same.

Nothing here imports rich before there is a terminal.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

EVERY_S = 0.1

Span = str | tuple[str, str]
"""Text, or text with the style that it has on terminals."""


@dataclass(frozen=True, slots=True)
class Stand:
    """How far some work has come; without a total nobody knows how much there is."""

    what: str
    done: int
    total: int | None
    note: str = ""


def is_one(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb", "unknown"}


def say(*spans: Span) -> None:
    """Print a line, in colours on a terminal."""
    if not is_one(sys.stdout):
        print("".join(span if isinstance(span, str) else span[0] for span in spans))
        return
    from rich.text import Text

    _console(sys.stdout).print(Text.assemble(*spans), soft_wrap=True)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[Span]]) -> None:
    """Print rows: as a table on a terminal, else in columns with two spaces between them."""
    if is_one(sys.stdout):
        _show_boxed(headings, rows)
        return
    plain = [list(headings), *([cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in plain) for column in range(len(headings))]
    for row in plain:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_boxed(headings: Sequence[str], rows: Sequence[Sequence[Span]]) -> None:
    from rich.box import ROUNDED
    from rich.table import Table
    from rich.text import Text

    table = Table(box=ROUNDED, header_style="bold", border_style="dim")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == headings[0], overflow="fold")
    for row in rows:
        table.add_row(*(Text.assemble(cell) for cell in row))
    _console(sys.stdout).print(table)


@contextmanager
def bar(look: Callable[[], Stand]) -> Iterator[None]:
    """While the block runs, a bar on standard error of how far its work has come, if that is a terminal.

    ``look`` is asked often, from another thread. The bar goes when the block ends.
    """
    if not is_one(sys.stderr):
        yield
        return
    with _progress() as progress:
        task = progress.add_task("", note="")
        is_over = threading.Event()

        def follow() -> None:
            is_first = True
            while is_first or not is_over.wait(EVERY_S):
                is_first, stand = False, look()
                progress.update(task, description=stand.what, completed=stand.done, total=stand.total, note=stand.note)

        follower = threading.Thread(target=follow, name="holdfast-bar", daemon=True)
        follower.start()
        try:
            yield
        finally:
            is_over.set()
            follower.join()


def _progress() -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=_console(sys.stderr),
        transient=True,
        redirect_stdout=is_one(sys.stdout),
    )


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)
