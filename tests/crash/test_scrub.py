"""The background scrub of a real server: it finds damage, reports it, and slows no request."""

import os
import sqlite3
import time
from contextlib import closing

import pytest

from tests.crash.roots.damages import same_times
from tests.support.live import LiveServer, eventually

MB = 1_000_000


@pytest.fixture
def place(tmp_path):
    return tmp_path / "root"


def get(server, saved):
    return server.http.get(f"/v1/checkpoints/{saved['id']}").json()


def content(server, saved):
    return server.http.get(f"/v1/checkpoints/{saved['id']}/content")


def figure(server, name):
    lines = server.http.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def put(path, data):
    """Change bytes and keep the times and the length, as the scrub may be reading."""
    with same_times(path), path.open("r+b", buffering=0) as file:
        assert len(data) == path.stat().st_size
        file.write(data)


def look_at_once(server):
    """A scrub that found nothing to read looks again after some seconds, but at a start it looks at once."""
    server.restart()


def damaged(server, saved):
    return eventually(lambda: get(server, saved)["damage"])


def intact(server, saved):
    return eventually(lambda: get(server, saved)["verified_at"] and not get(server, saved)["damage"])


def test_what_rots_is_found_and_told_and_not_served_until_it_is_right_again(place):
    data = os.urandom(3 * MB)
    with LiveServer(place, scrub_every="0s") as server:
        saved = server.save("runs/a", data, name="x.pt")
        other = server.save("runs/a", b"others", name="y.pt")
        look_at_once(server)
        assert intact(server, saved)
        path, rotten = place / "runs/a/x.pt", bytearray(data)
        rotten[2 * MB] ^= 1
        put(path, rotten)
        assert damaged(server, saved)
        assert "runs/a/x.pt is not what was saved" in get(server, saved)["damage"]
        assert figure(server, "holdfast_damaged_checkpoints") == 1
        refused = content(server, saved)
        assert (refused.status_code, refused.json()["code"]) == (409, "altered")
        assert content(server, other).content == b"others"
        server.restart()
        assert content(server, saved).status_code == 409, "it is known after a restart"
        put(path, data)
        assert intact(server, saved)
        assert figure(server, "holdfast_damaged_checkpoints") == 0
        assert content(server, saved).content == data
        told = ["checkpoint.saved", "checkpoint.saved", "checkpoint.damaged", "checkpoint.intact"]
        assert server.event_kinds(4) == told, "each is told once, however often it is read"


@pytest.mark.parametrize("how", ["missing", "a folder", "a link", "shorter"])
def test_what_cannot_be_read_is_damage_too(place, how):
    with LiveServer(place, scrub_every="0s") as server:
        saved = server.save("runs/a", b"bytes" * 1000, name="x.pt")
        path, away = place / "runs/a/x.pt", place / "away"
        path.rename(away)
        {
            "missing": lambda: None,
            "a folder": path.mkdir,
            "a link": lambda: path.symlink_to(away),
            "shorter": lambda: path.write_bytes(b"bytes"),
        }[how]()
        look_at_once(server)
        assert damaged(server, saved)
        assert "runs/a/x.pt" in get(server, saved)["damage"]
        assert content(server, saved).status_code == 409
        if how == "a folder":
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        away.rename(path)
        assert intact(server, saved)
        assert content(server, saved).content == b"bytes" * 1000


@pytest.mark.parametrize("column", ["files.map", "checkpoints.tags"])
def test_a_row_that_cannot_be_read_is_damage_and_in_nobody_s_way(place, column):
    with LiveServer(place, scrub_every="0s") as server:
        bad, good = (server.save(directory, b"bytes", name="x.pt") for directory in ("runs/a", "runs/b"))
        server.stop()
        change_row(place, column, bad)
        server.start()
        assert eventually(lambda: figure(server, "holdfast_damaged_checkpoints") == 1)
        assert intact(server, good)
        read = get(server, good)["verified_at"]
        assert eventually(lambda: get(server, good)["verified_at"] > read), "it is read again and again"
        assert server.event_kinds(3)[2:] == ["checkpoint.damaged"]
        if column == "files.map":
            assert get(server, bad)["damage"]
            refused = server.http.get(f"/v1/checkpoints/{bad['id']}/chunks")
            assert (refused.status_code, refused.json()["code"]) == (409, "altered")
            assert content(server, bad).status_code == 409


def change_row(place, column, saved):
    """Make a row of the catalog unreadable while the server does not run."""
    table, _, name = column.partition(".")
    key = "id" if table == "checkpoints" else "checkpoint_id"
    with closing(sqlite3.connect(place / ".holdfast" / "catalog.db")) as connection, connection:
        connection.execute(f"UPDATE {table} SET {name} = 'garbage' WHERE {key} = ?", (saved["id"],))


def test_the_rate_is_not_exceeded(place):
    rate, chunk = 2 * MB, 8 * 1024 * 1024
    with LiveServer(place, scrub_every="0s", scrub_bytes_per_s=str(rate)) as server:
        for number in range(4):
            server.save("runs/a", os.urandom(MB), name=f"{number}.pt")
        look_at_once(server)
        began, first = time.monotonic(), figure(server, "holdfast_scrubbed_bytes_total")
        read = 0.0
        while time.monotonic() - began < 2:
            read = figure(server, "holdfast_scrubbed_bytes_total") - first
            assert read <= rate * (time.monotonic() - began) + chunk
        assert read > 0
        assert eventually(lambda: all(get(server, {"id": c["id"]})["verified_at"] for c in listed(server)))


def listed(server):
    return server.http.get("/v1/checkpoints", params={"directory": "runs/a"}).json()["checkpoints"]


def test_a_slow_scrub_hinders_nobody_and_stops_at_once(place):
    """The scrub reads one file for minutes, while clients save, remove and restore that very checkpoint."""
    with LiveServer(place, scrub_every="0s", scrub_bytes_per_s="100000", undo_window="1h") as server:
        saved = server.save("runs/a", os.urandom(24 * MB), name="x.pt")
        look_at_once(server)
        assert eventually(lambda: figure(server, "holdfast_scrubbed_bytes_total") > 0)
        for _ in range(3):
            server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
            server.http.post(f"/v1/checkpoints/{saved['id']}/restore").raise_for_status()
            server.save("runs/a", b"small", name="y.pt")
        server.save("runs/a", b"another", name="x.pt")
        server.wait_until_freed()
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 60, "at its rate it would have read for minutes"
        server.start()
        assert get(server, saved)["damage"] is None
        assert server.log().count("damaged") == 0
        assert sorted(server.names("runs/a")) == ["x.pt", "y.pt"]


def test_what_comes_and_goes_is_never_called_damaged(place):
    with LiveServer(place, scrub_every="0s") as server:
        server.save("runs/a", b"to begin with", name="0.pt")
        look_at_once(server)
        for number in range(60):
            server.save("runs/a", bytes([number]) * 9000, name=f"{number % 3}.pt", max_checkpoints=2)
        server.wait_until_freed()
        look_at_once(server)
        assert eventually(lambda: all(c["verified_at"] for c in listed(server)))
        assert all(c["damage"] is None for c in listed(server))
        assert "damaged" not in server.log()


def test_a_new_checkpoint_is_left_alone_for_ten_minutes_and_a_damaged_one_is_read_every_hour(place, tmp_path):
    clock = tmp_path / "ahead"
    clock.write_text("0")
    with LiveServer(place, clock=clock, scrub_every="7d") as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")

        def move(seconds):
            clock.write_text(str(seconds))
            look_at_once(server)

        move(590)
        server.save("runs/a", b"later", name="y.pt")
        assert get(server, saved)["verified_at"] is None
        move(650)
        assert eventually(lambda: get(server, saved)["verified_at"])
        assert listed(server)[1]["verified_at"] is None, "the later one is new still"
        first = get(server, saved)["verified_at"]
        path = place / "runs/a/x.pt"
        put(path, b"rotte")
        move(6 * 86400)
        assert eventually(lambda: listed(server)[1]["verified_at"])
        assert get(server, saved)["verified_at"] == first
        move(8 * 86400)
        assert damaged(server, saved)
        put(path, b"bytes")
        move(8 * 86400 + 3700)
        assert intact(server, saved)
