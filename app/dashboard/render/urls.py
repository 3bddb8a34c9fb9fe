"""Addresses of pages. Directory names are quoted and come last in an address. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode

SAID = ("deleted", "restored", "applied", "pruned")
"""Query parameters with the result of the form that led to a page."""


def directory(name: str, **query: object) -> str:
    """Return the address of a directory's page."""
    return _at(f"/directories/{quote(name)}", query)


def checkpoint(checkpoint_id: str, **query: object) -> str:
    """Return the address of a checkpoint's page."""
    return _at(f"/checkpoints/{quote(checkpoint_id)}", query)


def back(form: Mapping[str, str], otherwise: str, **query: object) -> str:
    """Return the address to redirect to after a form: the page that it is on, with the result in the query."""
    address = safe_redirect_target(form.get("to", "")) if form.get("to") else otherwise
    path, _, before = address.partition("?")
    kept = [(name, value) for name, value in parse_qsl(before) if name not in SAID]
    return f"{path}?{urlencode([*kept, *query.items()])}"


def safe_redirect_target(address: str) -> str:
    """Return an address if it is a page of this server, else ``/``. Prevents open redirects after signing in."""
    path, _, query = address.partition("?")
    is_ours = re.fullmatch(r"/|/[A-Za-z0-9_.~@=+%-][A-Za-z0-9_.~@=+%/-]*", path) and re.fullmatch(r"[!-~]*", query)
    return address if is_ours and not re.search(r"[\\\x00-\x1f]|^//", unquote(path)) else "/"


def _at(path: str, query: Mapping[str, object]) -> str:
    said = {name: value for name, value in query.items() if value not in {None, ""}}
    return path + (f"?{urlencode(said)}" if said else "")


FILTERS = {"directory_address": directory, "checkpoint_address": checkpoint, "quoted": quote}
