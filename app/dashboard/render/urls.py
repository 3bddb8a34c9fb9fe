"""Where each page is: names of directories go last in an address, quoted."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode

SAID = ("deleted", "restored", "applied", "pruned")
"""What a page is told of a form that led to it."""


def directory(name: str, **query: object) -> str:
    """The page of a directory."""
    return _at(f"/directories/{quote(name)}", query)


def checkpoint(checkpoint_id: str, **query: object) -> str:
    """The page of a checkpoint."""
    return _at(f"/checkpoints/{quote(checkpoint_id)}", query)


def back(form: Mapping[str, str], otherwise: str, **query: object) -> str:
    """Where to go on after a form: to the page that it stands on, with something to be said there."""
    address = own(form.get("to", "")) if form.get("to") else otherwise
    path, _, before = address.partition("?")
    kept = [(name, value) for name, value in parse_qsl(before) if name not in SAID]
    return f"{path}?{urlencode([*kept, *query.items()])}"


def own(address: str) -> str:
    """Where to go on after signing in: a page of ours, and nothing that a browser could take for one elsewhere."""
    path, _, query = address.partition("?")
    is_ours = re.fullmatch(r"/|/[A-Za-z0-9_.~@=+%-][A-Za-z0-9_.~@=+%/-]*", path) and re.fullmatch(r"[!-~]*", query)
    return address if is_ours and not re.search(r"[\\\x00-\x1f]|^//", unquote(path)) else "/"


def _at(path: str, query: Mapping[str, object]) -> str:
    said = {name: value for name, value in query.items() if value not in {None, ""}}
    return path + (f"?{urlencode(said)}" if said else "")


FILTERS = {"directory_address": directory, "checkpoint_address": checkpoint, "quoted": quote}
