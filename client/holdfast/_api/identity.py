"""Identities of servers: the id that a server gives in every answer, whatever its URL is.

The ids that this process has met are kept by URL. Nothing here delays or fails a save.
"""

import re
import time
from collections.abc import Mapping

FIELD = "holdfast-server-id"
PATIENCE_S = 3.0
"""The longest time, in seconds, that a request for a server's id may take."""
_ID = re.compile(r"[0-9a-f]{32}")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
"""The bounds of the back-off after requests for an id that no server answered."""
_known: dict[str, str] = {}
_silent: set[str] = set()
"""The URLs of servers that have answered without an id."""
_unreached: dict[str, tuple[float, float]] = {}
"""By the URL of a server that did not answer: the time of the next request for its id, and the current back-off."""
_outage_ended_at = 0.0
"""The time, of `time.monotonic`, at which an outage of any server ended last: what failed before says nothing now."""


def is_id(value: object) -> bool:
    """Tell if a value is the id of a server."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def learn(url: str, fields: Mapping[str, str]) -> None:
    """Remember the id in the headers of a response; older servers send none."""
    found = fields.get(FIELD)
    if found is not None and is_id(found):
        _known[url] = found


def of(url: str) -> str | None:
    """Return the id that the server at a URL has given to this process."""
    return _known.get(url)


def is_silent(url: str) -> bool:
    """Tell if the server at a URL has answered without an id, as older ones do."""
    return url in _silent and url not in _known


def is_unknowable(url: str) -> bool:
    """Tell if asking a server for its id is pointless for now: it sends none, or was unreachable a moment ago."""
    if url in _known:
        return False
    return url in _silent or time.monotonic() < _unreached.get(url, (0.0, 0.0))[0]


def note_answer(url: str) -> None:
    """Note that a server has answered a request for its id; one without an id is an older one."""
    _unreached.pop(url, None)
    if url not in _known:
        _silent.add(url)


def note_unreached(url: str, asked_at: float) -> None:
    """Note that a server did not answer a request for its id. The wait before the next request doubles each time.

    Parameters
    ----------
    asked_at : float
        The time, of `time.monotonic`, at which the request was sent.
    """
    if asked_at < _outage_ended_at:
        return
    wait_s = min(2 * _unreached[url][1], _LONGEST_WAIT_S) if url in _unreached else _FIRST_WAIT_S
    _unreached[url] = time.monotonic() + wait_s, wait_s


def note_outage_end() -> None:
    """Let servers that did not answer be asked again at once: one was away, and they may be the same under other URLs.

    Otherwise what waits under another URL would be delivered after newer saves.
    """
    global _outage_ended_at
    _outage_ended_at = time.monotonic()
    _unreached.clear()


def forget() -> None:
    """Forget every server, as a new process would."""
    _known.clear()
    _silent.clear()
    _unreached.clear()
