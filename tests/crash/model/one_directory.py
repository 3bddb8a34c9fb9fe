"""One directory of a server with its model: how each deed is done to both, and its answer compared."""

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import httpx
from blake3 import blake3
from hypothesis.stateful import RuleBasedStateMachine

from tests.crash.model.asking import Asking
from tests.crash.model.directory_model import Model, Row, Wanted, on_the_wire
from tests.crash.model.looking import Looking, refused, same
from tests.crash.model.world import World

LEASE_S = 24 * 3600.0


@dataclass
class Begun:
    """An upload that is not committed yet."""

    id: str
    name: str
    wanted: Wanted
    expires_s: float


class OneDirectory(RuleBasedStateMachine):
    """One directory of the server, and the model of it."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.examples += 1
        self.world.set_clock(0.0)
        self.model = Model()
        self.asking = Asking(self.world.server, f"runs/{self.world.examples}")
        self.looking = Looking(self.asking, self.model)
        self.http = self.world.server.http
        self.begun: list[Begun] = []
        self.steps = self.quiet = self.number = 0

    def _number(self) -> str:
        self.number += 1
        return f"{self.number:04x}-save"

    def _one(self, index: int) -> Row:
        live = self.model.live()
        return live[index % len(live)]

    def _start(self) -> None:
        self.world.server.start()
        self.quiet = 0
        for upload in list(self.begun):
            over_s = self.world.ahead_s - upload.expires_s
            found = self.http.get(f"/v1/uploads/{upload.id}").status_code
            if abs(over_s) > 600:  # the time that the test itself takes
                assert found == (404 if over_s > 0 else 200)
            if found == 404:
                self.begun.remove(upload)
            upload.expires_s = max(upload.expires_s, self.world.ahead_s + LEASE_S)

    def _save(self, wanted: Wanted, *, begun_before: bool = False) -> None:
        if wanted.save_id == "":
            wanted = replace(wanted, save_id=self._number())
        expected = self.model.refusals(wanted, wanted.called())
        answer = self.asking.save(wanted)
        if expected:
            refused(answer, expected)
        else:
            self._saved(self._with_a_place(wanted), wanted.called(), answer, begun_before=begun_before)

    def _with_a_place(self, wanted: Wanted) -> Wanted:
        """The save as it is from its reservation on."""
        taken = [begun.wanted.known for begun in self.begun if begun.wanted.known is not None]
        return replace(wanted, known=self.model.place(wanted.known, taken))

    def _reserve(self, wanted: Wanted, *, hashed: bool) -> bool:
        """Begin a save and send its bytes. What is pinned stands against it only where its digests are known."""
        if wanted.save_id == "":
            wanted = replace(wanted, save_id=self._number())
        expected = self.model.refusals(wanted, wanted.called()) - (set() if hashed else {"pinned"})
        answer = self.asking.reserve(wanted, hashed=hashed)
        if expected:
            refused(answer, expected)
            return False
        assert answer.status_code == 201, answer.text
        upload = answer.json()
        wanted = self._with_a_place(wanted)
        assert upload["saved_after"] == wanted.known
        assert upload["name"] == (wanted.called() or upload["name"])
        self.asking.send(upload, wanted.content)
        self.begun.append(Begun(upload["id"], upload["name"], wanted, self.world.ahead_s + LEASE_S))
        return True

    def _commit(self, upload: Begun) -> None:
        expected = self.model.refusals(upload.wanted, upload.name)
        answer = self.asking.commit(upload.id, upload.wanted.content)
        if expected:
            refused(answer, expected)
            assert self.http.delete(f"/v1/uploads/{upload.id}").status_code == 204
        else:
            self._saved(upload.wanted, upload.name, answer)
            assert self.http.post(f"/v1/uploads/{upload.id}/commit").status_code == 200

    def _saved(self, wanted: Wanted, name: str | None, answer: httpx.Response, *, begun_before: bool = False) -> None:
        assert answer.status_code == 201 or (begun_before and answer.status_code == 200), answer.text
        told = answer.json()
        if name is None:
            stem = "best" if wanted.kind == "best" else "checkpoint"
            assert re.fullmatch(
                rf"{stem}_\d{{8}}T\d{{6}}_{blake3(told['save_id'].encode()).hexdigest()[:12]}\.pt", told["name"]
            )
        removed = self.model.commit(
            wanted, id=told["id"], name=name or told["name"], save_id=wanted.save_id or told["save_id"]
        )
        same(told, self.model.rows[told["id"]])
        assert told["policy"] == self.model.policy()
        assert sorted(told["removed"]) == ([] if told["repeated"] else sorted(removed))

    def _change(self, row: Row, facts: dict[str, Any], asked: dict[str, Any] | None = None) -> None:
        asked = asked or {**facts, **({"metric": on_the_wire(facts["metric"])} if "metric" in facts else {})}
        answer = self.http.patch(f"/v1/checkpoints/{row.id}", json=asked)
        assert answer.status_code == 200, answer.text
        for name, value in facts.items():
            setattr(row, name, tuple(dict.fromkeys(value)) if name == "tags" else value)
        same(answer.json(), row)

    def _clear(self, *, include_pinned: bool) -> None:
        answer = self.asking.about("DELETE", params={"include_pinned": include_pinned}).json()
        removed, pinned = self.model.clear(include_pinned=include_pinned)
        assert (sorted(answer["removed"]), sorted(answer["pinned"])) == (sorted(removed), sorted(pinned))
