"""Lookups: the user's names for directories and checkpoints, and the queries that find them on the server."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from .._api.server import Server, parse_errors
from .._api.wire import Checkpoint
from .._arguments.name_mapping import directory_name, locate
from ..errors import CheckpointExists, CheckpointNotFound, InvalidRequest, ServerFailed

PAGE_SIZE = 1000
"""The most entries of a page."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Lookup:
    """A server, and the prefix that stands before the user's names for its directories."""

    server: Server
    prefix: str

    # names

    def directory(self, given: str) -> str:
        """Return the server's name of a directory."""
        return directory_name(PurePath(given), self.prefix)

    def below(self, given: str | None) -> str:
        """Return the server's prefix for the one that the user gave, if any."""
        return self.directory(given) if given else self.prefix

    def shown(self, directory: str) -> str:
        """Return a directory in the user's form."""
        return directory.removeprefix(f"{self.prefix}/") if self.prefix else directory

    def path_of(self, checkpoint: Json) -> str:
        """Return the path of a checkpoint in the user's form."""
        return f"{self.shown(checkpoint['directory'])}/{checkpoint['name']}"

    # queries

    def ask(self, path: str, **params: Any) -> Json:
        """Ask the API."""
        return self.server.ask(path, params=params)

    def page(self, path: str, key: str, params: Mapping[str, Any]) -> tuple[list[Json], str | None]:
        """Return a page of a list, and the token of the next page; None if it is the last."""
        found = self.server.ask(path, params={"page_size": PAGE_SIZE, **params})
        if not isinstance(found.get(key), list):
            raise ServerFailed(f"{self.server.url} sent no list. Check HOLDFAST_URL")
        return found[key], found.get("next_page_token")

    def pages(self, path: str, key: str, **params: Any) -> Iterator[Json]:
        """Yield all entries of a list, over all pages."""
        while True:
            entries, token = self.page(path, key, params)
            yield from entries
            if token is None:
                return
            params["page_token"] = token

    def described(self, directory: str) -> Json | None:
        """Return the server's description of a directory by its own name for it; None if it has none."""
        try:
            return self.ask(f"/v1/directories/{quote(directory)}")
        except CheckpointNotFound:
            return None

    def find(self, path: str, name: str | None = None) -> Json:
        """Find a checkpoint by ``DIRECTORY/NAME``, ``DIRECTORY/best`` or ``DIRECTORY/latest``.

        A checkpoint that is really named ``best`` or ``latest`` takes precedence.

        Raises
        ------
        InvalidRequest
            The path names no directory.
        CheckpointNotFound
            There is no such checkpoint.
        """
        if name is None and "/" not in path.strip("/"):
            raise InvalidRequest(f"{path!r} names no checkpoint: give DIRECTORY/NAME", code="invalid_name")
        given, wanted = locate(f"{path}/{name}" if name else path, Path(), "")
        directory = self.directory(given)
        if found := self.named(directory, wanted):
            return found[0]
        if wanted in ("best", "latest"):
            return self.ask(f"/v1/checkpoints/{wanted}", directory=directory)
        raise CheckpointNotFound(f"there is no checkpoint {wanted!r} in {given!r}")

    def named(self, directory: str, name: str, **params: Any) -> list[Json]:
        """Return the checkpoints of a name; several only if removed ones are included."""
        try:
            return list(self.pages("/v1/checkpoints", "checkpoints", directory=directory, name=name, **params))
        except CheckpointNotFound as error:
            if error.code != "directory_not_found":
                raise
            return []

    def removed(self, given: str, name: str) -> Json:
        """Return the newest removed checkpoint of a name in a directory that can be restored.

        Raises
        ------
        CheckpointNotFound
            There never was one, or its bytes are gone.
        CheckpointExists
            A checkpoint of that name is live.
        """
        found = self.named(self.directory(given), name, include_removed=True)
        usable = [each for each in found if each["restorable"] or each["removed_at"] is None]
        if not found:
            raise CheckpointNotFound(f"there is no checkpoint {name!r} in {given!r}, and never was one")
        if not usable:
            raise CheckpointNotFound(f"{given}/{name} cannot be restored: its bytes are gone")
        if any(each["removed_at"] is None for each in usable):
            raise CheckpointExists(f"{given}/{name} exists: there is nothing to restore", code="name_taken")
        return max(usable, key=lambda each: datetime.fromisoformat(each["removed_at"]))


def wire(found: Json) -> Checkpoint:
    """Return a checkpoint as the rest of the client uses it."""
    with parse_errors():
        return Checkpoint.from_json(found)
