"""Rows past their horizon are deleted in short transactions; what is kept is right at every moment."""

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from app.__main__ import main
from app.bootstrap import open_root, utc_now
from app.catalog.tables.times import to_text
from app.core.models import Chunk, FileMap, Manifest
from app.settings import Settings
from tests.data.delta_states import refusal
from tests.data.samples import checkpoint
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer, eventually

DAY_S = 86400
KEPT = {"keep_events": "2d", "keep_audit": "20d", "keep_removed": "10d"}


@pytest.fixture
def clock(tmp_path):
    path = tmp_path / "clock"
    path.write_text("0")
    return path


@pytest.fixture
def aging(tmp_path, clock):
    """A server whose clock can be set, and whose janitor runs all the time."""
    with LiveServer(tmp_path / "root", clock=clock, janitor_every_s="0.05", **KEPT) as live:
        yield live


def rows(server, table):
    with closing(sqlite3.connect(server.root / ".holdfast" / "catalog.db")) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def trimmed_to(server, **counts):
    return eventually(lambda: {table: rows(server, table) for table in counts} == counts)


def pass_days(clock, days):
    """Let the server's clock go on, at once: it may look at any moment."""
    later = clock.with_name("later")
    later.write_text(str(float(clock.read_text()) + days * DAY_S))
    later.replace(clock)


def events(server, after):
    headers = {"Last-Event-ID": str(after)}
    answer = server.http.get("/v1/events", params={"follow": False}, headers=headers)
    if answer.status_code != 200:
        return refusal(answer)
    return [int(line.removeprefix("id: ")) for line in answer.text.splitlines() if line.startswith("id: ")]


def series(server, directory):
    (found,) = server.http.get(f"/series/{directory}").json()["series"]
    return list(zip(found["sequence"], found["value"], strict=True))


def figure(server, name):
    found = (line.rsplit(" ", 1) for line in server.http.get("/metrics").text.splitlines())
    return next(float(value) for title, value in found if title == name)


def delete(server, saved):
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()


def fsck(root, capsys):
    capsys.readouterr()
    status = main(["fsck", "--root", str(root), "--json"])
    return status, json.loads(capsys.readouterr().out)["faults"]


def with_removed(root, count, directory="runs/a", *, days=100):
    """Make a root with removed checkpoints whose bytes were freed so many days ago, and one live one."""
    with LiveServer(root) as server:
        server.save(directory, epoch=1)
    at = to_text(utc_now() - timedelta(days=days))
    made = [checkpoint(number, directory=directory, epoch=number, metric=number % 97) for number in range(2, count + 2)]
    with closing(open_root(Settings(root=root))) as service, service.context.catalog.writing() as session:
        maps = [{file.path: FileMap((Chunk(1, "0" * 64),)) for file in one.files} for one in made]
        session.checkpoints.add(*map(Manifest, made, maps))
        gone = (
            "UPDATE checkpoints SET removed_at = ?, removed_because = 'pruned', trashed = 1, freed = 1 WHERE epoch > 1"
        )
        session.connection.exec_driver_sql(gone, (at,))
        session.checkpoints.count_all_anew()
        known = session.directories.get(directory)
        session.directories.put(replace(known, sequence=count + 1))


def test_events_and_the_audit_are_kept_as_long_as_is_set(aging, clock):
    for _ in range(3):
        aging.save("runs/a")
    pass_days(clock, 3)
    assert trimmed_to(aging, events=1, audit=3)
    assert events(aging, 0) == [3]
    aging.save("runs/a")
    assert eventually(lambda: events(aging, 0) == [4])
    pass_days(clock, 18)
    assert trimmed_to(aging, events=1, audit=1)
    aging.restart()
    aging.save("runs/a")
    assert events(aging, 4) == [5], "the numbers of events never begin again"
    assert [line["action"] for line in aging.http.get("/v1/audit").json()["lines"]] == ["checkpoint.saved"] * 2


def test_a_stream_that_has_missed_deleted_events_is_refused(aging, clock):
    for _ in range(4):
        aging.save("runs/a")
    pass_days(clock, 3)
    assert trimmed_to(aging, events=1)
    assert [events(aging, after) for after in (1, 2)] == [(410, "events_trimmed")] * 2
    assert events(aging, 3) == events(aging, 0) == [4], "no event after the third is missing"
    answer = aging.http.get("/v1/events", headers={"Last-Event-ID": "1"})
    assert answer.json()["last_trimmed_id"] == 3


def test_a_removed_checkpoint_is_forgotten_after_its_time(aging, clock):
    first = aging.save("runs/a", b"one", metric=0.5, epoch=1, tags="good", metadata='{"loss": 1}')
    second = aging.save("runs/a", b"two", metric=0.25, epoch=2)
    delete(aging, first)
    before = series(aging, "runs/a")
    assert before == [(1, 0.5), (2, 0.25)]
    pass_days(clock, 9)
    assert len(aging.names("runs/a", include_removed=True)) == 2
    pass_days(clock, 2)
    assert trimmed_to(aging, checkpoints=1, files=1, tags=0, numbers=0, saves=1)
    assert refusal(aging.http.get(f"/v1/checkpoints/{first['id']}")) == (404, "checkpoint_not_found")
    assert aging.names("runs/a", include_removed=True) == [second["name"]]
    assert series(aging, "runs/a") == before
    assert figure(aging, 'holdfast_removed_checkpoints_total{because="deleted"}') == 1
    assert aging.save("runs/a", b"three")["sequence"] == 3
    page = aging.http.get("/directories/runs/a", params={"removed": True}, headers={"Accept": "text/html"}).text
    assert "no longer listed" in page


def test_what_can_be_restored_stays(tmp_path, clock):
    settings = {**KEPT, "undo_window": "30d", "janitor_every_s": "0.05"}
    with LiveServer(tmp_path / "root", clock=clock, **settings) as server:
        kept, going = server.save("runs/a", b"one", name="a.pt"), server.save("runs/b", b"two")
        delete(server, going)
        pass_days(clock, 25)
        delete(server, kept)
        pass_days(clock, 15)  # past the horizon, and within the undo window of one of them
        assert trimmed_to(server, checkpoints=1)
        answer = server.http.post(f"/v1/checkpoints/{kept['id']}/restore")
        assert answer.status_code == 200, answer.text
        assert server.names("runs/a") == ["a.pt"]


@pytest.mark.parametrize("is_deleted", [False, True], ids=["live", "removed"])
def test_a_save_that_is_repeated_late_makes_one_checkpoint(aging, clock, is_deleted):
    query = {"name": "a.pt", "save_id": "the-first-save", "epoch": 1, "saved_after": 0}
    saved = aging.save("runs/a", b"content", **query)
    if is_deleted:
        delete(aging, saved)
    newer = aging.save("runs/a", b"newer", name="b.pt", epoch=2)
    pass_days(clock, 11)
    assert trimmed_to(aging, saves=1 if is_deleted else 2)
    answer = aging.http.post("/v1/checkpoints", params={"directory": "runs/a", **query}, content=b"content")
    again = answer.raise_for_status().json()
    assert (again["id"] == saved["id"]) is not is_deleted, "a live checkpoint knows its save for ever"
    assert sorted(aging.names("runs/a")) == ["a.pt", "b.pt"]
    latest = aging.http.get("/v1/directories/runs/a").json()["latest"]
    assert latest["id"] == newer["id"], "the late one has its old place in the order"


def test_a_late_repetition_replaces_nothing_newer(aging, clock):
    query = {"name": "a.pt", "save_id": "the-first-save", "saved_after": 0}
    aging.save("runs/a", b"old", **query)
    newer = aging.save("runs/a", b"new", name="a.pt")
    pass_days(clock, 11)
    assert trimmed_to(aging, checkpoints=1)
    answer = aging.http.post("/v1/checkpoints", params={"directory": "runs/a", **query}, content=b"old")
    assert refusal(answer) == (409, "superseded")
    assert aging.http.get(f"/v1/checkpoints/{newer['id']}/content").content == b"new"


def test_saves_of_the_same_content_do_not_pile_up(aging, clock):
    for number in range(5):
        aging.save("runs/a", b"same", name="a.pt", save_id=f"the-save-{number}", epoch=number)
    assert rows(aging, "saves") == 5
    pass_days(clock, 11)
    assert trimmed_to(aging, saves=1, checkpoints=1)
    last = {"directory": "runs/a", "name": "a.pt", "save_id": "the-save-4", "epoch": 4}
    aging.http.post("/v1/checkpoints", params=last, content=b"same").raise_for_status()
    assert rows(aging, "saves") == 1


def test_an_emptied_directory_counts_on_and_a_deleted_one_begins_anew(aging, clock):
    for name in ("runs/a", "runs/b"):
        delete(aging, aging.save(name, metric=1))
    aging.http.delete("/v1/directories/runs/b").raise_for_status()
    pass_days(clock, 11)
    assert trimmed_to(aging, checkpoints=0, metric_history=1)
    assert [aging.save(name)["sequence"] for name in ("runs/a", "runs/b")] == [2, 1]
    aging.http.delete("/v1/directories/runs/a").raise_for_status()
    aging.http.delete("/v1/directories/runs/a").raise_for_status()
    assert rows(aging, "metric_history") == 0


def test_saves_go_on_while_thousands_of_rows_are_deleted(tmp_path, capsys):
    root = tmp_path / "root"
    with_removed(root, 10_000)
    saved = []
    with LiveServer(root, janitor_every_s="0.05") as server:
        while (left := rows(server, "checkpoints")) > len(saved) + 1:
            saved.append(server.save("runs/a", epoch=20_000 + len(saved))["sequence"])
        assert left == len(saved) + 1
        assert saved == list(range(10_002, 10_002 + len(saved)))
        assert len(saved) > 10
        assert rows(server, "metric_history") <= 1000
        assert figure(server, 'holdfast_removed_checkpoints_total{because="pruned"}') == 10_000
        shown = [value for sequence, value in series(server, "runs/a") if sequence <= 10_001]
        assert (min(shown), max(shown)) == (0, 96)
        assert len(shown) == rows(server, "metric_history")
    assert fsck(root, capsys) == (0, [])


def test_a_kill_amid_the_deletion_leaves_what_the_next_start_goes_on_with(tmp_path, capsys):
    root = tmp_path / "root"
    with_removed(root, 1000)
    seen = []
    with LiveServer(root, janitor_every_s="0.05") as server:
        while (left := rows(server, "checkpoints")) > 1:
            seen.append(left)
            server.restart()
            with closing(sqlite3.connect(root / ".holdfast" / "catalog.db")) as connection:
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
                counted = "SELECT (SELECT count(*) FROM checkpoints) + sum(checkpoints) FROM trimmed_totals"
                assert connection.execute(counted).fetchone()[0] in {None, 1001}
            was = left
            assert eventually(lambda was=was: rows(server, "checkpoints") < was)
        assert len(seen) > 1, "it was never cut off"
        assert rows(server, "files") == 1
    assert fsck(root, capsys) == (0, [])


def test_a_checkpoint_whose_upload_could_not_be_discarded_keeps_its_row(aging, clock):
    """Without the row, the next start would take the remains for a commit that has to be finished."""
    saved, other = aging.save("runs/a", b"one"), aging.save("runs/a", b"two")
    remains = aging.root / ".holdfast" / "incoming" / saved["id"]
    remains.mkdir()
    for one in (saved, other):
        delete(aging, one)
    pass_days(clock, 11)
    assert trimmed_to(aging, checkpoints=1)
    assert aging.http.get(f"/v1/checkpoints/{saved['id']}").status_code == 200
    remains.rmdir()
    assert trimmed_to(aging, checkpoints=0)


def test_a_rebuilt_catalog_counts_on(aging, clock, capsys):
    delete(aging, aging.save("runs/a", metric=1))
    aging.save("runs/a", metric=2)
    pass_days(clock, 11)
    assert trimmed_to(aging, checkpoints=1)
    aging.stop()
    assert main(["reindex", "--root", str(aging.root)]) == 0
    assert fsck(aging.root, capsys) == (0, [])
    aging.start()
    assert aging.save("runs/a")["sequence"] == 3
    assert series(aging, "runs/a") == [(1, 1), (2, 2)], "the history is in the catalog alone, which was there"


def test_a_watcher_that_follows_misses_nothing_while_events_are_deleted(aging, clock):
    seen, begun = [], threading.Event()

    def watch():
        with aging.http.stream("GET", "/v1/events", headers={"Last-Event-ID": "0"}) as answer:
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    seen.append(int(line.removeprefix("id: ")))
                    begun.set()
                if seen and seen[-1] == 20:
                    return

    aging.save("runs/a")
    watching = threading.Thread(target=watch)
    watching.start()
    assert begun.wait(DEADLINE_S)
    for number in range(2, 21):
        aging.save("runs/a")
        assert eventually(lambda number=number: seen[-1] == number), "else its next events would be too old to be kept"
        pass_days(clock, 3)
    watching.join(DEADLINE_S)
    assert seen == list(range(1, 21))


def test_a_catalog_is_compacted_while_no_server_has_its_root_open(own_server, capsys):
    saved = own_server.save("runs/a", b"content")
    assert main(["compact", "--root", str(own_server.root)]) == 2
    own_server.stop()
    capsys.readouterr()
    assert main(["compact", "--root", str(own_server.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes_after"] == (own_server.root / ".holdfast" / "catalog.db").stat().st_size
    assert main(["compact", "--root", str(own_server.root)]) == 0
    assert capsys.readouterr().out.startswith("The catalog takes ")
    own_server.start()
    assert own_server.http.get(f"/v1/checkpoints/{saved['id']}/content").content == b"content"
