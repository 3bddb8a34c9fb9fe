"""Output: tables on a terminal, tab-separated lines in a pipe, one JSON document with ``--json``."""

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
    """A value in two forms: for people on a terminal, and for programs."""

    shown: str
    plain: str
    style: str = ""

    @classmethod
    def of(cls, value: "Cell | str") -> "Cell":
        return value if isinstance(value, Cell) else cls(value, value)

    @classmethod
    def number(cls, value: Any, style: str = "") -> "Cell":
        """Return a number, or any other JSON value, rounded for people."""
        return cls(formatting.number(value), formatting.exact(value), style)

    @classmethod
    def size(cls, size_bytes: int) -> "Cell":
        """Return a number of bytes, rounded for people."""
        return cls(formatting.size(size_bytes), str(size_bytes))

    @classmethod
    def count(cls, number: int) -> "Cell":
        """Return a count, with separators for people."""
        return cls(f"{number:,}", str(number))


Row = Sequence[Cell | str]


class Output:
    """Standard output.

    Parameters
    ----------
    as_json : bool
        True for JSON output.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """True if standard output is a terminal."""
        return self.console.is_terminal

    def document(self, value: Any) -> None:
        """Write one JSON document."""
        sys.stdout.write(_json(value, indent=2) + "\n")

    def record(self, value: Any) -> None:
        """Write one line of JSON and flush it."""
        sys.stdout.write(_json(value) + "\n")
        sys.stdout.flush()

    def line(self, text: str, style: str = "") -> None:
        """Write a line of words."""
        self.console.print(Text(printable(text), style=style))

    def row(self, cells: Row) -> None:
        """Write a line of values and flush it, separated by spaces on a terminal and by tabs otherwise."""
        found = [Cell.of(cell) for cell in cells]
        if not self.is_terminal:
            self._write_plain(found)
            sys.stdout.flush()
            return
        self.console.print(Text("  ").join(Text(printable(cell.shown), style=cell.style) for cell in found))

    def table(self, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Write a table. A column whose title begins with ``>`` is aligned right. A pipe gets no titles.

        A name longer than the terminal is wide is not cut but wrapped.
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
        """Write names with their values, one line each."""
        found = [[Cell.of(cell) for cell in row] for row in rows]
        width = max((len(name.shown) for name, *_ in found), default=0)
        for name, *values in found:
            title = Cell(f"{name.shown:<{width}}", name.plain, "dim")
            self.row([title, *(value for value in values if self.is_terminal is False or value.shown)])

    def _write_plain(self, cells: Sequence[Cell]) -> None:
        sys.stdout.write("\t".join(printable(cell.plain) for cell in cells) + "\n")


def _json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, in ASCII if standard output cannot encode other characters."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def complain(message: str) -> None:
    """Write one line to standard error."""
    print(f"holdfast: {printable(' '.join(message.split()))}", file=sys.stderr)
