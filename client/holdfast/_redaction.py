"""Redaction: removes tokens, logins and signed queries from text before it is shown, logged or stored. Pure."""

import re
from collections.abc import Iterable, Iterator

HIDDEN = "…"
_SHORTEST = 6
"""A secret of fewer characters is part of ordinary words and cannot be replaced without spoiling the text."""
_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
_SIGNED = r"(?:x-amz-[\w-]+|x-goog-[\w-]+|signature|sig|credential|token|password|secret)"
_QUERY = re.compile(rf"(?i)\?(?:[^\s'\"<>?]*&)?{_SIGNED}=[^\s'\"<>]*")
_HEADER = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{16,}")
_FIELD = re.compile(rf"(?i)\b({_SIGNED})=[^\s&'\"<>]+")


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Text without these secrets, and without anything that looks like a login, a credential or a signed query."""
    for secret in sorted({each for each in secrets if len(each) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _LOGIN.sub("", text)
    text = _QUERY.sub(f"?{HIDDEN}", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    return _FIELD.sub(rf"\1={HIDDEN}", text)


def shown_url(url: str) -> str:
    """A URL as it may be shown and stored: without login, query and fragment, also where it is malformed."""
    scheme, separator, rest = url.strip().rpartition("://") if url.count("://") == 1 else ("", "", url.strip())
    rest = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return f"{scheme}{separator}{rest}"


def redact_chain(error: BaseException, secrets: Iterable[str]) -> None:
    """Redact an exception and all that led to it, in place: a traceback prints every one of them."""
    known = list(secrets)
    for each in _chain(error):
        if any(isinstance(argument, str | bytes) for argument in each.args):
            each.args = tuple(_redacted_argument(argument, known) for argument in each.args)


def _redacted_argument(argument: object, secrets: list[str]) -> object:
    if isinstance(argument, bytes):
        text = argument.decode("latin-1")
        return argument if redacted(text, secrets) == text else redacted(text, secrets)
    return redacted(argument, secrets) if isinstance(argument, str) else argument


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [each.__cause__, each.__context__]
