"""Requests of writers, each with the expected result. Each is idempotent: it may be repeated after a crash."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import httpx

from app.core import digests
from app.core.models import PolicyRequest
from tests.crash.harness.acknowledged import Kept, State

RANGE_BYTES = 100_000

Answer = dict[str, Any]


class Refused(AssertionError):
    """The server answered what it should not."""


class Operation(Protocol):
    """Something that changes one directory. It has happened in full or not at all."""

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer | None:
        """Ask for it, to the end; with ``again``, it may have happened already."""

    def after(self, state: State) -> State:
        """Return the expected checkpoints after it has happened."""


Way = Literal["body", "whole", "late", "hashed"]


@dataclass(frozen=True)
class Save:
    """A save: in one body, or as an upload that declares digests never, at commit, or at reservation.

    One that is ``halted`` ends before its commit: it is an upload and stays one.
    """

    directory: str
    kept: Kept
    asked: PolicyRequest
    way: Way
    halted: bool = False

    @property
    def save_id(self) -> str:
        return self.kept.save_id

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer | None:
        if self.way == "body":
            return self._send_body(http)
        body = {"directory": self.directory, "name": self.kept.name, "save_id": self.save_id, **self.kept.facts}
        body |= self._place()
        upload = ask(http, "POST", "/v1/uploads", json={**body, "policy": self._policy(), "files": self._files()})
        while upload["state"] == "open":
            ranges = [part for wanted in upload["missing"] for part in self._parts(wanted)]
            for path, offset, data in ranges[: len(ranges) // 2] if self.halted else ranges:
                url = f"/v1/uploads/{upload['id']}/files/{path}"
                ask(http, "PUT", url, params={"offset": offset}, content=data)
            if self.halted:
                return upload
            committed = http.post(f"/v1/uploads/{upload['id']}/commit", json=self._digests())
            if committed.status_code != 409 or committed.json()["code"] != "ranges_missing":
                return _answer(committed)
            upload = ask(http, "GET", f"/v1/uploads/{upload['id']}")
        return upload["checkpoint"]

    def after(self, state: State) -> State:
        return state if self.halted else state.saved(self.kept, self.asked)

    def _send_body(self, http: httpx.Client) -> Answer:
        facts = {key: value for key, value in self.kept.facts.items() if value is not None}
        query = {"directory": self.directory, "name": self.kept.name, "save_id": self.save_id, **facts}
        query |= {**self._place(), **self._policy(), "metadata": json.dumps(facts["metadata"])}
        (pieces,) = self.kept.contents.values()
        return ask(http, "POST", "/v1/checkpoints", params=query, content=b"".join(pieces))

    def _place(self) -> dict[str, int]:
        return {"saved_after": self.kept.saved_after} if self.kept.saved_after is not None else {}

    def _policy(self) -> dict[str, Any]:
        return {**({"mode": self.asked.mode} if self.asked.mode else {}), **self.asked.limits}

    def _files(self) -> list[dict[str, Any]]:
        files = []
        for path, pieces in self.kept.contents.items():
            file: dict[str, Any] = {"path": path, "size_bytes": sum(map(len, pieces))}
            if self.way != "whole":
                hashed = self.way == "hashed"
                file["chunks"] = [_chunk(piece) if hashed else {"length": len(piece)} for piece in pieces]
            files.append(file)
        return files

    def _digests(self) -> dict[str, Any] | None:
        if self.way != "late":
            return None
        contents = self.kept.contents.items()
        return {"files": [{"path": path, "chunks": [_chunk(piece) for piece in pieces]} for path, pieces in contents]}

    def _parts(self, wanted: Mapping[str, Any]) -> list[tuple[str, int, bytes]]:
        """Return the wanted bytes in several ranges, which end at the bounds of pieces."""
        pieces = self.kept.contents[wanted["file"]]
        data, edges = b"".join(pieces), [0, *itertools.accumulate(map(len, pieces))]
        if self.way == "whole":
            edges = [*range(0, len(data), RANGE_BYTES), len(data)]
        begin, end = wanted["offset"], wanted["offset"] + wanted["length"]
        edges = sorted({begin, end, *(edge for edge in edges if begin < edge < end)})
        return [(wanted["file"], start, data[start:stop]) for start, stop in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Abandon:
    """Give up an upload."""

    upload_id: str
    save_id: str

    def send(self, http: httpx.Client, *, again: bool = False) -> None:
        ask(http, "DELETE", f"/v1/uploads/{self.upload_id}", also=404 if again else None)

    def after(self, state: State) -> State:
        return state


@dataclass(frozen=True)
class Delete:
    """Remove one checkpoint."""

    kept: Kept

    def send(self, http: httpx.Client, *, again: bool = False) -> None:
        ask(http, "DELETE", f"/v1/checkpoints/{self.kept.id}", also=410 if again else None)

    def after(self, state: State) -> State:
        return state.without(self.kept.name)


@dataclass(frozen=True)
class Restore:
    """Bring back one that was removed."""

    kept: Kept

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer:
        return ask(http, "POST", f"/v1/checkpoints/{self.kept.id}/restore")

    def after(self, state: State) -> State:
        return state.restored(self.kept)


@dataclass(frozen=True)
class Clear:
    """Remove all that is not pinned."""

    directory: str

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer:
        if again:  # one that holds nothing any more would be removed itself, and its policy forgotten
            listed = ask(http, "GET", f"/v1/checkpoints?directory={self.directory}&page_size=1000")["checkpoints"]
            if all(checkpoint["pinned"] for checkpoint in listed):
                return {}
        return ask(http, "DELETE", f"/v1/directories/{self.directory}")

    def after(self, state: State) -> State:
        return state.without(*(name for name, kept in state.kept.items() if not kept.facts["pinned"]))


@dataclass(frozen=True)
class Change:
    """Other facts for a checkpoint; metadata is merged."""

    kept: Kept
    facts: Mapping[str, Any]

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer:
        return ask(http, "PATCH", f"/v1/checkpoints/{self.kept.id}", json=dict(self.facts))

    def after(self, state: State) -> State:
        metadata = {**state.kept[self.kept.name].facts["metadata"], **self.facts.get("metadata", {})}
        return state.changed(self.kept.name, {**self.facts, "metadata": metadata})


@dataclass(frozen=True)
class Prune:
    """Remove the checkpoints that the policy does not keep."""

    directory: str

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer:
        return ask(http, "POST", "/v1/prune", json={"directory": self.directory})

    def after(self, state: State) -> State:
        return state.pruned()


@dataclass(frozen=True)
class Order:
    """Set a policy as the operator."""

    directory: str
    limits: Mapping[str, int | None] = field(default_factory=dict)

    def send(self, http: httpx.Client, *, again: bool = False) -> Answer:
        return ask(http, "PUT", f"/v1/directories/{self.directory}", json=dict(self.limits))

    def after(self, state: State) -> State:
        return state.ordered(PolicyRequest(None, self.limits))


def resumed(save: Save) -> Save:
    """A halted save, to be brought to its end."""
    return replace(save, halted=False)


def ask(http: httpx.Client, method: str, url: str, *, also: int | None = None, **more: Any) -> Any:
    """The answer to a request, which must be a good one, or have the status ``also``."""
    return _answer(http.request(method, url, **more), also)


def _answer(answer: httpx.Response, also: int | None = None) -> Any:
    if not answer.is_success and answer.status_code != also:
        raise Refused(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    return answer.json() if answer.content else None


def _chunk(piece: bytes) -> dict[str, Any]:
    return {"length": len(piece), "digest": digests.of_chunk(piece)}
