"""One directory on the server: its checkpoints, the best and the latest of them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from ..errors import CheckpointNotFound, ServerUnreachable, from_problem
from .server import Server, parse_errors
from .wire import Checkpoint


class Best(NamedTuple):
    """The best checkpoint, and the mode that decided."""

    checkpoint: Checkpoint
    mode: str


class RemoteDirectory:
    """Queries about a directory. A directory that does not exist yet is an empty one.

    An answer about another directory raises `ServerUnreachable`: the request was altered on its way.
    """

    def __init__(self, server: Server, name: str, *, patience_s: float | None = None) -> None:
        self.server = server
        self.name = name
        self._patience_s = patience_s

    def within(self, patience_s: float) -> "RemoteDirectory":
        """Return the same directory, with another patience for queries."""
        return RemoteDirectory(self.server, self.name, patience_s=patience_s)

    def best(self, mode: str) -> Best | None:
        """Return the best checkpoint by the directory's own mode, or by ``mode`` if it has none yet."""
        found = self._query("best", {})
        with parse_errors():
            uses_our_mode = found is not None and not found["own_mode"] and found["mode"] != mode
        if uses_our_mode:
            found = self._query("best", {"mode": mode})
        with parse_errors():
            return Best(self._parse(found), found["mode"]) if found is not None else None

    def latest(self, kind: str | None = None) -> Checkpoint | None:
        """Return the newest checkpoint, of one kind or of all."""
        if kind is not None:
            return next(self.checkpoints(kind=kind, order_by="-position", page_size=1), None)
        found = self._query("latest", {})
        return self._parse(found) if found is not None else None

    def named(self, name: str) -> Checkpoint:
        """Return the checkpoint of this name; raise `CheckpointNotFound` if there is none."""
        for found in self.checkpoints(name=name):
            self._check_same("checkpoint", name, found.name)
            return found
        raise CheckpointNotFound(f"there is no checkpoint {name!r} in {self.name!r} on {self.server.url}")

    def checkpoints(self, **query: Any) -> Iterator[Checkpoint]:
        """Yield the checkpoints that match a query, over all pages."""
        params: dict[str, Any] = {"directory": self.name, "page_size": 1000, **query}
        while True:
            try:
                page = self.server.ask("/v1/checkpoints", params=params, patience_s=self._patience_s)
            except CheckpointNotFound as error:
                self._check_same("directory", self.name, error.problem.get("directory", self.name))
                return
            if "checkpoints" not in page:
                said = f"{self.server.url} sent no list of checkpoints. Check HOLDFAST_URL"
                raise from_problem(200, {}, said=said)
            yield from (self._parse(found) for found in page["checkpoints"])
            if page.get("next_page_token") is None:
                return
            params["page_token"] = page["next_page_token"]

    def clear(self, *, include_pinned: bool) -> list[str]:
        """Remove the checkpoints that are there now; return the names of the pinned ones, which stay."""
        params = {"include_pinned": include_pinned}
        try:
            cleared = self.server.call("DELETE", f"/v1/directories/{quote(self.name)}", params=params)
        except CheckpointNotFound:
            return []
        with parse_errors():
            return list(cleared["pinned"])

    def _query(self, which: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        asked = {"directory": self.name, **params}
        try:
            return self.server.ask(f"/v1/checkpoints/{which}", params=asked, patience_s=self._patience_s)
        except CheckpointNotFound as error:
            self._check_same("directory", self.name, error.problem.get("directory", self.name))
            return None

    def _parse(self, found: Mapping[str, Any]) -> Checkpoint:
        with parse_errors():
            checkpoint = Checkpoint.from_json(found)
        self._check_same("directory", self.name, checkpoint.directory)
        return checkpoint

    def _check_same(self, what: str, asked: str, answered: object) -> None:
        if answered != asked:
            raise ServerUnreachable(
                f"a response of {self.server.url} is about another {what} than {asked!r}: "
                "the request was altered on its way"
            )
