"""Requests and responses of HTTP as the client handles them, whatever carries them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

Buffer = bytes | bytearray | memoryview

_PATH_SIGNS = "/%:@!$&'()*+,;=~"
_QUERY_SIGNS = f"{_PATH_SIGNS}?"


class NoAnswer(Exception):
    """A connection could not be made, or broke; the message is the reason alone."""


class Reader(Protocol):
    """The bytes of a response body."""

    def readinto(self, view: memoryview, /) -> int:
        """Put the next bytes into a view and return their number; 0 at the end."""


def read_into(reader: Reader, view: memoryview) -> bool:
    """Fill a view with the next bytes of a response; return False if it ends before."""
    filled = 0
    while filled < len(view):
        count = reader.readinto(view[filled:])
        if not count:
            return False
        filled += count
    return True


class Response(NamedTuple):
    """A response: its status, and its headers by lower-case names. A refusal has its body, a success may have none."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> "Response":
        return cls(status, body, merged(headers))

    @property
    def is_success(self) -> bool:
        """True for a status 2xx, except with a web page, which no Holdfast server sends to a client."""
        is_page = self.headers.get("content-type", "").lower().startswith("text/html")
        return 200 <= self.status < 300 and not is_page


def merged(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case names; the values of one that occurs several times are joined."""
    found: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


class Address(NamedTuple):
    """The scheme, host and port of a connection."""

    scheme: str
    host: str
    port: int | None


def address_of(url: str) -> Address | None:
    """Return the address of a URL if a raw connection can reach it: not with a login in the URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None or "@" in parts.netloc:
        return None
    return Address(parts.scheme, parts.hostname, parts.port)


def target_of(url: str, params: Mapping[str, Any] | None = None) -> str:
    """Return the request target of a URL: its path and query, and these parameters."""
    parts = urlsplit(url)
    more = urlencode({name: _text(value) for name, value in (params or {}).items()}, quote_via=quote)
    query = "&".join(filter(None, (quote(parts.query, safe=_QUERY_SIGNS), more)))
    return (quote(parts.path, safe=_PATH_SIGNS) or "/") + (f"?{query}" if query else "")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
