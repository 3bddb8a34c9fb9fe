"""The benchmark at scale: rows in bulk are those that a server would have, and a small run gives every figure."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing

import httpx
import pytest

from app.catalog.tables import schema
from benchmarks.checkout import OURS, Checkout
from benchmarks.live import LiveServer
from benchmarks.scale import command
from benchmarks.scale.jobs import KEEP_ALL
from benchmarks.scale.measures.reads import READS
from benchmarks.scale.rows import derived, roots
from benchmarks.scale.rows.planned import Target, Templates, planned_rows
from benchmarks.scale.targets import BOUNDS
from holdfast import CheckpointManager

LIVE, PRUNED = Target("runs/live", 300, 300, roots.KEPT), Target("runs/pruned", 300, 6, roots.PRUNED)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A root with both targets, which no test changes."""
    folder = tmp_path_factory.mktemp("scale")
    return roots.filled(OURS, roots.seed(OURS, folder / "seed", 40), folder / "root", [LIVE, PRUNED])


def rows(root, query, *values):
    with closing(sqlite3.connect(roots.catalog_of(root))) as connection:
        return connection.execute(query, values).fetchall()


def test_every_table_has_the_rows_of_the_copies(filled):
    tables = [name for (name,) in rows(filled, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    counted = 0
    for table in tables:
        columns = [name for _, name, *_ in rows(filled, f"PRAGMA table_info({table})")]
        if "checkpoint_id" not in columns:
            continue
        of = f"SELECT count(DISTINCT checkpoint_id) FROM {table} WHERE checkpoint_id IN (SELECT id FROM checkpoints"
        real, copied = (rows(filled, f"{of} WHERE directory = ?)", name)[0][0] for name in (roots.KEPT, LIVE.directory))
        assert (real > 0) == (copied > 0), table
        assert copied in {0, LIVE.saves}, table
        counted += copied > 0
    assert counted >= 4


def test_the_catalog_is_sound(filled):
    assert rows(filled, "PRAGMA integrity_check") == [("ok",)]
    assert rows(filled, "PRAGMA foreign_key_check") == []
    indexes = {name for (name,) in rows(filled, "SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert {index.name for table in schema.metadata.tables.values() for index in table.indexes} <= indexes


def test_a_server_counts_finds_and_saves(filled, tmp_path):
    root = shutil.copytree(filled, tmp_path / "root")
    with LiveServer(root, settings=roots.QUIET) as server:
        roots.verify(server, LIVE)
        roots.verify(server, PRUNED)
        with pytest.raises(RuntimeError, match="derived"):
            roots.verify(server, Target(LIVE.directory, 300, 299, roots.KEPT))
        for target in (LIVE, PRUNED):
            best = httpx.get(f"{server.url}/v1/checkpoints/best", params={"directory": target.directory}).json()
            assert best["id"] == roots.middle_of(root, target).id
        position = {"directory": LIVE.directory}
        before = httpx.get(f"{server.url}/v1/checkpoints/latest", params=position).json()["sequence"]
        manager = CheckpointManager(LIVE.directory, server=server.url, **KEEP_ALL)
        manager.save({"a": 1}, name="new.pt")
        assert httpx.get(f"{server.url}/v1/checkpoints/latest", params=position).json()["sequence"] == before + 1


def test_derived_rows_are_made_by_the_functions_that_a_checkout_has(filled, tmp_path):
    catalog = tmp_path / "catalog.db"
    shutil.copy2(roots.catalog_of(filled), catalog)
    derived.rebuild(OURS, catalog, ["app.no_such_module:rebuild"])
    with pytest.raises(subprocess.CalledProcessError):
        derived.rebuild(OURS, catalog, ["builtins:len"])  # a session has no length


def test_the_latest_and_the_best_saves_stay():
    templates = {"t": Templates(["live"], ["removed"])}
    planned = list(planned_rows([Target("a", 20, 6, "t"), Target("b", 3, 3, "t")], templates))
    stay = [row.number for row in planned if row.template == "live" and row.directory == "a"]
    assert stay == [10, 15, 16, 17, 18, 19]
    assert [row.number for row in planned if row.directory == "b"] == [0, 1, 2]
    assert [row.created_at for row in planned] == sorted(row.created_at for row in planned)
    assert min((row for row in planned if row.directory == "a"), key=lambda row: row.metric).number == 10


def test_a_folder_without_an_environment_is_no_checkout(tmp_path):
    with pytest.raises(ValueError, match="no checkout"):
        Checkout.at(tmp_path, "before")


def test_a_small_run_gives_every_figure(tmp_path, capsys):
    output = tmp_path / "scale.json"
    given = ["--rows", "2000", "--only", "reads", "--seconds", "0.01", "--folder", str(tmp_path / "disk")]
    assert command.main([*given, "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    names = [reading["name"] for reading in found["readings"]]
    assert [name for name in names if not name.endswith("first")] == list(READS["one"])
    assert names.count("storage page, first") == 1
    assert all(reading["value"] > 0 and reading["seconds"] for reading in found["readings"])
    table = capsys.readouterr().out
    assert all(name in table for name in BOUNDS if name in READS["one"])
