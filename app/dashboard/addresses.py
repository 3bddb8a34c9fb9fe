"""Where each page is: names of directories go last in an address, quoted."""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode


def directory(name: str, **query: object) -> str:
    """The page of a directory."""
    return _at(f"/directories/{quote(name)}", query)


def checkpoint(checkpoint_id: str, **query: object) -> str:
    """The page of a checkpoint."""
    return _at(f"/checkpoints/{quote(checkpoint_id)}", query)


def own(address: str) -> str:
    """Where to go on after signing in: a page of ours, and nothing that a browser could take for one elsewhere."""
    path, _, query = address.partition("?")
    is_ours = re.fullmatch(r"/|/[A-Za-z0-9_.~@=+%-][A-Za-z0-9_.~@=+%/-]*", path) and re.fullmatch(r"[!-~]*", query)
    return address if is_ours and not re.search(r"[\\\x00-\x1f]|^//", unquote(path)) else "/"


def _at(path: str, query: Mapping[str, object]) -> str:
    said = {name: value for name, value in query.items() if value not in {None, ""}}
    return path + (f"?{urlencode(said)}" if said else "")


FILTERS = {"directory_address": directory, "checkpoint_address": checkpoint, "quoted": quote}
