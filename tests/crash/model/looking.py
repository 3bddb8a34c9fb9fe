"""Comparison of a directory, as the server and its disk show it, with the model."""

from contextlib import closing
from typing import Any

import httpx

from app.catalog import Catalog, default_url
from tests.crash.model.asking import Asking
from tests.crash.model.directory_model import Model, Row


class Looking:
    """Comparisons of one directory with its model."""

    def __init__(self, asking: Asking, model: Model) -> None:
        self.asking = asking
        self.model = model

    def look(self, *, include_removed: bool) -> None:
        rows = self.model.everything() if include_removed else self.model.live()
        listed = self.asking.get("/v1/checkpoints", page_size=1000, include_removed=include_removed).json()
        assert [found["id"] for found in listed["checkpoints"]] == [row.id for row in rows]
        for found, row in zip(listed["checkpoints"], rows, strict=True):
            same(found, row)

    def look_closely(self) -> None:
        if not self.model.is_known:
            self.look_at_the_disk()
            return
        self.look(include_removed=True)
        live, ranked = self.model.live(), self.model.ranked()
        told = self.asking.about("GET").json()
        assert (told["sequence"], told["policy"]) == (self.model.sequence, self.model.policy())
        assert (told["count"], told["size_bytes"]) == (len(live), sum(row.content.size_bytes for row in live))
        assert (told["latest"] or {}).get("id") == (live[-1].id if live else None)
        assert (told["best"] or {}).get("id") == (ranked[0].id if ranked else None)
        for query in ({}, {"by": "acc", "mode": "max"}):
            listed = self.asking.get("/v1/checkpoints", order_by="best", page_size=1000, **query).json()
            assert [found["id"] for found in listed["checkpoints"]] == [r.id for r in self.model.ranked(**query)]
        self.prune(dry_run=True)
        self.look_at_the_counters()
        self.look_at_the_disk()

    def look_at_the_counters(self) -> None:
        """Counters and rollups of every directory are what counting its rows gives."""
        url = default_url(self.asking.server.root.resolve() / ".holdfast")
        with closing(Catalog(url, read_only=True)) as catalog, catalog.reading() as session:
            assert session.counters.mismatches() == session.rollups.mismatches() == []

    def look_at_the_disk(self) -> None:
        """The files are those of the live checkpoints, and theirs alone."""
        self.asking.server.wait_until_freed()
        place = self.asking.server.root / self.asking.directory
        live = {
            f"{row.name}/{path}".removesuffix("/"): data
            for row in self.model.live()
            for path, data in row.content.files
        }
        found = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
        manifests = {name.removeprefix(".holdfast/") for name in found if name.startswith(".holdfast/")}
        assert manifests - {"directory.json"} == {f"{row.name}.json" for row in self.model.live()}
        assert {name for name in found if not name.startswith(".holdfast/")} == set(live)
        for name, data in live.items():
            assert found[name].read_bytes() == data

    def prune(self, *, dry_run: bool) -> None:
        answer = self.asking.prune(dry_run=dry_run)
        if not self.model.is_known:
            refused(answer, {"directory_not_found"}, status=404)
            return
        (told,) = answer.json()["directories"]
        why = self.model.reasons()
        assert [v["checkpoint"]["id"] for v in told["verdicts"]] == [row.id for row in reversed(self.model.live())]
        for verdict in told["verdicts"]:
            reasons = {(reason["code"], reason["place"], reason["limit"]) for reason in verdict["reasons"]}
            assert (verdict["stays"], reasons) == (bool(reasons), why[verdict["checkpoint"]["id"]])
        if not dry_run:
            self.model.prune()


def same(found: dict[str, Any], row: Row) -> None:
    """Assert that the server's answer about a checkpoint equals the model's."""
    shown = row.shown()
    assert {key: found[key] for key in shown} == shown


def refused(answer: httpx.Response, codes: set[str], *, status: int = 409) -> None:
    """A refusal with one of these codes."""
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] in codes
