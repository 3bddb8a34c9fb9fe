"""How answers are shown: tables on a terminal, tab-separated lines in a pipe, one JSON document where that is asked."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .words import printable


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as it is shown on a terminal, and as programs want it."""

    shown: str
    plain: str
    style: str = ""

    @classmethod
    def of(cls, value: "Cell | str") -> "Cell":
        return value if isinstance(value, Cell) else cls(value, value)


Row = Sequence[Cell | str]


class Output:
    """Standard output.

    Parameters
    ----------
    as_json : bool
        Whether programs asked for JSON.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks."""
        return self.console.is_terminal

    def document(self, value: Any) -> None:
        """One JSON document."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def record(self, value: Any) -> None:
        """One line of JSON, at once."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def line(self, text: str, style: str = "") -> None:
        """A line of words."""
        self.console.print(Text(printable(text), style=style))

    def row(self, cells: Row) -> None:
        """A line of values, at once: with spaces between them on a terminal, else with tabs."""
        found = [Cell.of(cell) for cell in cells]
        if not self.is_terminal:
            self._write_plain(found)
            sys.stdout.flush()
            return
        self.console.print(Text("  ").join(Text(printable(cell.shown), style=cell.style) for cell in found))

    def table(self, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """A table; a column whose title begins with ``>`` is flush right. In a pipe it has no titles."""
        if not self.is_terminal:
            for row in rows:
                self._write_plain([Cell.of(cell) for cell in row])
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
        for title in columns:
            table.add_column(title.lstrip(">"), justify="right" if title.startswith(">") else "left", no_wrap=True)
        for row in rows:
            found = [Cell.of(cell) for cell in row]
            table.add_row(*(Text(printable(cell.shown), style=cell.style) for cell in found))
        self.console.print(table, soft_wrap=False, crop=False, overflow="ignore", width=_width(self.console, table))

    def facts(self, rows: Iterable[Row]) -> None:
        """A name and its values, a line for each."""
        found = [[Cell.of(cell) for cell in row] for row in rows]
        width = max((len(name.shown) for name, *_ in found), default=0)
        for name, *values in found:
            title = Cell(f"{name.shown:<{width}}", name.plain, "dim")
            self.row([title, *(value for value in values if self.is_terminal is False or value.shown)])

    def _write_plain(self, cells: Sequence[Cell]) -> None:
        sys.stdout.write("\t".join(printable(cell.plain) for cell in cells) + "\n")


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"holdfast: {printable(' '.join(message.split()))}", file=sys.stderr)


def _width(console: Console, table: Table) -> int:
    """As wide as the table needs: names are not cut, a terminal wraps them."""
    return max(console.width, table.__rich_measure__(console, console.options.update(max_width=10_000)).maximum)
