"""Shell completion of directory and checkpoint names from the server, within a short timeout."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress

from .session import Session

TIMEOUT_S = 2.0
"""The timeout of a completion, in seconds."""
_MOST = 1000
_TAKEN_APART = re.compile(r"[\s'\"\\$`&|;<>(){}\[\]*?!~#]")


def directory_names(incomplete: str) -> list[str]:
    """Return the directories that complete a word."""
    return _found(incomplete, _directories)


def checkpoint_names(incomplete: str) -> list[str]:
    """Return the directories, and the checkpoints of the directory in the word, that complete it."""
    return _found(incomplete, _all)


def _found(incomplete: str, names: Callable[[Session, str], Iterator[str]]) -> list[str]:
    with suppress(Exception), warnings.catch_warnings():  # a shell that completes a word wants no error
        warnings.simplefilter("ignore")
        session = Session.of(os.environ.get("HOLDFAST_URL"), as_json=False, patience_s=0.0, timeout_s=TIMEOUT_S)
        return sorted(
            {name for name in names(session, incomplete) if name.startswith(incomplete) and _is_one_word(name)}
        )
    return []


def _is_one_word(name: str) -> bool:
    """Tell if the shell passes a name on unchanged: bash splits names with spaces and the like; other shells quote
    them.
    """
    return os.environ.get("_HOLDFAST_COMPLETE") != "complete_bash" or not _TAKEN_APART.search(name)


def _directories(session: Session, incomplete: str) -> Iterator[str]:
    above, _, _ = incomplete.rpartition("/")
    page = session.ask("/v1/directories", prefix=session.below(above or None), page_size=_MOST)
    yield from (session.shown(found["directory"]) for found in page["directories"])


def _all(session: Session, incomplete: str) -> Iterator[str]:
    yield from _directories(session, incomplete)
    above, _, begun = incomplete.rpartition("/")
    if above and (directory := session.described(session.directory(above))) and directory["count"]:
        page = session.ask("/v1/checkpoints", directory=directory["directory"], order_by="-position", page_size=_MOST)
        names = ["best", "latest", *(found["name"] for found in page["checkpoints"])]
        yield from (f"{above}/{name}" for name in names if name.startswith(begun))
