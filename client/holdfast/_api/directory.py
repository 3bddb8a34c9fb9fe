"""One directory on the server: what it holds, which is best, which is latest."""

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
    """Questions about a directory. A directory that does not exist yet is an empty one.

    An answer that is about another directory, because the question was altered on its way, is `ServerUnreachable`.
    """

    def __init__(self, server: Server, name: str, *, patience_s: float | None = None) -> None:
        self.server = server
        self.name = name
        self._patience_s = patience_s

    def within(self, patience_s: float) -> "RemoteDirectory":
        """The same directory, for somebody who is patient for so many seconds only."""
        return RemoteDirectory(self.server, self.name, patience_s=patience_s)

    def best(self, mode: str) -> Best | None:
        """The best checkpoint by the directory's own mode, or by ``mode`` while it has none."""
        found = self._ask("best", {})
        with parse_errors():
            is_ours_to_say = found is not None and not found["own_mode"] and found["mode"] != mode
        if is_ours_to_say:
            found = self._ask("best", {"mode": mode})
        with parse_errors():
            return Best(self._mine(found), found["mode"]) if found is not None else None

    def latest(self, kind: str | None = None) -> Checkpoint | None:
        """The newest checkpoint, of one kind or of all."""
        if kind is not None:
            return next(self.checkpoints(kind=kind, order_by="-position", page_size=1), None)
        found = self._ask("latest", {})
        return self._mine(found) if found is not None else None

    def named(self, name: str) -> Checkpoint:
        """The checkpoint of this name. `CheckpointNotFound` where there is none."""
        for found in self.checkpoints(name=name):
            self._refuse_other("checkpoint", name, found.name)
            return found
        raise CheckpointNotFound(f"there is no checkpoint {name!r} in {self.name!r} on {self.server.url}")

    def checkpoints(self, **query: Any) -> Iterator[Checkpoint]:
        """The checkpoints that the API's list gives, all pages of it."""
        params: dict[str, Any] = {"directory": self.name, "page_size": 1000, **query}
        while True:
            try:
                page = self.server.ask("/v1/checkpoints", params=params, patience_s=self._patience_s)
            except CheckpointNotFound as error:
                self._refuse_other("directory", self.name, error.problem.get("directory", self.name))
                return
            if "checkpoints" not in page:
                said = f"{self.server.url} gives a list of checkpoints that is none. See whether HOLDFAST_URL is right"
                raise from_problem(200, {}, said=said)
            yield from (self._mine(found) for found in page["checkpoints"])
            if page.get("next_page_token") is None:
                return
            params["page_token"] = page["next_page_token"]

    def clear(self, *, include_pinned: bool) -> list[str]:
        """Remove what is there at this moment; the names of what stayed because it is pinned."""
        params = {"include_pinned": include_pinned}
        try:
            cleared = self.server.call("DELETE", f"/v1/directories/{quote(self.name)}", params=params)
        except CheckpointNotFound:
            return []
        with parse_errors():
            return list(cleared["pinned"])

    def _ask(self, which: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        asked = {"directory": self.name, **params}
        try:
            return self.server.ask(f"/v1/checkpoints/{which}", params=asked, patience_s=self._patience_s)
        except CheckpointNotFound as error:
            self._refuse_other("directory", self.name, error.problem.get("directory", self.name))
            return None

    def _mine(self, found: Mapping[str, Any]) -> Checkpoint:
        with parse_errors():
            checkpoint = Checkpoint.from_json(found)
        self._refuse_other("directory", self.name, checkpoint.directory)
        return checkpoint

    def _refuse_other(self, what: str, asked: str, answered: object) -> None:
        if answered != asked:
            raise ServerUnreachable(
                f"an answer from {self.server.url} is about another {what} than {asked!r}: "
                "the question was altered on its way"
            )
