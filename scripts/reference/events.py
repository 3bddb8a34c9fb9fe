"""The table of events: their names from the code that records them, the rest written in the page."""

import ast
from collections.abc import Iterator
from pathlib import Path

from scripts.reference.markdown import code, kept
from scripts.reference.markdown import table as a_table

_APP = Path(__file__).parents[2] / "app"


def table(standing: str) -> str:
    """Return each event, and when it comes."""
    about = kept(standing, "event")
    return a_table(
        ("event", "when, and what its data has"), ((code(name), about.get(code(name), "")) for name in names())
    )


def names() -> list[str]:
    """Return the names of the events that the server records."""
    return sorted({name for path in _APP.rglob("*.py") for name in _recorded(ast.parse(path.read_text()))})


def _recorded(tree: ast.AST) -> Iterator[str]:
    """Yield the texts in the first argument of each ``….events.add(…)``; a conditional expression has two."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.func).endswith("events.add"):
            yield from (
                found.value
                for found in ast.walk(call.args[0])
                if isinstance(found, ast.Constant) and isinstance(found.value, str)
            )
