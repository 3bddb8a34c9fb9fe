"""Observations of a server and of the files below its root, to compare with the expectation and each other."""

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.core.models import Policy
from app.storage import manifest as manifests
from tests.crash.harness.acknowledged import State
from tests.support.live import LiveServer

OWN = ".holdfast"
OF_THE_ROOT = {"about.txt", "ballast", "format.json", "lock", "catalog.db", "catalog.db-wal", "catalog.db-shm"}
OF_THE_ROOT |= {"catalog.db.copy", "catalog.db.copy.new", "protected", "revoked", "opened"}


@dataclass(frozen=True)
class Seen:
    """A directory as its server shows it."""

    rows: Mapping[str, Mapping[str, Any]]
    policy: Policy
    sequence: int
    latest: str | None
    best: str | None

    def differences(self, state: State) -> list[str]:
        """In what it is not as it should be, in words. Of a part of a directory only the checkpoints are looked at."""
        rows, kept = self.rows, state.kept
        found = [f"{name} is not there" for name in kept.keys() - rows.keys()]
        found += [f"{name} is there and should not be" for name in rows.keys() - kept.keys()]
        found += [words for name in kept.keys() & rows.keys() for words in kept[name].differences(rows[name])]
        if found or state.sequence is None:
            return found
        best, latest = next(iter(state.ranked()), None), state.latest()
        for what, shown, expected in (
            ("the policy", self.policy, state.policy),
            ("the sequence", self.sequence, state.sequence),
            ("the latest", self.latest, latest and rows[latest.name]["id"]),
            ("the best", self.best, best and rows[best.name]["id"]),
        ):
            if shown != expected:
                found.append(f"{what} is {shown!r}, not {expected!r}")
        return found

    def contradictions(self, other: "Seen") -> list[str]:
        """In what another server says something else of the same directory, in words."""
        found = []
        for key in ("policy", "sequence", "latest", "best"):
            if (mine := getattr(self, key)) != (theirs := getattr(other, key)):
                found.append(f"its {key} is {mine}, not {theirs}")
        for name in sorted(self.rows.keys() | other.rows.keys()):
            if (row := self.rows.get(name)) != (theirs := other.rows.get(name)):
                found.append(f"{name} is {row}, not {theirs}")
        return found

    def part(self, prefix: str) -> "Seen":
        """The checkpoints whose names begin so."""
        return replace(self, rows={name: row for name, row in self.rows.items() if name.startswith(prefix)})


def look(server: LiveServer, directory: str) -> Seen:
    """Return all that a server answers about a directory; an unknown one is empty."""
    summary = server.http.get(f"/v1/directories/{directory}")
    if summary.status_code == 404:
        return Seen({}, Policy(), 0, None, None)
    answer = server.http.get("/v1/checkpoints", params={"directory": directory, "page_size": 1000}).raise_for_status()
    rows = {row["name"]: row for row in answer.json()["checkpoints"]}
    assert len(rows) == len(answer.json()["checkpoints"]), f"a name is listed twice in {directory}"
    shown = dict(summary.json()["policy"])
    policy = Policy(operator=frozenset(shown.pop("set_by_operator")), **shown)
    first = {}
    for which in ("latest", "best"):
        found = server.http.get(f"/v1/checkpoints/{which}", params={"directory": directory})
        assert found.is_success or found.status_code == 404, found.text
        first[which] = found.json()["id"] if found.is_success else None
    return Seen(rows, policy, summary.json()["sequence"], **first)


def wrong_content(server: LiveServer, row: Mapping[str, Any], contents: Mapping[str, tuple[bytes, ...]]) -> list[str]:
    """In which files the server or its disk has other bytes than it should have."""
    found = []
    for path, pieces in contents.items():
        place = f"{row['directory']}/{row['name']}" + (f"/{path}" if list(contents) != [row["name"]] else "")
        answer = server.http.get(f"/v1/checkpoints/{row['id']}/files/{quote(path)}")
        if answer.status_code != 200 or answer.content != b"".join(pieces):
            found.append(f"{place} comes with status {answer.status_code} and {len(answer.content)} bytes")
    return found + wrong_bytes(server.root, f"{row['directory']}/{row['name']}", contents)


def wrong_bytes(root: Path, place: str, contents: Mapping[str, tuple[bytes, ...]]) -> list[str]:
    """List the files of a checkpoint that are not on the disk as they should be."""
    is_folder = list(contents) != [place.rpartition("/")[2]]
    places = {path: root / place / path if is_folder else root / place for path in contents}
    wrong = [path for path, pieces in contents.items() if _bytes(places[path]) != b"".join(pieces)]
    return [f"{place}: {path} has other bytes on the disk, or is not there" for path in wrong]


def wrong_manifest(root: Path, row: Mapping[str, Any]) -> list[str]:
    """In what the manifest of a checkpoint does not say what its row says."""
    where = root / row["directory"] / OWN / f"{row['name']}.json"
    try:
        checkpoint = manifests.load(where.read_bytes()).checkpoint
    except (OSError, manifests.Unreadable) as error:
        return [f"{where}: {error!r}"]
    facts, found = checkpoint.facts, []
    told = {key: getattr(checkpoint, key) for key in ("id", "name", "save_id", "sequence", "saved_after", "digest")}
    told |= {key: getattr(facts, key) for key in ("kind", "epoch", "is_best", "pinned", "metadata")}
    told |= {"tags": list(facts.tags), "metric": row["metric"] if repr(facts.metric) == "nan" else facts.metric}
    for key, value in told.items():
        if row[key] != value:
            found.append(f"{where}: {key} is {value!r}, in the catalog {row[key]!r}")
    for file in checkpoint.files:
        path = root / checkpoint.stored_at(file)
        if path.is_file() and str(path.stat().st_mtime_ns) != file.version:
            found.append(f"{path} was changed at another time than its manifest says")
    return found


def strangers(
    root: Path, rows: Iterable[Mapping[str, Any]], directories: set[str], uploads: set[str], trash: set[str]
) -> list[str]:
    """The files that are missing below a root, and those that belong to no checkpoint, upload or directory.

    ``trash`` are the ids of those that can be brought back.
    """
    rows = list(rows)
    expected = {file["stored_at"] for row in rows for file in row["files"]}
    expected |= {f"{row['directory']}/{OWN}/{row['name']}.json" for row in rows}
    allowed = {f"{OWN}/{name}" for name in OF_THE_ROOT}
    allowed |= {f"{directory}/{OWN}/directory.json" for directory in directories}
    there = set()
    for folder, _, names in os.walk(root):
        below = Path(folder).relative_to(root)
        if below.parts[:2] == (OWN, "incoming") and len(below.parts) > 2 and below.parts[2] in uploads:
            continue
        if below.parts[:2] == (OWN, "trash") and len(below.parts) > 2 and below.parts[2] in trash:
            continue
        there |= {str(below / name) for name in names}
    wrong = [f"{path} is missing" for path in expected - there]
    wrong += [f"{path} belongs to nobody" for path in there - expected - allowed]
    removed = {path.name for path in (root / OWN / "trash").iterdir()}
    wrong += [f"{OWN}/trash/{name} is left over" for name in removed - trash]
    incoming = {path.name for path in (root / OWN / "incoming").iterdir()}
    return wrong + [f"{OWN}/incoming/{name} is left over" for name in incoming - uploads]


def uploads_known(root: Path) -> dict[str, str]:
    """The uploads that the catalog knows: their ids, and the saves that they are for. The catalog must be sound."""
    with closing(sqlite3.connect(f"file:{root / OWN / 'catalog.db'}?mode=ro", uri=True)) as catalog:
        check = catalog.execute("PRAGMA integrity_check").fetchall()
        assert check == [("ok",)], check
        assert catalog.execute("PRAGMA foreign_key_check").fetchall() == []
        return dict(catalog.execute("SELECT id, save_id FROM uploads").fetchall())


def trash_known(root: Path) -> dict[str, bool]:
    """The removed checkpoints whose bytes are kept, and whether these are in the trash by now."""
    with closing(sqlite3.connect(f"file:{root / OWN / 'catalog.db'}?mode=ro", uri=True)) as catalog:
        query = "SELECT id, trashed FROM checkpoints WHERE removed_at IS NOT NULL AND NOT freed"
        return {checkpoint_id: bool(trashed) for checkpoint_id, trashed in catalog.execute(query)}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
