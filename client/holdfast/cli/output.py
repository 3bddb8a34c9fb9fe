"""How answers are shown: tables on a terminal, tab-separated lines in a pipe, one JSON document where that is asked."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from . import formatting
from .formatting import printable


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as it is shown on a terminal, and as programs want it."""

    shown: str
    plain: str
    style: str = ""

    @classmethod
    def of(cls, value: "Cell | str") -> "Cell":
        return value if isinstance(value, Cell) else cls(value, value)

    @classmethod
    def number(cls, value: Any, style: str = "") -> "Cell":
        """A number, or any other value of JSON; people get it rounded."""
        return cls(formatting.number(value), formatting.exact(value), style)

    @classmethod
    def size(cls, size_bytes: int) -> "Cell":
        """A number of bytes; people get it rounded."""
        return cls(formatting.size(size_bytes), str(size_bytes))

    @classmethod
    def count(cls, number: int) -> "Cell":
        """A count; people get it with separators."""
        return cls(f"{number:,}", str(number))


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
        sys.stdout.write(_json(value, indent=2) + "\n")

    def record(self, value: Any) -> None:
        """One line of JSON, at once."""
        sys.stdout.write(_json(value) + "\n")
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
        """A table; a column whose title begins with ``>`` is flush right. In a pipe it has no titles.

        Names are not cut where they are longer than the terminal is wide: that wraps them.
        """
        if not self.is_terminal:
            for row in rows:
                self._write_plain([Cell.of(cell) for cell in row])
            return
        found = [[Cell.of(cell) for cell in row] for row in rows]
        titles = [Cell(title.lstrip(">"), "", "bold dim") for title in columns]
        widths = [
            max(cell_len(printable(row[place].shown)) for row in [titles, *found]) for place in range(len(columns))
        ]
        for row in [titles, *found]:
            line = Text()
            for title, cell, width in zip(columns, row, widths, strict=True):
                text = printable(cell.shown)
                space = " " * (width - cell_len(text))
                line.append(space + text if title.startswith(">") else text + space, cell.style).append("  ")
            line.rstrip()
            self.console.print(line)

    def facts(self, rows: Iterable[Row]) -> None:
        """A name and its values, a line for each."""
        found = [[Cell.of(cell) for cell in row] for row in rows]
        width = max((len(name.shown) for name, *_ in found), default=0)
        for name, *values in found:
            title = Cell(f"{name.shown:<{width}}", name.plain, "dim")
            self.row([title, *(value for value in values if self.is_terminal is False or value.shown)])

    def _write_plain(self, cells: Sequence[Cell]) -> None:
        sys.stdout.write("\t".join(printable(cell.plain) for cell in cells) + "\n")


def _json(value: Any, indent: int | None = None) -> str:
    """A value as JSON, in ASCII where standard output has no other characters."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"holdfast: {printable(' '.join(message.split()))}", file=sys.stderr)
