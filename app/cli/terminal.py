"""Output for terminals: colours, tables and progress bars. Pipes get stable plain text.

rich is imported only for a terminal.
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
"""Text, or text with its style on terminals."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of some work; ``total`` is None if it is unknown."""

    what: str
    done: int
    total: int | None
    note: str = ""


def is_terminal(stream: TextIO) -> bool:
    """Tell if a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb", "unknown"}


def say(*spans: Span) -> None:
    """Print a line, with styles on a terminal."""
    if not is_terminal(sys.stdout):
        print("".join(span if isinstance(span, str) else span[0] for span in spans))
        return
    from rich.text import Text

    _console(sys.stdout).print(Text.assemble(*spans), soft_wrap=True)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[Span]]) -> None:
    """Print rows: as a table on a terminal, else in columns separated by two spaces."""
    if is_terminal(sys.stdout):
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
def bar(look: Callable[[], Progress]) -> Iterator[None]:
    """Show a progress bar on standard error while the block runs, if that is a terminal.

    Another thread calls ``look`` often, so it must be thread-safe. The bar disappears when the block ends.
    """
    if not is_terminal(sys.stderr):
        yield
        return
    with _progress() as shown:
        task = shown.add_task("", note="")
        is_over = threading.Event()

        def follow() -> None:
            is_first = True
            while is_first or not is_over.wait(EVERY_S):
                is_first, now = False, look()
                shown.update(task, description=now.what, completed=now.done, total=now.total, note=now.note)

        follower = threading.Thread(target=follow, name="holdfast-bar", daemon=True)
        follower.start()
        try:
            yield
        finally:
            is_over.set()
            follower.join()


def _progress() -> Any:
    from rich import progress as rich_progress
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return rich_progress.Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=_console(sys.stderr),
        transient=True,
        redirect_stdout=is_terminal(sys.stdout),
    )


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)
