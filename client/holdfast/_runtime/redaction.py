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
_OURS = re.compile(r"\b(hfs[tl]_)[0-9A-Za-z_.=-]{12,}")
"""Tokens and signed links of this server."""
_LINK = re.compile(r"(?<=/v1/links/)[^\s'\"<>?#/]+")
_COLLAPSED = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):/+(?=[^/])")
"""The beginning of a URL, also after `Path` has taken one of its slashes."""
_PAIR = re.compile(r"^[^/\s@:]+:[^\s@]*@")
_OPAQUE = re.compile(r"(?=[^/\s]*[0-9])(?=[^/\s]*[A-Za-z])[0-9A-Za-z+/_.=~-]{20,}")


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove these secrets from a text, and all that looks like a login, a credential or a signed query."""
    for secret in sorted({each for each in secrets if len(each) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _LOGIN.sub("", text)
    text = _QUERY.sub(f"?{HIDDEN}", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _LINK.sub(HIDDEN, _OURS.sub(rf"\1{HIDDEN}", text))
    return _FIELD.sub(rf"\1={HIDDEN}", text)


def shown_url(url: str) -> str:
    """Return a URL that may be shown and stored: without login, query and fragment, also if it is malformed."""
    scheme, separator, rest = url.strip().rpartition("://") if url.count("://") == 1 else ("", "", url.strip())
    rest = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return f"{scheme}{separator}{rest}"


def shown_name(given: str) -> str:
    """Redact a name or a path that was refused: a URL is shown without login, query and signed link."""
    text = _COLLAPSED.sub(r"\1://", given)
    return redacted(shown_url(text) if "://" in text else _PAIR.sub("", text))


def looks_secret(given: str) -> bool:
    """Tell if a text given in the place of a path or a URL looks like a token."""
    text = given.strip()
    is_place = text.startswith(("/", ".", "~")) or ":" in text
    return bool(_OURS.search(text)) or (not is_place and bool(_OPAQUE.fullmatch(text)))


def redact_chain(error: BaseException, secrets: Iterable[str]) -> None:
    """Redact an exception, its causes and contexts, in place: a traceback prints every one of them."""
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
