"""The list of hosts that need no proxy, as ``NO_PROXY`` has it. Pure; imported only where a proxy is named."""

import re
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from .._runtime.interruption import reraise


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
    except ValueError as error:
        reraise(error)
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _network(name: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(name.partition("%")[0], strict=False)
    except ValueError as error:
        reraise(error)
        return None
