"""Names of files that the server's grammar does not allow are escaped, reversibly: ``.a`` is stored as ``~2Ea``. Pure.

An escape is ``~`` and two upper-case hex digits, which stand for a byte of UTF-8. Names that the server takes are
stored as they are, unless they look like an escaped name themselves. So every name of the server has one name here, and
the other way round.
"""

import re
import unicodedata
from pathlib import PurePath

from .._arguments.name_grammar import PUNCTUATION, check_directory, check_meant, refused
from ..errors import InvalidRequest

ALIASES = ("@best", "@latest")
"""Components that stand for the name of the best and of the latest checkpoint of the directory before them."""

_ESCAPES = re.compile("(?:~[0-9A-F]{2})+")
_PATH_OF_URL = re.compile(r"holdfast:/(?!/)")


def stripped(path: str) -> str:
    """Return a path without its protocol, and without slashes at its ends or twice in a row.

    Raises
    ------
    InvalidRequest
        It is a URL that `pathlib.Path` has shortened.
    """
    if _PATH_OF_URL.match(path):
        why = "pathlib.Path has taken a slash from the URL. Give the URL as a text, 'holdfast://runs/a'"
        raise refused(path, "path", why)
    return "/".join(part for part in path.removeprefix("holdfast://").split("/") if part)


def parts_of(path: str) -> list[str]:
    """Return the components of a path.

    Raises
    ------
    InvalidRequest
        It has a component ``.`` or ``..``, or begins like something else, such as another URL or a home directory.
    """
    parts = path.split("/") if path else []
    if parts:
        check_meant(PurePath(parts[0]), "path")
    if "." in parts or ".." in parts:
        raise refused(path, "path", "it has a component '.' or '..'")
    return parts


def encoded(name: str) -> str:
    """Return the server's name for a component.

    Raises
    ------
    InvalidRequest
        The server could not store it: it is too long, or no Unicode.
    """
    if _is_plain(name) and decoded(name) == name:
        return name
    return check_directory(_escaped(name), "path")


def decoded(name: str) -> str:
    """Return the component that a name on the server stands for."""
    meant = _unescaped(name)
    if meant == name:
        return name
    try:
        is_escaped = "/" not in meant and encoded(meant) == name
    except InvalidRequest:
        return name
    return meant if is_escaped else name


def _is_plain(name: str) -> bool:
    try:
        check_directory(name)
    except InvalidRequest:
        return False
    return True


def _escaped(name: str) -> str:
    try:
        found = _escaped_where(name, keeps_letters=True)
        is_normal = unicodedata.is_normalized("NFC", found)
        return found if is_normal else _escaped_where(name, keeps_letters=False)
    except UnicodeEncodeError:
        raise refused(ascii(name), "path", "it has characters that are no Unicode text") from None


def _escaped_where(name: str, *, keeps_letters: bool) -> str:
    last = len(name) - 1
    return "".join(
        character
        if _is_kept(character, keeps_letters=keeps_letters)
        and not (character in ". " and place in (0, last))
        and not (character == "~" and _ESCAPES.match(name, place))
        else "".join(f"~{byte:02X}" for byte in character.encode())
        for place, character in enumerate(name)
    )


def _is_kept(character: str, *, keeps_letters: bool) -> bool:
    if character.isascii():
        return character.isalnum() or character in PUNCTUATION
    return keeps_letters and _is_plain(f"a{character}a")


def _unescaped(name: str) -> str:
    try:
        return _ESCAPES.sub(lambda found: bytes.fromhex(found[0].replace("~", "")).decode(), name)
    except UnicodeDecodeError:
        return name
