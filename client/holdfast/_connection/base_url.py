"""The base URL of a server, from an argument or ``HOLDFAST_URL``: stripped, and refused if it cannot work."""

import os
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from .._runtime.interruption import reraise
from .._runtime.redaction import looks_secret, redacted, shown_url
from ..errors import InvalidRequest

DEFAULT_URL = "http://127.0.0.1:8420"
CODE = "invalid_setting"
"""The code of errors about settings that cannot work; raised when a manager or command starts, never later."""
_API = "/v1"


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A base URL, split from its login.

    Attributes
    ----------
    url : str
        The URL without a login, which is requested, shown and stored.
    login : str or None
        The ``Authorization`` header for the login of the URL; for servers behind a proxy that requires one.
    """

    url: str
    login: str | None = None

    def __repr__(self) -> str:
        return f"BaseUrl({self.url!r})"

    def secrets(self) -> list[str]:
        """Return the texts that must not appear in any message."""
        return [self.login.rpartition(" ")[2]] if self.login else []


def base_url_of(given: str | None) -> BaseUrl:
    """Return the base URL that is given, else that of ``HOLDFAST_URL``, else that of this machine.

    Raises
    ------
    InvalidRequest
        The URL cannot be that of a server.
    """
    if given is not None and not isinstance(given, str):
        raise InvalidRequest(f"server must be a str, not {type(given).__name__}", code=CODE)
    source = "the server's URL" if given else "HOLDFAST_URL"
    url = (given or os.environ.get("HOLDFAST_URL") or "").strip() or DEFAULT_URL
    try:
        parts = urlsplit(url)
        port = parts.port
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    except ValueError as error:
        reraise(error)
        is_one = False
    if not is_one or not url.isprintable() or any(sign.isspace() for sign in url) or "@" in parts.path:
        if looks_secret(url):
            raise InvalidRequest(
                f"{source} is no URL of a server, as http://localhost:8420 is, but looks like a token, which belongs "
                "in HOLDFAST_TOKEN",
                code=CODE,
            )
        raise InvalidRequest(
            f"{source} is {redacted(shown_url(url))!r}, which is no URL of a server, as http://localhost:8420 is",
            code=CODE,
        )
    if parts.query or parts.fragment:
        raise InvalidRequest(
            f"{source} is {redacted(shown_url(url))!r} with a query or a fragment: give the URL alone, and the token "
            "by HOLDFAST_TOKEN",
            code=CODE,
        )
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/")
    while path.endswith(_API):
        path = path.removesuffix(_API).rstrip("/")
    return BaseUrl(f"{parts.scheme}://{host}{path}", _login(parts.username, parts.password))


def _login(user: str | None, password: str | None) -> str | None:
    if not user and not password:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"
