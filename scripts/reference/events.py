"""The table of events: their names from the code that records them, the rest written in the page."""

import re
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
    sources = "".join(path.read_text() for path in sorted(_APP.rglob("*.py")))
    return sorted(set(re.findall(r'events\.add\(\s*"([a-z_.]+)"', sources)))
