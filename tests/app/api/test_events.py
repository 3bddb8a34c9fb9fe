"""The event stream, and the information about the server."""

import json
import queue
import shutil
import threading
from contextlib import closing, contextmanager

import httpx
import pytest

from app.bootstrap import open_root, utc_now
from app.service.state.events import backlog
from app.service.state.events.backlog import BacklogPage
from app.service.state.events.event_format import EventFormat
from app.settings import Settings
from tests.support.deadlines import DEADLINE_S


def parsed(lines):
    """Yield the events in the lines of a stream, each as soon as it is complete."""
    event = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        elif "data" in event:
            yield {"id": int(event["id"]), "event": event["event"], **json.loads(event["data"])}
            event = {}


def replay(server, after=0, **query):
    headers = {"Last-Event-ID": str(after)}
    answer = server.http.get("/v1/events", params={"follow": False, **query}, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(parsed(answer.text.splitlines()))


@contextmanager
def listening(server, **query):
    """Put the events of a live stream into a queue; None marks its end."""
    events = queue.Queue()
    client = httpx.Client(base_url=server.url, timeout=httpx.Timeout(30, read=30))
    opened = threading.Event()

    def listen():
        try:
            with client.stream("GET", "/v1/events", params=query) as answer:
                opened.set()
                for event in parsed(answer.iter_lines()):
                    events.put(event)
        except (httpx.HTTPError, httpx.StreamError):
            pass
        finally:
            events.put(None)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        assert opened.wait(DEADLINE_S)
        yield events
    finally:
        thread.join(DEADLINE_S)
        client.close()


def test_every_change_is_an_event_in_order(server, directory):
    first = server.save(directory, epoch=1, max_checkpoints=1)
    server.http.patch(f"/v1/checkpoints/{first['id']}", json={"pinned": False}).raise_for_status()
    second = server.save(directory, epoch=2)
    server.http.put(f"/v1/directories/{directory}", json={"mode": "max"}).raise_for_status()
    server.save(directory, b"other", epoch=2)
    events = replay(server, prefix=directory)
    assert [(event["event"], event["checkpoint_id"]) for event in events[:5]] == [
        ("checkpoint.saved", first["id"]),
        ("checkpoint.changed", first["id"]),
        ("checkpoint.saved", second["id"]),
        ("checkpoint.removed", first["id"]),
        ("directory.policy_changed", None),
    ]
    assert sorted((event["event"], event.get("because")) for event in events[5:]) == [
        ("checkpoint.removed", "replaced"),
        ("checkpoint.saved", None),
    ]
    assert all(event["directory"] == directory and event["type"] == event["event"] for event in events)
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))


def test_replay_begins_after_the_event_that_was_seen_last(server, directory):
    for epoch in range(4):
        server.save(directory, epoch=epoch)
    events = replay(server, prefix=directory)
    assert replay(server, after=events[1]["id"], prefix=directory) == events[2:]
    assert replay(server, after=events[-1]["id"], prefix=directory) == []


def test_without_a_last_event_it_begins_now(server, directory):
    server.save(directory)
    answer = server.http.get("/v1/events", params={"follow": False, "prefix": directory})
    assert list(parsed(answer.text.splitlines())) == []


def test_long_histories_are_replayed_whole(server, directory):
    saved = server.save(directory)
    for _ in range(250):
        server.http.patch(f"/v1/checkpoints/{saved['id']}", json={}).raise_for_status()
    assert len(replay(server, prefix=directory)) == 251


def test_a_prefix_filters_by_whole_components(server, directory):
    for name in (f"{directory}/a", f"{directory}/a/deep", f"{directory}/ab"):
        server.save(name)
    found = [event["directory"] for event in replay(server, prefix=f"{directory}/a")]
    assert found == [f"{directory}/a", f"{directory}/a/deep"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
def test_a_last_event_that_cannot_be_meant_is_refused(server, last):
    answer = server.http.get("/v1/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("is_followed", [True, False])
def test_an_event_that_never_was_is_refused(server, directory, is_followed):
    server.save(directory)
    newest = replay(server, prefix=directory)[-1]["id"]
    answer = server.http.get(
        "/v1/events", params={"follow": is_followed}, headers={"Last-Event-ID": str(newest + 1_000)}
    )
    assert (answer.status_code, answer.json()["code"]) == (410, "events_trimmed")
    assert answer.json()["last_trimmed_id"] >= newest


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "an older copy"])
def test_who_follows_a_catalog_that_is_rebuilt_is_told_so(own_server, tmp_path, is_lost):
    own_server.save("runs/a", epoch=1)
    own_server.stop()
    catalog, copy = own_server.root / ".holdfast/catalog.db", tmp_path / "copy.db"
    shutil.copy2(catalog, copy)
    own_server.start()
    for epoch in range(2, 5):
        own_server.save("runs/a", epoch=epoch)
    before = [event["id"] for event in replay(own_server)]
    own_server.stop()
    catalog.unlink() if is_lost else shutil.copy2(copy, catalog)
    own_server.start()
    for epoch in range(5, 12):
        own_server.save("runs/a", epoch=epoch)

    horizon = set()
    for seen in before:
        answer = own_server.http.get("/v1/events", headers={"Last-Event-ID": str(seen)})
        assert (answer.status_code, answer.json()["code"]) == (410, "events_trimmed")
        horizon.add(answer.json()["last_trimmed_id"])
    [last_id] = horizon
    assert last_id >= max(before)
    events = replay(own_server, after=last_id)
    assert [event["event"] for event in events] == ["catalog.rebuilt", *["checkpoint.saved"] * 7]
    assert events[0]["directory"] == ""
    assert [event["id"] for event in events] == list(range(last_id + 1, last_id + 9))
    assert replay(own_server, after=events[-2]["id"]) == events[-1:]


def test_a_stream_brings_events_while_it_is_open_and_ends_with_the_server(make_server):
    own_server = make_server(shutdown_timeout_s=str(10 * DEADLINE_S))
    with listening(own_server, prefix="runs") as events:
        for epoch in range(3):
            saved = own_server.save("runs/a", epoch=epoch)
            event = events.get(timeout=DEADLINE_S)
            assert (event["event"], event["checkpoint_id"]) == ("checkpoint.saved", saved["id"])
            own_server.save("other", epoch=epoch)
        assert own_server.stop() == 0, "it waits for no stream"
        assert events.get(timeout=DEADLINE_S) is None


def test_a_stream_that_begins_now_names_its_position(server, directory):
    server.save(directory, epoch=1)
    began = server.http.get("/v1/events", params={"follow": False})
    (line,) = filter(None, began.text.splitlines())
    name, _, last = line.partition(": ")
    assert name == "id"
    server.save(directory, epoch=2)
    found = replay(server, after=int(last), prefix=directory)
    assert [event["name"] for event in found] == ["checkpoint_epoch_0002.pt"]


def test_many_streams_all_hear_of_it_and_end(own_server):
    with listening(own_server) as first, listening(own_server) as second, listening(own_server, prefix="x") as third:
        own_server.save("runs/a")
        assert first.get(timeout=DEADLINE_S) == second.get(timeout=DEADLINE_S)
        assert own_server.stop() == 0
        assert [events.get(timeout=DEADLINE_S) for events in (first, second, third)] == [None] * 3


def test_an_idle_stream_does_not_keep_the_server_from_stopping(make_server):
    own_server = make_server(shutdown_timeout_s=str(10 * DEADLINE_S))
    with listening(own_server):
        assert own_server.stop() == 0


def test_event_ids_continue_after_a_restart(own_server):
    own_server.save("runs/a", epoch=1)
    before = replay(own_server)
    own_server.restart()
    own_server.save("runs/a", epoch=2)
    after = replay(own_server)
    assert after[:-1] == before
    assert after[-1]["id"] > before[-1]["id"]


def test_the_server_describes_itself(server):
    info = server.http.get("/v1/info").json()
    assert (info["name"], info["api"], info["root"]) == ("Holdfast", "v1", str(server.root.resolve()))
    assert 0 < info["chunk_max_bytes"] <= info["range_max_bytes"]
    assert server.http.get("/health/live").json() == {"status": "live"}
    assert server.http.get("/health/ready").json() == {"status": "ready"}


def test_the_figures_are_right(own_server):
    own_server.save("runs/a", b"12345", epoch=1, max_checkpoints=1)
    own_server.save("runs/a", b"123", epoch=2)
    own_server.save("runs/b", b"1", epoch=2)
    own_server.http.post("/v1/uploads", json={"directory": "runs/c", "files": [{"size_bytes": 1}]}).raise_for_status()
    answer = own_server.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert {
        "holdfast_checkpoints 2.0",
        "holdfast_checkpoint_bytes 4.0",
        "holdfast_uploads 1.0",
        "holdfast_commits_total 3.0",
        'holdfast_removed_checkpoints_total{because="pruned"} 1.0',
    } <= set(lines)


def test_a_root_that_cannot_be_written_is_not_ready(own_server):
    own = own_server.root / ".holdfast" / ".probe.new"
    own.mkdir()
    answer = own_server.http.get("/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    own.rmdir()
    assert own_server.http.get("/health/ready").status_code == 200


def test_a_page_of_a_backlog_ends_beyond_the_events_of_other_directories(tmp_path, monkeypatch):
    monkeypatch.setattr(backlog, "PAGE", 5)
    with closing(open_root(Settings(root=tmp_path / "root"))) as service:
        with service.context.catalog.writing() as session:
            for number in range(10):
                session.events.add("checkpoint.saved", at=utc_now(), directory="a" if number == 3 else "b")
        page = service.event_feed.backlog.read_page
        ids = EventFormat(encode=lambda event: b"%d " % event.id, join=b"".join, ping=b"")
        none = (0, 0, 0)
        assert page(ids, "a", 0) == BacklogPage(b"4 ", after=10, seen=10, is_last=True, validity=none, is_gone=False)
        assert page(ids, "b", 0) == BacklogPage(
            b"1 2 3 5 6 ", after=6, seen=10, is_last=False, validity=none, is_gone=False
        )
        assert page(ids, "", 4, until=7) == BacklogPage(
            b"5 6 7 ", after=7, seen=10, is_last=True, validity=none, is_gone=False
        )
        assert page(ids, "a", 10) == BacklogPage(b"", after=10, seen=10, is_last=True, validity=none, is_gone=False)
        assert page(ids, "a", 99).after == 99, "a position beyond the last event stays"
