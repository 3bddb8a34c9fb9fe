"""Proxies that the environment names for URLs. Read once, when a manager or a command is made."""

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .._runtime.packages import install
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
        self._found = getproxies()
        self._exempt = self._found.get("no", "")

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
        if not self._exempt:
            return bool(proxy_bypass(host))
        return is_exempt(self._exempt, host, port or _PORTS.get(scheme))


def is_exempt(entries: str, host: str, port: int | None) -> bool:
    """Tell if ``NO_PROXY`` lists a host.

    An entry is ``*``, a name (which includes its subdomains, with or without a leading dot), an address, a network such
    as ``10.0.0.0/8`` or ``fd00::/8``, or a pattern such as ``192.168.*``. Each may have a port, and IPv6 brackets. Any
    other entry lists no host.
    """
    host = host.lower().rstrip(".")
    address = _address(host)
    return any(_has(entry.lower(), host, address, port) for entry in re.split(r"[,\s]+", entries) if entry)


def _has(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int | None) -> bool:
    entry = entry.partition("://")[2] or entry
    if entry == "*":
        return True
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    if address is not None:
        network = _network(name)
        if network is not None:
            return network.version == address.version and address in network
    if "*" in name:
        return "[" not in name and (fnmatchcase(host, name) or (name.startswith("*.") and host == name[2:]))
    name = name.strip(".")
    return bool(name) and (host == name or (address is None and host.endswith(f".{name}")))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split an entry into its host or network, and its port."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        if rest.startswith("/"):  # [fd00::]/8
            return f"{name}{rest}", None
        return name, int(rest[1:]) if rest[1:].isdecimal() else None
    name, separator, port = entry.rpartition(":")
    if separator and port.isdecimal() and ":" not in name:
        return name, int(port)
    return entry, None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _network(name: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(name.partition("%")[0], strict=False)
    except ValueError:
        return None


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
    except ValueError:
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
            f"{variable} names a SOCKS proxy, which needs the extra socks: {install('socks')}. {without}",
            code=CODE,
        )
    return Proxy(parts._replace(scheme=scheme, path="", query="", fragment="").geturl(), variable)
