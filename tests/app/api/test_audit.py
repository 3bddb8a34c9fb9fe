"""The audit log: written together with each change, and readable by admins only."""

import base64
import json
import sqlite3
from contextlib import closing

import pytest

from app.__main__ import main
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(
        tmp_path_factory.mktemp("guarded") / "root", undo_window="1h", access_log="true", upload_lease_s="3600"
    ) as live:
        live.token = mint(live.root, "admin")
        live.http.headers.update(bearer(live.token))
        yield live


def lines(server, **query):
    answer = server.http.get("/v1/audit", params={"page_size": 1000, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["lines"]


def save(server, directory, **query):
    return server.save(directory, **query)["id"]


CHANGES = {
    "a save": (lambda s, d, i: save(s, d, name="b.pt"), ["checkpoint.saved"]),
    "a replacement": (
        lambda s, d, i: s.save(d, b"other", name="a.pt"),
        ["checkpoint.removed", "checkpoint.saved"],
    ),
    "the same content": (lambda s, d, i: save(s, d, name="a.pt"), ["checkpoint.saved"]),
    "a pruning save": (
        lambda s, d, i: save(s, d, name="b.pt", max_checkpoints=1),
        ["directory.policy_changed", "checkpoint.saved", "checkpoint.removed"],
    ),
    "a pin": (lambda s, d, i: s.http.patch(f"/v1/checkpoints/{i}", json={"pinned": True}), ["checkpoint.changed"]),
    "a deletion": (lambda s, d, i: s.http.delete(f"/v1/checkpoints/{i}"), ["checkpoint.removed"]),
    "a clearing": (lambda s, d, i: s.http.delete(f"/v1/directories/{d}"), ["checkpoint.removed"]),
    "a policy": (
        lambda s, d, i: s.http.put(f"/v1/directories/{d}", json={"max_checkpoints": 5}),
        ["directory.policy_changed"],
    ),
    "a link": (lambda s, d, i: s.http.post(f"/v1/checkpoints/{i}/links"), ["link.made"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_recorded_with_its_author(guarded, directory, change):
    checkpoint_id = save(guarded, directory, name="a.pt")
    before = lines(guarded)[0]["id"]
    act, expected = CHANGES[change]
    guarded.http.headers["X-Request-Id"] = f"request-{before}"
    try:
        act(guarded, directory, checkpoint_id)
    finally:
        del guarded.http.headers["X-Request-Id"]
    found = [line for line in lines(guarded) if line["id"] > before]
    assert sorted(line["action"] for line in found) == sorted(expected)
    for line in found:
        assert line["token_id"] == guarded.token[5:15]
        assert line["peer"] == "127.0.0.1"
        assert line["request_id"] == f"request-{before}"
        assert line["directory"] == directory


def test_a_restoration_and_an_upload_given_up_are_written_down(guarded, directory):
    checkpoint_id = save(guarded, directory)
    guarded.http.delete(f"/v1/checkpoints/{checkpoint_id}").raise_for_status()
    guarded.http.post(f"/v1/checkpoints/{checkpoint_id}/restore").raise_for_status()
    upload = guarded.http.post("/v1/uploads", json={"directory": directory, "files": [{"size_bytes": 5}]}).json()
    guarded.http.delete(f"/v1/uploads/{upload['id']}").raise_for_status()
    found = [line["action"] for line in lines(guarded, prefix=directory)]
    assert found[:3] == ["upload.abandoned", "checkpoint.restored", "checkpoint.removed"]


def test_what_changes_nothing_leaves_no_line(guarded, directory):
    checkpoint_id = save(guarded, directory, save_id="save-0001", name="a.pt")
    before = lines(guarded)[0]["id"]
    repeat = guarded.http.post(f"/v1/checkpoints?directory={directory}&name=a.pt&save_id=save-0001", content=b"bytes")
    assert repeat.status_code == 200
    assert guarded.http.post("/v1/prune", json={"directory": directory, "dry_run": True}).status_code == 200
    assert guarded.http.patch(f"/v1/checkpoints/{checkpoint_id}", json={"pinned": "maybe"}).status_code == 422
    assert guarded.http.get(f"/v1/checkpoints/{checkpoint_id}/content").status_code == 200
    assert lines(guarded)[0]["id"] == before


def test_the_line_is_in_the_transaction_of_the_change(make_server):
    live = make_server()
    live.save("runs/a", name="a.pt")
    database = sqlite3.connect(live.root / ".holdfast" / "catalog.db")
    database.execute("CREATE TRIGGER no_line BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no line'); END")
    database.commit()
    assert live.http.put("/v1/directories/runs/a", json={"max_checkpoints": 5}).status_code == 500
    assert live.http.get("/v1/directories/runs/a").json()["policy"]["max_checkpoints"] is None
    database.execute("DROP TRIGGER no_line")
    database.commit()
    database.close()
    assert live.http.put("/v1/directories/runs/a", json={"max_checkpoints": 5}).status_code == 200


def test_pages_and_filters(guarded, directory):
    other = mint(guarded.root, "admin")
    for number in range(5):
        save(guarded, directory, name=f"{number}.pt")
    guarded.http.delete(f"/v1/directories/{directory}", headers=bearer(other)).raise_for_status()
    everything = [line["id"] for line in lines(guarded, prefix=directory)]
    paged, token = [], None
    while True:
        query = {"prefix": directory, "page_size": 3, **({"page_token": token} if token else {})}
        answer = guarded.http.get("/v1/audit", params=query).json()
        paged += [line["id"] for line in answer["lines"]]
        if (token := answer["next_page_token"]) is None:
            break
    assert paged == everything == sorted(everything, reverse=True)
    assert {line["action"] for line in lines(guarded, token_id=other[5:15])} == {"checkpoint.removed"}
    assert len(lines(guarded, token_id=other[5:15])) == 5


@pytest.mark.parametrize("key", ["abc", 1e300, ""], ids=repr)
def test_a_forged_page_token_is_refused(guarded, key):
    page = base64.urlsafe_b64encode(json.dumps([["audit", "", None], [key]]).encode()).decode()
    answer = guarded.http.get("/v1/audit", params={"page_token": page})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_making_a_token_is_written_down(guarded):
    token = mint(guarded.root, "read", prefix="team/a")
    line = lines(guarded)[0]
    assert (line["action"], line["directory"]) == ("token.created", None)
    assert line["data"] == {"id": token[5:15], "scopes": ["read"], "prefix": "team/a", "note": ""}


def test_a_save_before_a_crash_is_recorded_for_its_token(tmp_path):
    root = tmp_path / "root"
    with LiveServer(root) as live:
        token = mint(root, "admin")
        live.http.headers.update(bearer(token))
        database = sqlite3.connect(root / ".holdfast" / "catalog.db")
        database.execute("CREATE TRIGGER no_row BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'no row'); END")
        database.commit()
        assert live.http.post("/v1/checkpoints?directory=runs/a&name=a.pt", content=b"bytes").status_code == 500
        live.kill()
        database.execute("DROP TRIGGER no_row")
        database.commit()
        database.close()
        live.start()
        assert live.names("runs/a") == ["a.pt"]
        (line,) = [line for line in lines(live) if line["action"] == "checkpoint.saved"]
        assert (line["token_id"], line["request_id"]) == (token[5:15], "")


def test_a_commit_finished_by_a_later_save_is_recorded_for_its_own_token(make_server):
    live = make_server()
    first, second = mint(live.root, "admin"), mint(live.root, "write")
    with closing(sqlite3.connect(live.root / ".holdfast" / "catalog.db")) as database:
        database.execute("CREATE TRIGGER no_row BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'no row'); END")
        database.commit()
        query = {"directory": "runs/a", "name": "a.pt"}
        assert live.http.post("/v1/checkpoints", params=query, content=b"a", headers=bearer(first)).status_code == 500
        database.execute("DROP TRIGGER no_row")
        database.commit()
    query["name"] = "b.pt"
    assert live.http.post("/v1/checkpoints", params=query, content=b"b", headers=bearer(second)).status_code == 201
    live.http.headers.update(bearer(first))
    saved = {line["data"]["name"]: line["token_id"] for line in lines(live) if line["action"] == "checkpoint.saved"}
    assert saved == {"a.pt": first[5:15], "b.pt": second[5:15]}


@pytest.mark.parametrize(
    ("forwarded", "peer"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("198.51.100.1, 203.0.113.5", "203.0.113.5"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::2% token=admin", "::2"),
        ("evil token=admin peer=127.0.0.1", ""),
    ],
)
def test_the_peer_is_always_an_address_or_empty(behind_proxy, directory, forwarded, peer):
    saved = behind_proxy.http.post(
        "/v1/checkpoints", params={"directory": directory}, content=b"bytes", headers={"X-Forwarded-For": forwarded}
    )
    assert saved.status_code == 201
    (line,) = lines(behind_proxy, prefix=directory)
    assert line["peer"] == peer


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("behind") / "root", trusted_proxies="127.0.0.1") as live:
        live.http.headers.update(bearer(mint(live.root, "admin")))
        yield live


def test_what_an_operator_takes_in_and_repairs_is_written_down(tmp_path, capsys):
    root = tmp_path / "root"
    with LiveServer(root) as live:
        live.save("runs/a", name="a.pt")
        assert live.stop() == 0
        (root / "runs/a/a.pt").unlink()
        (root / "runs/a/.holdfast/a.pt.json").unlink()
        (root / "runs/b").mkdir()
        (root / "runs/b/b.pt").write_bytes(b"\x80\x02bytes")
        assert main(["adopt", str(root / "runs/b"), "--root", str(root)]) == 0
        assert main(["fsck", "--root", str(root)]) == 1
        live.start()
        found = [(line["action"], line["token_id"]) for line in lines(live)]
        assert found == [
            ("checkpoint.removed", "command"),
            ("checkpoint.saved", "command"),
            ("checkpoint.saved", "anonymous"),
        ]


def test_an_upload_that_a_save_begins_afresh_is_written_down(guarded, directory):
    save_ = {"directory": directory, "name": "a.pt", "save_id": "job-17-epoch-2"}
    upload = guarded.http.post("/v1/uploads", json={**save_, "files": [{"size_bytes": 5}]}).json()
    guarded.save(**save_)
    found = [(line["action"], line["data"].get("id")) for line in lines(guarded, prefix=directory)]
    assert found == [("checkpoint.saved", None), ("upload.abandoned", upload["id"])]


def test_only_the_servers_user_can_read_the_catalog(guarded):
    for path in (guarded.root / ".holdfast").glob("catalog.db*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_catalog_left_by_a_crashed_older_server_becomes_private(tmp_path):
    with LiveServer(tmp_path / "root") as live:
        live.save("runs/a")
        live.kill()
        left = [live.root / ".holdfast" / f"catalog.db{which}" for which in ("", "-wal", "-shm")]
        for path in left:
            path.chmod(0o644)
        live.start()
        mint(live.root, "admin")
        assert [path.name for path in left if path.stat().st_mode & 0o077] == []


def test_the_lines_are_json_as_described(guarded):
    described = json.loads(guarded.http.get("/openapi.json").text)["components"]["schemas"]["AuditLineOut"]
    assert set(described["properties"]) == set(lines(guarded)[0])
