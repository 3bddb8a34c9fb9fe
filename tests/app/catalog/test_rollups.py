"""Rollups of usage say what summing the rows says, also after damage and repair; and nothing of what is forgotten.

`test_counters` holds them to the rows after any sequence of changes.
"""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from app.catalog import Catalog
from app.catalog.rows import rollups
from app.catalog.tables.times import to_text
from app.core.models import Chunk, FileMap, Manifest
from tests.data.samples import AT, checkpoint

HOUR = timedelta(hours=1)
FIRST = "2026-11-23T14:0"
ZEROS = ", 0" * 7


@pytest.fixture
def catalog(tmp_path):
    """A catalog with three live checkpoints, and one that was removed an hour later."""
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    with catalog.writing() as session:
        session.checkpoints.add(made("runs/a", 1), made("runs/a", 2), made("runs/a", 3), made("runs/b", 4))
        session.checkpoints.mark_removed(session.checkpoints.named("runs/a", "c2.pt"), "pruned", AT + HOUR)
    yield catalog
    catalog.close()


def made(directory, sequence):
    one = checkpoint(sequence, directory=directory, size_bytes=sequence * 10)
    return Manifest(one, {file.path: FileMap((Chunk(1, "0" * 64),)) for file in one.files})


def kept(folder):
    """The growth, and the count and bytes of pruned checkpoints, by directory and bucket."""
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        query = "SELECT directory, bucket, growth_bytes, pruned_count, pruned_bytes FROM usage_rollups ORDER BY 1, 2"
        return connection.execute(query).fetchall()


def change(folder, statement):
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        connection.execute(statement)


def test_growth_and_removals_are_summed_by_ten_minutes(catalog, tmp_path):
    of_a = [("runs/a", FIRST, 60, 0, 0), ("runs/a", "2026-11-23T15:0", -20, 1, 20)]
    of_all = [("", FIRST, 100, 0, 0), ("", "2026-11-23T15:0", -20, 1, 20)]
    assert kept(tmp_path) == [*of_all, *of_a, ("runs/b", FIRST, 40, 0, 0)]
    with catalog.writing() as session:
        rollups.rebuild(session)
    assert kept(tmp_path) == [*of_all, *of_a, ("runs/b", FIRST, 40, 0, 0)]


def test_a_removal_before_the_creation_never_grew_anything(catalog, tmp_path):
    with catalog.writing() as session:
        session.checkpoints.mark_removed(session.checkpoints.named("runs/b", "c4.pt"), "pruned", AT - HOUR)
    assert [row for row in kept(tmp_path) if row[0] == "runs/b"] == [("runs/b", "2026-11-23T13:0", 0, 1, 40)]
    with catalog.writing() as session:
        assert session.rollups.mismatches() == []


def test_nothing_is_left_of_what_is_forgotten(catalog, tmp_path):
    with catalog.writing() as session:
        rows = [session.checkpoints.named(*each) for each in (("runs/a", "c1.pt"), ("runs/a", "c3.pt"))]
        for row in (*rows, session.checkpoints.named("runs/b", "c4.pt")):
            session.checkpoints.mark_removed(row, "deleted", AT + 2 * HOUR)
    ids = [f"runs-a-{number}" for number in (1, 2, 3)] + ["runs-b-4"]
    for number in range(0, 4, 2):
        with catalog.writing() as session:
            session.checkpoints.forget_removed(ids[number : number + 2])
            assert session.rollups.mismatches() == []
    assert kept(tmp_path) == []


def test_a_restored_checkpoint_was_never_removed(catalog, tmp_path):
    with catalog.writing() as session:
        session.checkpoints.mark_restored(session.checkpoints.get("runs-a-2"))
    assert kept(tmp_path) == [("", FIRST, 100, 0, 0), ("runs/a", FIRST, 60, 0, 0), ("runs/b", FIRST, 40, 0, 0)]


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        pytest.param(
            "UPDATE usage_rollups SET growth_bytes = growth_bytes + 1 WHERE directory = 'runs/a'",
            [("runs/a", ["growth_bytes"])],
            id="of a directory",
        ),
        pytest.param(
            "UPDATE usage_rollups SET pruned_count = 7 WHERE directory = ''", [("", ["pruned_count"])], id="of all"
        ),
        pytest.param(
            f"DELETE FROM usage_rollups WHERE directory = 'runs/b' AND bucket = '{FIRST}'",
            [("runs/b", ["growth_bytes"])],
            id="lost",
        ),
        pytest.param(
            f"INSERT INTO usage_rollups SELECT 'runs/none', '{FIRST}', 1, 2{ZEROS}",
            [("runs/none", ["growth_bytes", "pruned_count"])],
            id="of nothing",
        ),
        pytest.param(
            f"UPDATE checkpoints SET created_at = '{to_text(AT + 3 * HOUR)}' WHERE name = 'c4.pt'",
            [("", ["growth_bytes"]), ("runs/b", ["growth_bytes"])],
            id="of another time",
        ),
    ],
)
def test_wrong_rollups_are_found_and_summed_anew(catalog, tmp_path, damage, wrong):
    change(tmp_path, damage)
    with catalog.writing() as session:
        assert session.rollups.mismatches() == wrong
        for directory, _ in wrong:
            session.rollups.repair(directory)
        assert session.rollups.mismatches() == []
    change(tmp_path, damage)
    with catalog.writing() as session:
        rollups.rebuild(session)
        assert session.rollups.mismatches() == []
