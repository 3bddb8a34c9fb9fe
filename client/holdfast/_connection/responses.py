"""Answers: what a server's refusal means, and that of a proxy, which says nothing of the server or of a checkpoint."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from typing import Any
from urllib.parse import urljoin, urlsplit

from .._runtime.redaction import redacted, shown_url
from ..errors import HoldfastError, from_problem
from .sockets import Response

_PROBLEM = "application/problem+json"
_TYPES = "urn:holdfast:problem:"
_WORDS = 160
_READ_BYTES = 16 * 1024
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_HINTS = {
    401: "It wants a login of its own: let this client pass, or put the login into HOLDFAST_URL",
    403: "It does not let this client pass",
    404: "Nothing of Holdfast is at this address: see whether HOLDFAST_URL is right, with the path it may need",
    407: "The proxy wants a login: http://user:password@host in the variable that names it",
    413: (
        "Its limit for the body of a request is too small for checkpoints: 'client_max_body_size 0;' in nginx, "
        "'LimitRequestBody 0' in Apache, or at least 64 MiB"
    ),
    200: "See whether HOLDFAST_URL is right, and whether a page to log in or a cache answers in the server's place",
    204: "See whether HOLDFAST_URL is right, and whether a page to log in or a cache answers in the server's place",
    502: "It does not reach the server behind it",
    503: "It has no server behind it at the moment",
    504: "The server behind it did not answer in time",
}
_REDIRECTS = {301, 302, 303, 307, 308}


def raise_for_status(answer: Response, asked: str, secrets: Iterable[str] = ()) -> None:
    """Raise what an answer means, unless it means that all is well.

    Parameters
    ----------
    asked : str
        The URL that was asked.
    secrets : iterable of str
        What no message may have in it.

    Raises
    ------
    HoldfastError
        A problem detail of a Holdfast server is a refusal. Anything else comes from something in front of it, and is
        `ServerFailed` without a code of the server's in ``problem``, whatever its status.
    """
    if answer.is_success:
        return
    retry_after = answer.headers.get("retry-after", "")
    retry_after_s = float(retry_after) if retry_after.isdecimal() else None
    problem = _redacted(_problem(answer), secrets)
    said = "" if problem else redacted(_said_by_another(answer, asked), secrets)
    raise from_problem(answer.status, problem, retry_after_s, said=said)


def parse_json(
    answer: Response, asked: str, secrets: Iterable[str] = (), *, may_be_empty: bool = True
) -> dict[str, Any]:
    """The JSON of an answer that is no refusal; `ServerFailed` where it is none."""
    if not answer.body and may_be_empty:
        return {}
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not (found or may_be_empty):
        raise from_problem(answer.status, {}, said=redacted(_said_by_another(answer, asked), secrets))
    return found


@contextmanager
def parse_errors() -> Iterator[None]:
    """Read an answer. One that says other things than a Holdfast server would is from something in front of it."""
    try:
        yield
    except HoldfastError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        said = f"the answer is not a Holdfast server's, but of something before it. {_HINTS[200]}"
        raise from_problem(200, {}, said=said) from error


def moved_to(answer: Response, asked: str) -> str | None:
    """The URL to which an answer redirects."""
    location = answer.headers.get("location", "").strip()
    if answer.status not in _REDIRECTS or not location or not location.isprintable():
        return None
    try:
        return urljoin(asked, location)
    except ValueError:
        return None


def same_server(answer: Response, url: str, path: str) -> str | None:
    """Return the base URL of the same server to which a response redirects; None for any other response.

    It is the same server, which may be sent the token, if the host is the same, the scheme and port are the same or the
    scheme becomes https, and the same path follows, behind any prefix.
    """
    target = moved_to(answer, url)
    if target is None:
        return None
    ours, theirs = urlsplit(url), urlsplit(target)
    is_same = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
    is_safer = (ours.scheme, theirs.scheme) == ("http", "https") and theirs.hostname == ours.hostname
    is_at_path = theirs.path.endswith(path) and theirs[:3] != ours[:3]
    if not (is_same or is_safer) or "@" in theirs.netloc or not is_at_path:
        return None
    return f"{theirs.scheme}://{theirs.netloc}{theirs.path.removesuffix(path).rstrip('/')}"


def _problem(answer: Response) -> dict[str, Any]:
    """The problem detail of a Holdfast server; empty for any other body."""
    if answer.headers.get("content-type", "").partition(";")[0].strip().lower() != _PROBLEM:
        return {}
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    is_ours = isinstance(found, dict) and isinstance(found.get("code"), str)
    return found if is_ours and str(found.get("type")).startswith(_TYPES) else {}  # others use `code`, too


def _redacted(problem: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    known = list(secrets)
    return {
        name: redacted(value, known) if name in {"detail", "title"} and isinstance(value, str) else value
        for name, value in problem.items()
    }


def _said_by_another(answer: Response, asked: str) -> str:
    """What something in front of the server says, in words: who it seems to be, what it says, and what to do."""
    who = " ".join(filter(None, (answer.headers.get("server"), _via(answer))))
    words = f"{who}: {_words(answer.body)}".strip(": ")
    what = f"status {answer.status} from {shown_url(asked)} is no answer of a Holdfast server"
    what += f" but of something before it ({_clean(words)[:_WORDS]})" if words else " but of something before it"
    target = moved_to(answer, asked)
    hint = f"It redirects to {shown_url(target)}: set HOLDFAST_URL to where the server is" if target else None
    hint = hint or _HINTS.get(answer.status)
    return f"{what}. {hint}" if hint else what


def _via(answer: Response) -> str:
    via = answer.headers.get("via")
    return f"via {via}" if via else ""


def _words(body: bytes) -> str:
    """The title of a page, or its first words."""
    text = body[:_READ_BYTES].decode("utf-8", "replace")
    title = _TITLE.search(text)
    if title is not None and title[1].strip():
        return _clean(unescape(title[1]))
    return _clean(unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text))))[:_WORDS]


def _clean(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
