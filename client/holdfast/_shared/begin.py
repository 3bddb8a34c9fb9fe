"""The beginning of a shared save: checks the arguments that all writers give alike, before anything is sent."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._api.server import Server
from .._arguments import checks
from .calls import SharedCalls
from .save import SharedSave

_SAVE_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_WRITER = re.compile(r"[\x20-\x7e]{1,200}")


def begin(
    server: Server,
    path: Path,
    save: Mapping[str, Any],
    writer: str,
    terms: Mapping[str, Any],
    precondition: Mapping[str, str | None],
) -> SharedSave:
    """Return the part of one writer; nothing is sent yet.

    Parameters
    ----------
    save : mapping
        The facts, the policy and the ``save_id``.
    terms : mapping
        ``attempt``, ``writers`` and ``commit_when_ready``.
    precondition : mapping
        Digests, or ``*``, by header.

    Raises
    ------
    TypeError, ValueError
        An argument cannot be used.
    """
    _matching("save_id", save["save_id"], _SAVE_ID, "8 to 64 letters, digits, _ and -")
    _matching("writer", writer, _WRITER, "1 to 200 printable ASCII characters")
    writers = terms["writers"]
    if isinstance(writers, str):
        raise TypeError("writers must be a list of names, not a text")
    writers = list(writers) if writers is not None else None
    for name in writers or ():
        _matching("writers", name, _WRITER, "names of 1 to 200 printable ASCII characters")
    commit_when_ready = checks.switch("commit_when_ready", terms["commit_when_ready"])
    if commit_when_ready and not writers:
        raise ValueError("commit_when_ready needs the writers to wait for")
    attempt = checks.count("attempt", terms["attempt"], least=0)
    body = {**save, "shared": True, "attempt": attempt, "writers": writers, "commit_when_ready": commit_when_ready}
    headers = {name: _tag(value) for name, value in precondition.items() if value is not None}
    return SharedSave(SharedCalls(server, body, writer, headers), path, writer, attempt)


def _matching(what: str, value: Any, pattern: re.Pattern[str], wanted: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, not {value!r}")
    if not pattern.fullmatch(value):
        raise ValueError(f"{what} must be {wanted}, not {value!r}")


def _tag(value: str) -> str:
    return value if value == "*" else f'"{value}"'
