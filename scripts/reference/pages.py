"""Pages and their generated parts, with the function that writes each part."""

import re
from collections.abc import Callable
from pathlib import Path

from scripts.reference import client, commands, errors, events, metrics, routes, settings

DOCS = Path(__file__).parents[2] / "docs" / "reference"

Part = Callable[[str], str]
"""Returns a generated part. It is given the part that stands in the page, whose hand-written columns it keeps."""

PAGES: dict[str, dict[str, Part]] = {
    "settings.md": {"settings": settings.table},
    "errors.md": {"errors": errors.table},
    "events.md": {"events": events.table},
    "metrics.md": {"metrics": metrics.table},
    "api.md": routes.parts(),
    "cli.md": commands.of_the_client(),
    "server-cli.md": commands.of_the_server(),
    "client.md": client.parts(),
}


def current(page: str) -> str:
    """Return the page as it should be.

    Raises
    ------
    ValueError
        The page lacks a part, or names one that nothing writes.
    """
    text = (DOCS / page).read_text()
    named = re.findall(r"^<!-- generated: (.+) -->$", text, re.MULTILINE)
    if sorted(named) != sorted(PAGES[page]):
        raise ValueError(f"{page} has the generated parts {sorted(named)}, not {sorted(PAGES[page])}")
    for name, part in PAGES[page].items():
        text = _with(text, name, part)
    return text


def stale() -> list[str]:
    """Return the pages that are not current."""
    return [page for page in PAGES if current(page) != (DOCS / page).read_text()]


def write(page: str) -> None:
    """Write the generated parts of a page anew."""
    (DOCS / page).write_text(current(page))


def _with(text: str, name: str, part: Part) -> str:
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    before, _, rest = text.partition(f"{begin}\n")
    standing, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{part(standing).strip()}\n\n{end}{after}"
