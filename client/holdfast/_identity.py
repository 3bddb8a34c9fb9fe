"""Identities of servers: the id that a server gives in every answer, whatever its URL is.

The ids that this process has met are kept by URL. Nothing here delays or fails a save.
"""

import re
from collections.abc import Mapping

FIELD = "holdfast-server-id"
PATIENCE_S = 3.0
"""The longest time, in seconds, for which a server is asked who it is."""
_ID = re.compile(r"[0-9a-f]{32}")
_known: dict[str, str] = {}
_asked: set[str] = set()


def is_id(value: object) -> bool:
    """Whether a value is the id of a server."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def learn(url: str, fields: Mapping[str, str]) -> None:
    """Take the id out of the fields of an answer; older servers give none."""
    found = fields.get(FIELD)
    if found is not None and is_id(found):
        _known[url] = found


def of(url: str) -> str | None:
    """The id that the server at a URL has given to this process."""
    return _known.get(url)


def is_unknowable(url: str) -> bool:
    """Whether the server at a URL was asked who it is, and has not said so."""
    return url in _asked and url not in _known


def note_asked(url: str) -> None:
    """Note that a server was asked who it is."""
    _asked.add(url)


def forget() -> None:
    """Forget every server, as a new process."""
    _known.clear()
    _asked.clear()
