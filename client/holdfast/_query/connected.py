"""The connection of a `Client`: its settings, the names that it takes, and the parsing of answers."""

import re
import threading
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import TypeVar
from weakref import WeakSet

from .._api.retry import PATIENCE_S
from .._api.server import TIMEOUT_S, Server, parse_errors
from .._arguments import checks
from .._arguments.name_mapping import configured_prefix, prefix_of
from .._options import cache_of
from ..errors import InvalidRequest
from .infos import CheckpointInfo, DirectoryInfo, Shown
from .listing import Entry, Listing
from .lookup import PAGE_SIZE, Json, Lookup
from .placing import CACHE_BYTES

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
AnyDirectory = str | PurePath | DirectoryInfo
AnyCheckpoint = str | PurePath | CheckpointInfo
R = TypeVar("R")
T = TypeVar("T", bound=Entry)


class Connected:
    """A server and the user's names for its directories and checkpoints."""

    def __init__(
        self,
        server: str | None = None,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        prefix: str | None = None,
    ) -> None:
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a text or None, not {prefix!r}")
        timeout_s = checks.seconds("timeout_s", timeout_s, may_be_zero=False)
        patience_s = checks.seconds("patience_s", patience_s)
        below = configured_prefix() if prefix is None else prefix_of(prefix, "prefix")
        self._cache = cache_of(None, CACHE_BYTES)
        self._lookup = Lookup(Server(server, token, timeout_s, patience_s, token_file=token_file), below)
        self._stopping = threading.Event()
        self._watched: WeakSet[Server] = WeakSet()

    def _listing(self, kind: type[T], path: str, key: str, asked: Json, limit: int | None) -> Listing[T]:
        size = PAGE_SIZE if limit is None else min(max(limit, 1), PAGE_SIZE)

        def fetch(token: str | None) -> tuple[list[T], str | None]:
            page, following = self._lookup.page(path, key, {**asked, "page_size": size, "page_token": token})
            return [self._parsed(kind.from_json, entry) for entry in page], following

        return Listing(kind, fetch, limit)

    def _directory(self, given: AnyDirectory) -> str:
        """Return the server's name of a directory."""
        if isinstance(given, DirectoryInfo):
            return given.server_name
        return self._lookup.directory(checks.path("directory", given))

    def _below(self, name: str, given: AnyDirectory | None) -> str:
        """Return the server's prefix for the one that the user gave, if any."""
        if given is None or isinstance(given, DirectoryInfo):
            return self._lookup.prefix if given is None else given.server_name
        return self._lookup.below(checks.path(name, given))

    def _found(self, given: AnyCheckpoint) -> Json:
        """Return the facts of a checkpoint that is given by its path, its id, or earlier facts."""
        checkpoint_id = id_of(given)
        if checkpoint_id is None:
            return self._lookup.find(checks.path("checkpoint", given))
        return self._lookup.ask(f"/v1/checkpoints/{checkpoint_id}")

    def _parsed(self, parse: Callable[[Json, Shown], R], found: Json) -> R:
        with parse_errors():
            return parse(found, self._lookup.shown)


def id_of(given: AnyCheckpoint) -> str | None:
    """Return the id of a checkpoint that is given by it, or by earlier facts; None for a path."""
    if isinstance(given, CheckpointInfo):
        return given.id
    text = checks.path("checkpoint", given)
    if "/" in text.strip("/"):
        return None
    if not _ID.fullmatch(text):
        raise InvalidRequest(f"{text!r} names no checkpoint: give DIRECTORY/NAME, or an id", code="invalid_name")
    return text
