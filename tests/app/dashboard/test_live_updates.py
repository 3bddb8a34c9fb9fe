"""Live updates: the event stream that tells open pages to refresh."""

from tests.app.dashboard.signed_in import Browser, save
from tests.support.deadlines import DEADLINE_S
from tests.support.tokens import revoke


def events(browser, address, count):
    """Yield the types of a stream's events."""
    with browser.stream("GET", address, timeout=DEADLINE_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


def test_open_pages_are_notified_of_changes_within_their_prefix(live, admin, name):
    stream = events(admin, f"/live?prefix={name}", 2)
    assert next(stream) == "open"
    save(live, f"{name}x")
    save(live, name)
    assert next(stream) == "changed"
    stream.close()


def test_open_pages_are_notified_while_uploads_progress_within_their_prefix(live, admin, name):
    body = {"directory": name, "name": "u.pt", "files": [{"size_bytes": 5}]}
    wanted = live.http.post("/v1/uploads", json=body, headers=live.admin).json()["missing"][0]
    streams = [events(admin, f"/live?prefix={prefix}", 2) for prefix in (name, f"{name}x")]
    assert [next(stream) for stream in streams] == ["open", "open"]
    live.http.put(wanted["url"], content=b"bytes", headers=live.admin).raise_for_status()
    assert next(streams[0]) == "moving"
    put = live.http.put(f"/v1/directories/{name}x", json={"max_checkpoints": 1}, headers=live.admin)
    assert put.status_code == 200
    assert next(streams[1]) == "changed"  # and no other event before it
    for stream in streams:
        stream.close()


def test_a_stream_ends_with_its_session(live):
    with Browser(live, "read") as browser:
        stream = events(browser, "/live", 1)
        assert next(stream) == "open"
        assert revoke(live.root, browser.token[5:15])
        save(live, "runs/after-revocation")
        assert "changed" not in list(stream)[1:]
        assert browser.get("/live").status_code in {303, 401}


def test_a_prefix_out_of_reach_is_not_found(live):
    with Browser(live, "read", prefix="team/a") as browser:
        assert browser.get("/live?prefix=team/ab").status_code == 404
