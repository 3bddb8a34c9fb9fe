"""Damages to a root that no server uses: each does one thing to it and names the fault that fsck must report."""

import json
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.catalog import Catalog, default_url

GONE = "gone/"
End = Literal["mended", "lost", "stays"]


@dataclass
class Victim:
    """A checkpoint, as it was before anything was done to it."""

    id: str
    directory: str
    name: str
    files: dict[str, int]
    """Sizes by where they are stored."""

    @property
    def manifest(self) -> str:
        return f"{self.directory}/.holdfast/{self.name}.json"

    @property
    def place(self) -> str:
        return f"{self.directory}/{self.name}"

    @property
    def is_folder(self) -> bool:
        return list(self.files) != [self.place]


@dataclass
class Damaged:
    """A copy of a root, what has been done to it, and what fsck must say."""

    root: Path
    rng: random.Random
    victims: list[Victim]
    directories: list[str]
    expected: dict[tuple[str, str], End] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    """Ids of the checkpoints that were damaged."""
    foreign: list[Path] = field(default_factory=list)
    """Paths of what others put there, which has to stay."""

    def take(self, suits: Callable[[Victim], object] = bool) -> Victim:
        """A checkpoint that nothing was done to, and will not be again."""
        victim = self.rng.choice([victim for victim in self.victims if suits(victim)])
        self.victims.remove(victim)
        self.touched.append(victim.id)
        return victim

    def take_directory(self) -> str:
        """A directory whose own record and row nothing was done to."""
        name = self.rng.choice(self.directories)
        self.directories.remove(name)
        return name

    def a_file(self, victim: Victim) -> str:
        return self.rng.choice(sorted(path for path, size in victim.files.items() if size))

    def expect(self, kind: str, where: str, end: End) -> None:
        self.expected[kind, where] = end

    @contextmanager
    def sql(self) -> Iterator[sqlite3.Connection]:
        """Damage the catalog; sums of directories go with their rows, except of those that are gone."""
        database = self.root.resolve() / ".holdfast"
        with closing(sqlite3.connect(database / "catalog.db")) as connection, connection:
            connection.execute("PRAGMA foreign_keys=ON")
            yield connection
        with closing(Catalog(default_url(database))) as catalog, catalog.writing() as session:
            for sums in (session.counters, session.rollups):
                for directory, _ in sums.mismatches():
                    if not directory.startswith(GONE):
                        sums.repair(directory)


@contextmanager
def same_times(path: Path) -> Iterator[None]:
    found = path.stat()
    yield
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def flip(path: Path, rng: random.Random) -> None:
    """Change one byte, and leave the file's times as they were."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    with same_times(path):
        path.write_bytes(data)


def flip_record(path: Path, rng: random.Random) -> None:
    """Change one byte of a JSON file so that it says something else, or nothing."""
    before = path.read_bytes()
    while True:
        flip(path, rng)
        try:
            if json.loads(path.read_bytes()) != json.loads(before):
                return
        except ValueError:
            return
        path.write_bytes(before)


# files


def a_byte_of_a_file(d: Damaged) -> None:
    place = d.a_file(d.take())
    flip(d.root / place, d.rng)
    d.expect("altered", place, "stays")


def a_shorter_file(d: Damaged) -> None:
    place = d.a_file(d.take())
    os.truncate(d.root / place, d.rng.randrange((d.root / place).stat().st_size))
    d.expect("altered", place, "stays")


def a_longer_file(d: Damaged) -> None:
    place = d.a_file(d.take())
    with (d.root / place).open("ab") as file:
        file.write(b"more")
    d.expect("altered", place, "stays")


def a_lost_file(d: Damaged) -> None:
    place = d.rng.choice(sorted(d.take().files))
    (d.root / place).unlink()
    d.expect("missing", place, "stays")


def a_link_in_place_of_a_file(d: Damaged) -> None:
    place = d.a_file(d.take())
    away = d.root.parent / f"{d.root.name}-away"
    (d.root / place).rename(away)
    (d.root / place).symlink_to(away)
    d.expect("altered", place, "stays")


def a_file_of_another_name(d: Damaged) -> None:
    place = d.a_file(d.take())
    (d.root / place).rename((d.root / place).with_name(f"other-{d.rng.random()}"))
    d.expect("renamed", place, "mended")


def a_file_in_another_directory(d: Damaged) -> None:
    place = d.a_file(d.take())
    elsewhere = d.root / "elsewhere" / f"{d.rng.random()}"
    elsewhere.mkdir(parents=True)
    (d.root / place).rename(elsewhere / Path(place).name)
    d.expect("renamed", place, "mended")


def a_folder_in_another_directory(d: Damaged) -> None:
    victim = d.take(lambda v: v.is_folder and all(v.files.values()))
    elsewhere = d.root / "elsewhere" / f"{d.rng.random()}"
    elsewhere.mkdir(parents=True)
    (d.root / victim.place).rename(elsewhere / victim.name)
    for place in victim.files:
        d.expect("renamed", place, "mended")
    if d.rng.random() < 0.5:
        (elsewhere / ".holdfast").mkdir()
        (d.root / victim.manifest).rename(elsewhere / ".holdfast" / f"{victim.name}.json")
        d.expect("renamed", victim.manifest, "mended")


# records


def a_byte_of_a_manifest(d: Damaged) -> None:
    victim = d.take()
    flip_record(d.root / victim.manifest, d.rng)
    d.expect("record", victim.manifest, "mended")


def a_lost_manifest(d: Damaged) -> None:
    victim = d.take()
    (d.root / victim.manifest).unlink()
    d.expect("record", victim.manifest, "mended")


def a_manifest_of_another_name(d: Damaged) -> None:
    victim = d.take()
    path = d.root / victim.manifest
    path.rename(path.with_name(f"z{d.rng.randrange(10**9)}.json"))
    d.expect("renamed", victim.manifest, "mended")


def swapped_manifests(d: Damaged) -> None:
    one, other = d.take(), d.take()
    between = d.root / "between"
    (d.root / one.manifest).rename(between)
    (d.root / other.manifest).rename(d.root / one.manifest)
    between.rename(d.root / other.manifest)
    for victim in (one, other):
        d.expect("record", victim.manifest, "mended")


def a_byte_of_a_directory_record(d: Damaged) -> None:
    where = f"{d.take_directory()}/.holdfast/directory.json"
    flip_record(d.root / where, d.rng)
    d.expect("record", where, "mended")


def a_lost_directory_record(d: Damaged) -> None:
    where = f"{d.take_directory()}/.holdfast/directory.json"
    (d.root / where).unlink()
    d.expect("record", where, "mended")


# foreign files


def something_of_others(d: Damaged) -> None:
    folder = d.root / d.rng.choice(["", "mine", "runs", "runs/a", "runs/a/new"])
    folder.mkdir(parents=True, exist_ok=True)
    name = d.rng.choice([b"a", b"\xff\xfe", b"two\nlines ", b".x.json.new", b"\xc3\xa9 "]) + b"%d" % d.rng.randrange(
        10**9
    )
    path = folder / os.fsdecode(name)
    d.rng.choice([_a_file, Path.touch, os.mkfifo, _a_link_to_nothing])(path)
    d.foreign.append(path)
    d.expect("extra", shown(path.relative_to(d.root)), "stays")


def shown(path: Path) -> str:
    """A path that fits in one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def a_copy_of_a_checkpoint(d: Damaged) -> None:
    """Of one that no other is like: a lost one that is could be any of their files, and this copy."""
    place, path = d.a_file(d.take(lambda victim: "/same-" not in victim.place)), d.root / f"copy-{d.rng.random()}"
    path.write_bytes((d.root / place).read_bytes())
    d.foreign.append(path)
    d.expect("extra", path.name, "stays")


def a_file_of_others_among_manifests(d: Damaged) -> None:
    where = f"{d.take().directory}/.holdfast/.{d.rng.randrange(10**9)}.swp"
    (d.root / where).write_bytes(b"an editor's")
    d.foreign.append(d.root / where)
    d.expect("extra", where, "stays")


def what_a_crash_left(d: Damaged) -> None:
    victim = d.take()
    where = f"{victim.directory}/.holdfast/.{victim.name}.json.new"
    whole = (d.root / victim.manifest).read_bytes()
    (d.root / where).write_bytes(whole[: d.rng.choice([0, 10, len(whole)])])
    d.expect("leftover", where, "mended")


def _a_file(path: Path) -> None:
    path.write_bytes(b"what others wrote")


def _a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


# the catalog


def a_lost_checkpoint(d: Damaged) -> None:
    victim = d.take()
    for place in (victim.manifest, *victim.files):
        (d.root / place).unlink()
    d.expect("stale", victim.place, "lost")


def a_lost_row(d: Damaged) -> None:
    victim = d.take()
    with d.sql() as sql:
        if d.rng.random() < 0.5:
            sql.commit()
            sql.execute("PRAGMA foreign_keys=OFF")
        sql.execute("DELETE FROM checkpoints WHERE id = ?", [victim.id])
    d.expect("unknown", victim.place, "mended")


def a_row_of_nothing(d: Damaged) -> None:
    victim = d.take()
    with d.sql() as sql:
        sql.row_factory = sqlite3.Row
        row = dict(sql.execute("SELECT * FROM checkpoints WHERE id = ?", [victim.id]).fetchone())
        number = d.rng.randrange(10**9)
        row |= {"id": f"nothing{number}", "name": f"nothing-{number}.pt", "sequence": row["sequence"] + 10**6}
        row["sequence"] = -number
        marks = ", ".join("?" for _ in row)
        sql.execute(f"INSERT INTO checkpoints ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    d.expect("stale", f"{victim.directory}/nothing-{number}.pt", "lost")


def a_row_that_contradicts_itself(d: Damaged) -> None:
    victim = d.take()
    statement = d.rng.choice(
        [
            "UPDATE checkpoints SET digest = 'f' || substr(digest, 2) || 'f' WHERE id = ?",
            "UPDATE checkpoints SET size_bytes = size_bytes + 1 WHERE id = ?",
            "UPDATE checkpoints SET tags = '[' WHERE id = ?",
            "UPDATE checkpoints SET created_at = 'yesterday' WHERE id = ?",
            "UPDATE files SET size_bytes = size_bytes + 1 WHERE checkpoint_id = ?",
            "UPDATE files SET digest = 'f' || digest WHERE checkpoint_id = ?",
            "UPDATE files SET path = path || 'x' WHERE checkpoint_id = ?",
            "UPDATE files SET map = '{' WHERE checkpoint_id = ?",
            'UPDATE files SET map = \'{"chunks": [{"length": 1, "digest": ""}]}\' WHERE checkpoint_id = ?',
            "DELETE FROM files WHERE checkpoint_id = ?",
            "INSERT INTO tags VALUES (?, 'never-given')",
            "INSERT INTO numbers SELECT id, 'never-given', 1, directory, saved_after, sequence, 0 FROM checkpoints "
            "WHERE id = ?",
        ]
    )
    with d.sql() as sql:
        sql.execute(statement, [victim.id])
    d.expect("row", victim.manifest, "mended")


def a_row_that_says_something_else(d: Damaged) -> None:
    victim = d.take()
    statement = d.rng.choice(
        [
            "UPDATE checkpoints SET epoch = coalesce(epoch, 0) + 1 WHERE id = ?",
            "UPDATE checkpoints SET metric = 0.125, metric_text = NULL WHERE id = ?",
            "UPDATE checkpoints SET pinned = NOT pinned WHERE id = ?",
            "UPDATE checkpoints SET name = 'otherwise-' || name WHERE id = ?",
            "UPDATE files SET mtime_ns = mtime_ns + 1 WHERE checkpoint_id = ?",
        ]
    )
    with d.sql() as sql:
        sql.execute(statement, [victim.id])
    d.expect("disagrees", victim.manifest, "stays")


def a_row_of_one_that_was_removed(d: Damaged) -> None:
    victim = d.take()
    with d.sql() as sql:
        sql.execute(
            "UPDATE checkpoints SET removed_at = created_at, removed_because = 'pruned', trashed = 1, freed = 1 "
            "WHERE id = ?",
            [victim.id],
        )
    d.expect("unknown", victim.place, "stays")


def a_lost_row_of_a_directory(d: Damaged) -> None:
    name = d.take_directory()
    with d.sql() as sql:
        sql.execute("DELETE FROM directories WHERE name = ?", [name])
    d.expect("row", f"{name}/.holdfast/directory.json", "mended")


def a_counter_that_is_behind(d: Damaged) -> None:
    name = d.take_directory()
    with d.sql() as sql:
        sql.execute("UPDATE directories SET sequence = 1 WHERE name = ?", [name])
    d.expect("row", f"{name}/.holdfast/directory.json", "mended")


def counters_of_no_rows(d: Damaged) -> None:
    name = f"{GONE}{d.rng.randrange(10**9)}"
    with d.sql() as sql:
        sql.execute("INSERT INTO directory_counters SELECT ?, 3" + ", 0" * 14, [name])
    d.expect("counters", name, "mended")


def rollups_of_no_rows(d: Damaged) -> None:
    name = f"{GONE}{d.rng.randrange(10**9)}"
    with d.sql() as sql:
        sql.execute("INSERT INTO usage_rollups SELECT ?, '2026-11-30T12:3', 3" + ", 0" * 8, [name])
    d.expect("rollups", name, "mended")


def another_policy(d: Damaged) -> None:
    name = d.take_directory()
    with d.sql() as sql:
        sql.execute("UPDATE directories SET max_checkpoints = 77 WHERE name = ?", [name])
    d.expect("disagrees", f"{name}/.holdfast/directory.json", "stays")


OF_DIRECTORIES: list[Any] = [
    a_byte_of_a_directory_record,
    a_lost_directory_record,
    a_lost_row_of_a_directory,
    a_counter_that_is_behind,
    another_policy,
]
"""Those that each need a directory of their own."""
QUICK: list[Any] = [
    a_byte_of_a_file,
    a_shorter_file,
    a_longer_file,
    a_lost_file,
    a_link_in_place_of_a_file,
    a_file_of_another_name,
    a_file_in_another_directory,
    a_folder_in_another_directory,
    a_byte_of_a_manifest,
    a_byte_of_a_manifest,
    a_lost_manifest,
    a_manifest_of_another_name,
    swapped_manifests,
    a_byte_of_a_directory_record,
    a_lost_directory_record,
    something_of_others,
    something_of_others,
    a_copy_of_a_checkpoint,
    a_lost_checkpoint,
    a_lost_row,
    a_row_of_nothing,
    a_row_that_contradicts_itself,
    a_row_that_contradicts_itself,
    a_row_that_says_something_else,
    a_row_of_one_that_was_removed,
    a_lost_row_of_a_directory,
    a_counter_that_is_behind,
    counters_of_no_rows,
    rollups_of_no_rows,
]
PASSING: list[Any] = [a_file_of_others_among_manifests, what_a_crash_left, another_policy]
"""The damages that may be a commit in progress: fsck waits a moment before it reports them."""
