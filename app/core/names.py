"""Names of directories, checkpoints and files: their grammar, checked and never normalised, and safe display. Pure."""

import re
import unicodedata
from datetime import datetime

from blake3 import blake3

from app.core.errors import InvalidName
from app.core.models import Kind

RESERVED = ".holdfast"
"""The folder of the server's own records, in the root and in each directory."""
ID_DIGITS = 12
COMPONENT_MAX_BYTES = 200  # leaves room for ".json" and the marks of temporary files below the usual 255
DIRECTORY_MAX_BYTES = 1024
TREE_PATH_MAX_BYTES = 2 * DIRECTORY_MAX_BYTES + COMPONENT_MAX_BYTES + 2
PUNCTUATION = frozenset("._-+=@,:~()[]{} ")
INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Invisible letters and marks (Default_Ignorable_Code_Point), which some file systems drop from names."""
_ASCII = re.compile(r"[A-Za-z0-9._\-+=@,:~()\[\]{} ]+")
"""Names of these characters only need no check of each character."""


def directory_name(text: str) -> str:
    """Check the name of a directory: components joined by ``/``, none beginning with a dot.

    Raises
    ------
    InvalidName
        The text is empty, absolute, too long, or has a component outside the grammar.
    """
    return _path(text, "directory name", dots=False)


def checkpoint_name(text: str) -> str:
    """Check the name of a checkpoint: one component that does not begin with a dot, and not ``directory``.

    That name is reserved for the directory's own record among the manifests.
    """
    if text == "directory":
        raise InvalidName("The checkpoint name 'directory' is reserved for the server's own record.")
    return _component(text, "checkpoint name", dots=False)


def file_path(text: str) -> str:
    """Check the path of a file within a checkpoint. Components may begin with a dot, as in sharded formats."""
    return _path(text, "file path", dots=True)


def tree_path(text: str) -> str:
    """Check a path of the tree: a directory, perhaps with a checkpoint in it, perhaps with a file or folder in that."""
    return _path(text, "path", dots=True, most_bytes=TREE_PATH_MAX_BYTES)


def tag(text: str) -> str:
    """Check a tag: one component."""
    return _component(text, "tag", dots=False)


def is_within(directory: str, prefix: str) -> bool:
    """Tell if a directory is the prefix or below it, by whole components: ``team/ab`` is not within ``team/a``."""
    return not prefix or directory == prefix or directory.startswith(f"{prefix}/")


def escaped(text: str, *, keep: str = "") -> str:
    """Write each character that cannot be shown as an escape, such as ``\\x1b`` or ``\\u202e``.

    Such characters move a terminal's cursor, end a line, hide text or turn its direction. Those in ``keep`` stay.
    """
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() or mark in keep else ascii(mark)[1:-1] for mark in text)


def default_name(kind: Kind, epoch: int | None, step: int | None, at: datetime, save_id: str) -> str:
    """Return a name for a save without one: by epoch and step, or by UTC time and a digest of its ``save_id``.

    The digest separates two saves within one second, even if their ids share a prefix.
    """
    stem = "best" if kind == "best" else "checkpoint"
    counters = [] if epoch is None else [f"epoch_{epoch:04d}"]
    counters += [] if step is None else [f"step_{step:08d}"]
    if counters:
        return f"{stem}_{'_'.join(counters)}.pt"
    return f"{stem}_{at:%Y%m%dT%H%M%S}_{blake3(save_id.encode()).hexdigest()[:ID_DIGITS]}.pt"


def _path(text: str, what: str, *, dots: bool, most_bytes: int = DIRECTORY_MAX_BYTES) -> str:
    if len(text.encode("utf-8", "surrogatepass")) > most_bytes:
        raise InvalidName(f"The {what} is longer than {most_bytes} bytes.")
    if text.startswith("/"):
        raise InvalidName(f"The {what} {_shown(text)} is absolute; names are relative to the server's root.")
    for component in text.split("/"):
        if fault := _fault(component, dots=dots):
            raise InvalidName(f"The {what} {_shown(text)} {fault}.")
    return text


def _component(text: str, what: str, *, dots: bool) -> str:
    if fault := _fault(text, dots=dots):
        raise InvalidName(f"The {what} {_shown(text)} {fault}.")
    return text


def _fault(text: str, *, dots: bool) -> str | None:
    if not text:
        return "has an empty component"
    if text in {".", ".."} or (text.startswith(".") and not dots) or text.casefold() == RESERVED:
        return "has a component that begins with a dot"
    if len(text.encode("utf-8", "surrogatepass")) > COMPONENT_MAX_BYTES:
        return f"has a component longer than {COMPONENT_MAX_BYTES} bytes"
    if text != text.strip() or (text.endswith(".") and text != "."):
        return "has a component that begins or ends with a space, or ends with a dot"
    if _ASCII.fullmatch(text):
        return None
    for character in text:
        is_letter = unicodedata.category(character)[0] in "LNM" and not INVISIBLE.match(character)
        if not (character in PUNCTUATION or is_letter):
            return f"contains {character!r}, which names may not have"
    if not unicodedata.is_normalized("NFC", text):
        return "is not in Unicode's NFC form"
    return None


def _shown(text: str) -> str:
    """Quote a name for a message, with escapes only for characters that no terminal shows."""
    return repr(text if len(text) <= DIRECTORY_MAX_BYTES else text[:DIRECTORY_MAX_BYTES] + "...")
