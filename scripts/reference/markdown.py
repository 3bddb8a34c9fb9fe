"""Tables and words in Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar within a cell is escaped."""
    lines = [list(titles), ["---"] * len(titles), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def kept(standing: str, key: str) -> dict[str, str]:
    """Return the last cell of each row of a table that stands in a page, by the cell in the column with that title."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in standing.splitlines() if line.startswith("|")]
    if not rows:
        return {}
    column = [cell.strip() for cell in rows[0]].index(key)
    return {row[column].strip(): row[-1].strip().replace("\\|", "|") for row in rows[2:]}


def code(text: str) -> str:
    """Format text as code."""
    return f"`{text}`"


def sentence(text: str) -> str:
    """Put text on one line, ended by a full stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", ":", "!", "?")) or not line else f"{line}."


def from_rst(text: str) -> str:
    """Turn the code in a docstring into Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _cell(text: str) -> str:
    return " ".join(re.sub(r"(?<!\\)\|", r"\\|", text).split())
