"""Responses: a server's refusal and its meaning, and that of a proxy, which says nothing about the server."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from .._runtime.interruption import reraise
from .._runtime.redaction import redacted, shown_url
from ..errors import HoldfastError, from_problem
from .messages import Response

_PROBLEM = "application/problem+json"
_TYPES = "urn:holdfast:problem:"
_WORDS = 160
_READ_BYTES = 16 * 1024
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_HINTS = {
    401: "It requires a login of its own: exempt this client, or put the login into HOLDFAST_URL",
    403: "It does not admit this client",
    404: "No Holdfast server is at this URL: check HOLDFAST_URL, including the path if it needs one",
    407: "The proxy requires a login: http://user:password@host in the variable that names it",
    413: (
        "Its limit for the body of a request is too small for checkpoints: 'client_max_body_size 0;' in nginx, "
        "'LimitRequestBody 0' in Apache, or at least 64 MiB"
    ),
    200: "Check HOLDFAST_URL, and whether a login page or a cache answers instead of the server",
    204: "Check HOLDFAST_URL, and whether a login page or a cache answers instead of the server",
    502: "It does not reach the server behind it",
    503: "It has no server behind it at present",
    504: "The server behind it did not answer in time",
}
_REDIRECTS = {301, 302, 303, 307, 308}


def raise_for_status(response: Response, asked: str, secrets: Iterable[str] = ()) -> None:
    """Raise the error that a response stands for; do nothing for a success.

    Parameters
    ----------
    asked : str
        The URL that was asked.
    secrets : iterable of str
        The texts that must not appear in any message.

    Raises
    ------
    HoldfastError
        A refusal, if the body is a problem detail of a Holdfast server. Any other response comes from something in
        front of it and raises `ServerFailed`, whatever its status, without a code in ``problem``.
    """
    if response.is_success:
        return
    retry_after = response.headers.get("retry-after", "")
    retry_after_s = float(retry_after) if retry_after.isdecimal() else None
    problem = _redacted(_problem(response), secrets)
    message = "" if problem else redacted(_intermediary_message(response, asked), secrets)
    raise from_problem(response.status, problem, retry_after_s, said=message)


def parse_json(
    response: Response, asked: str, secrets: Iterable[str] = (), *, may_be_empty: bool = True
) -> dict[str, Any]:
    """Return the JSON of a successful response; raise `ServerFailed` if it is no JSON."""
    if not response.body and may_be_empty:
        return {}
    try:
        found = json.loads(response.body)
    except ValueError as error:
        reraise(error)
        found = None
    if not isinstance(found, dict) or not (found or may_be_empty):
        raise from_problem(response.status, {}, said=redacted(_intermediary_message(response, asked), secrets))
    return found


@contextmanager
def parse_errors() -> Iterator[None]:
    """Raise `ServerFailed` if reading a response fails: something in front of the server has sent other JSON."""
    try:
        yield
    except HoldfastError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        reraise(error)
        said = f"the response is not a Holdfast server's, but from something in front of it. {_HINTS[200]}"
        raise from_problem(200, {}, said=said) from error


def moved_to(response: Response, asked: str) -> str | None:
    """Return the URL to which a response redirects."""
    location = response.headers.get("location", "").strip()
    if response.status not in _REDIRECTS or not location or not location.isprintable():
        return None
    try:
        return urljoin(asked, location)
    except ValueError as error:
        reraise(error)
        return None


def same_server(response: Response, url: str, path: str) -> str | None:
    """Return the base URL of the same server to which a response redirects; None for any other response.

    It is the same server, which may be sent the token, if the host is the same, the scheme and port are the same or the
    scheme becomes https, and the same path follows, behind any prefix.
    """
    target = moved_to(response, url)
    if target is None:
        return None
    ours, theirs = urlsplit(url), urlsplit(target)
    is_same = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
    is_safer = (ours.scheme, theirs.scheme) == ("http", "https") and theirs.hostname == ours.hostname
    is_at_path = theirs.path.endswith(path) and theirs[:3] != ours[:3]
    if not (is_same or is_safer) or "@" in theirs.netloc or not is_at_path:
        return None
    return f"{theirs.scheme}://{theirs.netloc}{theirs.path.removesuffix(path).rstrip('/')}"


def _problem(response: Response) -> dict[str, Any]:
    """Return the problem detail of a Holdfast server; empty for any other body."""
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != _PROBLEM:
        return {}
    try:
        found = json.loads(response.body)
    except ValueError as error:
        reraise(error)
        return {}
    is_ours = isinstance(found, dict) and isinstance(found.get("code"), str)
    return found if is_ours and str(found.get("type")).startswith(_TYPES) else {}  # other services use `code`, too


def _redacted(problem: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    known = list(secrets)
    return {
        name: redacted(value, known) if name in {"detail", "title"} and isinstance(value, str) else value
        for name, value in problem.items()
    }


def _intermediary_message(response: Response, asked: str) -> str:
    """Describe a response of something in front of the server: its name, its words, and advice."""
    who = " ".join(filter(None, (response.headers.get("server"), _via(response))))
    words = f"{who}: {_words(response.body)}".strip(": ")
    what = f"status {response.status} from {shown_url(asked)} does not come from a Holdfast server"
    what += " but from something in front of it"
    what += f" ({_clean(words)[:_WORDS]})" if words else ""
    target = moved_to(response, asked)
    hint = f"It redirects to {shown_url(target)}: set HOLDFAST_URL to where the server is" if target else None
    hint = hint or _HINTS.get(response.status)
    return f"{what}. {hint}" if hint else what


def _via(response: Response) -> str:
    via = response.headers.get("via")
    return f"via {via}" if via else ""


def _words(body: bytes) -> str:
    """Return the title of a page, or its first words."""
    from html import unescape  # only a web page needs it

    text = body[:_READ_BYTES].decode("utf-8", "replace")
    title = _TITLE.search(text)
    if title is not None and title[1].strip():
        return _clean(unescape(title[1]))
    return _clean(unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text))))[:_WORDS]


def _clean(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
