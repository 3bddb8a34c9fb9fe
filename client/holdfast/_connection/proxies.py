"""Proxies that the environment names for URLs. Read once, when a manager or a command is made."""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from .._runtime.interruption import reraise
from .._runtime.packages import install_command
from .._runtime.redaction import shown_url
from ..errors import InvalidRequest
from .base_url import CODE

_PORTS = {"http": 80, "https": 443}
_SCHEMES = {"http": "http", "https": "https", "socks": "socks5", "socks5": "socks5", "socks5h": "socks5"}
"""The supported schemes. httpx always lets a SOCKS proxy resolve names; desktops write ``socks`` for ``socks5``."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, with its login.

    Attributes
    ----------
    url : str
    variable : str
        The variable of the environment that names it.
    """

    url: str
    variable: str

    def __repr__(self) -> str:
        return f"Proxy({self.shown!r})"

    @property
    def shown(self) -> str:
        """The proxy as it may be shown."""
        return f"{shown_url(self.url)}, which {self.variable} names"

    def secrets(self) -> list[str]:
        """Return the texts that must not appear in any message."""
        password = urlsplit(self.url).password
        return [password, unquote(password)] if password else []


class Proxies:
    """The proxies of an environment. An invalid value matters only for a URL that needs it."""

    def __init__(self) -> None:
        self._found = _named_proxies()
        self._exempt = self._found.get("no", "")

    @property
    def are_named(self) -> bool:
        """True if a URL may need a proxy."""
        return any(value for scheme, value in self._found.items() if scheme != "no")

    def of(self, url: str) -> Proxy | None:
        """Return the proxy for a URL.

        Raises
        ------
        InvalidRequest
            The proxy for the URL cannot be used.
        """
        parts = urlsplit(url)
        key = next((key for key in (parts.scheme, "all") if self._found.get(key)), None)
        if key is None or parts.hostname is None or self._is_exempt(parts.hostname, parts.port, parts.scheme):
            return None
        return _parsed(self._found[key], _variable(key))

    def _is_exempt(self, host: str, port: int | None, scheme: str) -> bool:
        from urllib.request import proxy_bypass

        from .no_proxy import is_exempt

        if not self._exempt:
            return bool(proxy_bypass(host))
        return is_exempt(self._exempt, host, port or _PORTS.get(scheme))


def _named_proxies() -> dict[str, str]:
    """Return the proxies by schemes. The module that finds them is imported only if there may be any."""
    has_settings = sys.platform in ("darwin", "win32")
    if not has_settings and not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    from urllib.request import getproxies

    return getproxies()


def _variable(key: str) -> str:
    """Return the variable that `getproxies` has read: in lower case, if that is set."""
    name = f"{key}_proxy"
    return name if os.environ.get(name) else name.upper()


def _parsed(value: str, variable: str) -> Proxy:
    value = value.strip()
    value = value if "://" in value else f"http://{value}"
    without = "To reach the server without a proxy, unset the variable, or name the server's host in NO_PROXY."
    try:
        parts = urlsplit(value)
        is_one = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        reraise(error)
        is_one = False
    if not is_one or not value.isprintable() or any(sign.isspace() for sign in value):
        raise InvalidRequest(f"{variable} is no URL of a proxy, as http://proxy:3128 is. {without}", code=CODE)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise InvalidRequest(
            f"{variable} names a proxy with the scheme {parts.scheme!r}; only http, https and socks5 work. {without}",
            code=CODE,
        )
    if scheme == "socks5" and find_spec("socksio") is None:
        raise InvalidRequest(
            f"{variable} names a SOCKS proxy, which needs the extra socks: {install_command('socks')}. {without}",
            code=CODE,
        )
    return Proxy(parts._replace(scheme=scheme, path="", query="", fragment="").geturl(), variable)
