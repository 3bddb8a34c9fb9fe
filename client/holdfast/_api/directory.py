"""One directory on the server: its checkpoints, the best and the latest of them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

from ..errors import CheckpointNotFound, ServerUnreachable, from_problem
from .server import Server, parse_errors
from .small_answer import Attached
from .wire import SMALL_CHECKPOINT_BYTES, Checkpoint


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

    def best(self, mode: str, *, with_bytes: bool = False) -> Best | None:
        """Return the best checkpoint by the directory's own mode, or by ``mode`` if it has none yet.

        Parameters
        ----------
        with_bytes : bool
            Ask for the contents of a small checkpoint, too.
        """
        found, attached = self._query("best", {}, with_bytes)
        with parse_errors():
            uses_our_mode = found is not None and not found["own_mode"] and found["mode"] != mode
        if uses_our_mode:
            found, attached = self._query("best", {"mode": mode}, with_bytes)
        with parse_errors():
            return Best(self._parse(found, attached), found["mode"]) if found is not None else None

    def latest(self, kind: str | None = None, *, with_bytes: bool = False) -> Checkpoint | None:
        """Return the newest checkpoint, of one kind or of all. For the parameter see `best`."""
        if kind is not None:
            newest = next(self.checkpoints(kind=kind, order_by="-position", page_size=1), None)
            return self.with_bytes(newest) if newest is not None and with_bytes else newest
        found, attached = self._query("latest", {}, with_bytes)
        return self._parse(found, attached) if found is not None else None

    def with_bytes(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with its contents if it is small and the server sends them with its facts."""
        if checkpoint.size_bytes > SMALL_CHECKPOINT_BYTES:
            return checkpoint
        found, attached = self.server.ask_for_small(f"/v1/checkpoints/{checkpoint.id}", patience_s=self._patience_s)
        with parse_errors():
            self._check_same("checkpoint", checkpoint.id, found["id"])
        return replace(checkpoint, attached=attached)

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

    def _query(
        self, which: str, params: Mapping[str, Any], with_bytes: bool
    ) -> tuple[dict[str, Any] | None, Attached | None]:
        path, asked = f"/v1/checkpoints/{which}", {"directory": self.name, **params}
        try:
            if with_bytes:
                return self.server.ask_for_small(path, params=asked, patience_s=self._patience_s)
            return self.server.ask(path, params=asked, patience_s=self._patience_s), None
        except CheckpointNotFound as error:
            self._check_same("directory", self.name, error.problem.get("directory", self.name))
            return None, None

    def _parse(self, found: Mapping[str, Any], attached: Attached | None = None) -> Checkpoint:
        with parse_errors():
            checkpoint = Checkpoint.from_json(found, attached)
        self._check_same("directory", self.name, checkpoint.directory)
        return checkpoint

    def _check_same(self, what: str, asked: str, answered: object) -> None:
        if answered != asked:
            raise ServerUnreachable(
                f"a response of {self.server.url} is about another {what} than {asked!r}: "
                "the request was altered on its way"
            )
