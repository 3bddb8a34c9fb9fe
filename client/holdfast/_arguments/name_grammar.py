"""The server's grammar of names, checked before anything is sent. Pure."""

import re
import unicodedata
from pathlib import PurePath, PureWindowsPath

from .._runtime.redaction import shown_name
from ..errors import InvalidRequest

COMPONENT_MAX_BYTES = 200
DIRECTORY_MAX_BYTES = 1024
PUNCTUATION = frozenset("._-+=@,:~()[]{} ")
INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_ASCII = re.compile(r"[A-Za-z0-9._\-+=@,:~()\[\]{} ]+")
"""The characters of most names; other characters are checked one by one."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_STORE = re.compile(r"(?i)(https?|ftps?|sftp|ssh|rsync|s3[an]?|gs|gcs|abfss?|wasbs?|hdfs|webhdfs|dbfs|file):[a-z]")
"""Schemes that are also written without slashes. Other names may have a colon, such as ``lr:0.1``."""
_HOST = re.compile(r"(?i)(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:]*:[0-9a-f:.]*\]|[a-z0-9.-]+(?=:8420)):\d{1,5}")
"""A host and a port. For most hosts only the server's default port counts, as ``resnet.a:10`` is a name."""
_ACCOUNT = re.compile(r"[^/@\s]+@(?:[\w.-]+\.[A-Za-z]{2,}:|[\w.-]+:$)")
"""An account on a host, as ``scp`` and ``git`` write it."""
_DRIVE = re.compile(r"[A-Za-z]:")
_VARIABLE = re.compile(r"\$\w|\$\{|%[A-Za-z_]\w*%")


def check_directory(name: str, what: str = "checkpoint directory") -> str:
    """Return the name of a directory if the server accepts it.

    Raises
    ------
    InvalidRequest
        The server does not accept it.
    """
    if len(name.encode("utf-8", "surrogatepass")) > DIRECTORY_MAX_BYTES:
        raise refused(name, what, f"it is longer than {DIRECTORY_MAX_BYTES} bytes")
    for component in name.split("/"):
        if fault := _fault(component):
            raise refused(name, what, fault)
    return name


def check_checkpoint(name: str) -> str:
    """Return the name of a checkpoint if the server accepts it; raise `InvalidRequest` otherwise."""
    if name == "directory":
        raise refused(name, "checkpoint", "the server reserves that name")
    return _check_component(name, "checkpoint")


def check_file(path: str) -> str:
    """Return the path of a file within a checkpoint if the server accepts it; raise `InvalidRequest` otherwise."""
    if len(path.encode("utf-8", "surrogatepass")) > DIRECTORY_MAX_BYTES:
        raise refused(path, "file of a checkpoint", f"it is longer than {DIRECTORY_MAX_BYTES} bytes")
    for component in path.split("/"):
        if component.casefold() == ".holdfast":
            raise refused(path, "file of a checkpoint", "the server reserves the name .holdfast")
        if fault := _fault(component, dots=component not in {".", ".."}):
            raise refused(path, "file of a checkpoint", fault)
    return path


def check_tag(name: str) -> str:
    """Return a tag if the server accepts it; raise `InvalidRequest` otherwise."""
    return _check_component(name, "tag")


def check_meant(path: PurePath, what: str = "checkpoint directory") -> None:
    """Refuse a path that names something else, such as a URL, or one that a shell should have expanded.

    It is stricter than the server: ``run[1]``, ``lr:0.1`` and ``a~b`` are allowed; ``~b``, ``s3:a``,
    ``localhost:8420/a`` and ``me@host:/a`` are not.

    Raises
    ------
    InvalidRequest
        The message says what to give instead.
    """
    parts = [part for part in path.parts if part != path.anchor]
    if not parts:
        return
    text = str(path)
    if _DRIVE.fullmatch(parts[0]) or (_DRIVE.match(parts[0]) and "\\" in text):
        why = "it begins with a drive. Leave that out, and put '/' between the parts"
    elif _SCHEME.fullmatch(parts[0]) or any(_SCHEME.fullmatch(part) for part in parts[:-1]):
        why = "it is a URL. Give a name such as 'runs/a'; the URL of the server belongs in server= or HOLDFAST_URL"
    elif _STORE.match(parts[0]) or _HOST.fullmatch(parts[0]):
        why = (
            "it begins like a URL. Give a name such as 'runs/a'; the URL of the server belongs in server= or "
            "HOLDFAST_URL"
        )
    elif _ACCOUNT.match(parts[0]):
        why = "it names an account on a machine. Give a name such as 'runs/a', on the Holdfast server"
    elif parts[0].startswith("~") or "~" in parts:
        why = "'~' means a home directory, and only a shell expands it. Give a name such as 'runs/a'"
    elif _VARIABLE.search(text):
        why = "it has a variable that was not expanded. Give its value"
    elif "*" in text or "?" in text:
        why = "it has a pattern that the shell did not expand. Give one name"
    elif "\\" in text and not isinstance(path, PureWindowsPath):
        why = "it has a backslash. Put '/' between the parts"
    else:
        return
    raise refused(text, what, why)


def refused(name: str, what: str, why: str) -> InvalidRequest:
    """Return the error for a name; its message hides secrets."""
    name = shown_name(name)
    shown = ascii(name if len(name) <= 80 else name[:77] + "...")
    return InvalidRequest(f"{shown} cannot be a {what}: {why}.", code="invalid_name")


def _check_component(name: str, what: str) -> str:
    if fault := _fault(name):
        raise refused(name, what, fault)
    return name


def _fault(text: str, *, dots: bool = False) -> str | None:
    if not text:
        return "it has an empty part"
    if text.startswith(".") and not dots:
        return "a part of it begins with a dot"
    if len(text.encode("utf-8", "surrogatepass")) > COMPONENT_MAX_BYTES:
        return f"a part of it is longer than {COMPONENT_MAX_BYTES} bytes"
    if text != text.strip() or text.endswith("."):
        return "a part of it begins or ends with a space, or ends with a dot"
    if _ASCII.fullmatch(text):
        return None
    for character in text:
        is_letter = unicodedata.category(character)[0] in "LNM" and not INVISIBLE.match(character)
        if not (character in PUNCTUATION or is_letter):
            return f"it has {character!a}, which names may not have"
    if not unicodedata.is_normalized("NFC", text):
        return "it is not in Unicode's NFC form, which unicodedata.normalize gives"
    return None
