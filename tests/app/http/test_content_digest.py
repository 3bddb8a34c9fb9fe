"""Content digests: JSON that does not match its digest is refused without effect; every JSON response has one."""

import base64
import hashlib
import json
import re
import sqlite3
from contextlib import closing

import pytest

from app.core import digests
from tests.app.api.refusals.requests import refusal
from tests.support.live import PROJECT

JSON = {"Content-Type": "application/json"}
ALTERED = (400, "body_altered")
TAKES_JSON = [
    (method.upper(), re.sub(r"{[^}]*}", "some", path))
    for path, operations in json.loads((PROJECT / "openapi.json").read_text())["paths"].items()
    for method, operation in operations.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
]


def sha256(body, name="sha-256"):
    return f"{name}=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def ask(server, method, path, body, *declared, kind="application/json"):
    fields = [("Content-Type", kind), *(("Content-Digest", field) for field in declared)]
    return server.http.request(method, path, content=body, headers=fields)


def policy(server, directory):
    return server.http.get(f"/v1/directories/{directory}").json()["policy"]


def test_the_routes_with_json_bodies_are_known():
    assert {("POST", "/v1/uploads"), ("POST", "/v1/uploads/some/commit"), ("POST", "/v1/prune")} <= set(TAKES_JSON)
    assert len(TAKES_JSON) >= 5


@pytest.mark.parametrize(("method", "path"), TAKES_JSON)
def test_every_route_with_a_json_body_refuses_one_that_was_altered(server, method, path):
    assert refusal(ask(server, method, path, b"{}", sha256(b"{ }"))) == ALTERED
    assert ask(server, method, path, b"{}", sha256(b"{}")).status_code != 400


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param([], id="none"),
        pytest.param(["{}"], id="the right one"),
        pytest.param(["{};by=me"], id="with a parameter"),
        pytest.param(["unixsum=:YWJj:, {}"], id="after an unknown one"),
        pytest.param(["md5=:YWJj:", "{}"], id="in two fields"),
        pytest.param(["unixsum=:YWJj:"], id="only an unknown one"),
    ],
)
def test_a_body_that_is_what_was_declared_is_taken(server, directory, declared):
    body = b'{"max_checkpoints": 2}'
    fields = [field.replace("{}", sha256(body)) for field in declared]
    assert ask(server, "PUT", f"/v1/directories/{directory}", body, *fields).status_code == 200
    assert policy(server, directory)["max_checkpoints"] == 2


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param([sha256(b"another")], id="another body's"),
        pytest.param(["unixsum=:YWJj:, " + sha256(b"another")], id="after an unknown one"),
        pytest.param([sha256(b'{"max_checkpoints": 2}'), sha256(b"another")], id="in the second of two fields"),
        pytest.param(["sha-256=:YWJj:"], id="too short"),
        pytest.param(["sha-256=::"], id="empty"),
        pytest.param(["sha-256=:****:"], id="no base64"),
        pytest.param([sha256(b'{"max_checkpoints": 2}').replace(":", "")], id="no bytes"),
        pytest.param(["sha-256"], id="no value"),
        pytest.param(["garbled!"], id="no field"),
        pytest.param([""], id="nothing"),
    ],
)
def test_a_body_that_is_not_what_was_declared_changes_nothing(server, directory, declared):
    server.http.put(f"/v1/directories/{directory}", json={"max_checkpoints": 1}).raise_for_status()
    answer = ask(server, "PUT", f"/v1/directories/{directory}", b'{"max_checkpoints": 2}', *declared)
    assert refusal(answer) == ALTERED
    assert policy(server, directory)["max_checkpoints"] == 1


def test_an_altered_reservation_leaves_no_upload(own_server):
    body = {"directory": "runs/a", "name": "a.pt", "metric": 0.25, "files": [{"size_bytes": 3}]}
    text = json.dumps(body).encode()
    altered = text.replace(b"0.25", b"0.35")
    assert refusal(ask(own_server, "POST", "/v1/uploads", altered, sha256(text))) == ALTERED
    assert own_server.incoming() == []
    assert ask(own_server, "POST", "/v1/uploads", text, sha256(text)).status_code == 201


def test_a_body_that_became_invalid_is_called_altered_rather_than_invalid(server, directory):
    sent = b'{"max_checkpoints": 2}'
    for came in (b'{"max_checkpoints": 2]', b'{"max_checkpoimts": 2}', b"\xff" + sent[1:]):
        assert refusal(ask(server, "PUT", f"/v1/directories/{directory}", came, sha256(sent))) == ALTERED


def test_a_large_body_in_pieces_is_verified_to_its_end(server, directory):
    text = json.dumps({"directory": directory, "writer": "w", "files": [{"size_bytes": 3}]}) + " " * 3_000_000
    sent = text.encode()
    pieces = [sent[:1_000_000], sent[1_000_000:-1], b"\n"]
    answer = server.http.post("/v1/uploads", content=iter(pieces), headers={**JSON, "Content-Digest": sha256(sent)})
    assert refusal(answer) == ALTERED
    assert ask(server, "POST", "/v1/uploads", sent, sha256(sent)).status_code == 201


def test_a_body_beyond_the_limit_is_too_large_with_a_digest_as_without(make_server):
    live = make_server(max_json_bytes="1000")
    whole = b" " * 1200
    for body in (whole, iter([whole[:600], whole[600:]])):
        answer = live.http.post("/v1/prune", content=body, headers={**JSON, "Content-Digest": sha256(whole)})
        assert refusal(answer) == (413, "too_large")
        assert answer.headers["content-digest"] == sha256(answer.content)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/v1/info", 200, id="one thing"),
        pytest.param("GET", "/v1/directories", 200, id="a list"),
        pytest.param("GET", "/v1/checkpoints/latest?directory={}", 200, id="a checkpoint"),
        pytest.param("GET", "/v1/checkpoints/latest?directory=runs/nothing", 404, id="not there"),
        pytest.param("GET", "/v1/nothing", 404, id="no route"),
        pytest.param("PATCH", "/v1/info", 405, id="no method"),
        pytest.param("GET", "/v1/directories?unknown=1", 422, id="not valid"),
        pytest.param("POST", "/v1/prune", 422, id="no body"),
    ],
)
def test_every_json_response_has_a_digest(server, directory, method, path, status):
    server.save(directory, epoch=1)
    answer = server.http.request(method, path.format(directory))
    assert answer.status_code == status
    assert answer.headers["content-digest"] == sha256(answer.content)


def test_a_refusal_before_any_route_has_a_digest(server, make_server):
    foreign = server.http.get("/v1/info", headers={"Origin": "http://elsewhere.example"})
    assert refusal(foreign) == (403, "cross_site")
    anonymous = make_server(admin_token="secret-0123456789").http.get("/v1/info")
    assert refusal(anonymous) == (401, "unauthorized")
    for answer in (foreign, anonymous):
        assert answer.headers["content-digest"] == sha256(answer.content)


def test_an_internal_error_has_a_digest(own_server):
    with closing(sqlite3.connect(own_server.root / ".holdfast" / "catalog.db")) as catalog:
        catalog.execute("ALTER TABLE checkpoints RENAME TO gone")
    answer = own_server.http.get("/v1/checkpoints/some")
    assert refusal(answer) == (500, "internal")
    assert answer.headers["content-digest"] == sha256(answer.content)


def test_what_is_not_json_or_has_no_body_has_none(server, directory):
    saved = server.save(directory, bytes(3_000_000), epoch=1)
    path = f"/v1/checkpoints/{saved['id']}/content"
    content = server.http.get(path)
    assert content.content == bytes(3_000_000)
    part = server.http.get(path, headers={"Range": "bytes=0-99"})
    assert len(part.content) == 100
    unchanged = server.http.get(path, headers={"If-None-Match": content.headers["etag"]})
    assert unchanged.status_code == 304
    head = server.http.head("/v1/checkpoints/nothing/content")
    assert head.status_code == 404
    events = server.http.get(
        "/v1/events", params={"follow": False, "prefix": directory}, headers={"Last-Event-ID": "0"}
    )
    assert "checkpoint.saved" in events.text
    deleted = server.http.delete(f"/v1/checkpoints/{saved['id']}")
    for answer in (content, part, unchanged, head, events):
        assert "content-digest" not in answer.headers
    assert ("content-digest" in deleted.headers) == bool(deleted.content)


def test_following_events_come_at_once(server, directory):
    with server.http.stream("GET", "/v1/events", params={"prefix": directory}) as answer:
        assert answer.status_code == 200
        assert "content-digest" not in answer.headers
        lines = answer.iter_lines()
        server.save(directory, epoch=1)
        assert next(line for line in lines if line.startswith("event: ")) == "event: checkpoint.saved"


def test_a_digest_is_written_as_the_rfc_has_it():
    body = b'{"hello": "world"}\n'  # RFC 9530, appendix B.1
    assert digests.of_message(body) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    declared = digests.DeclaredDigests.of(lambda name: [digests.of_message(body)] if name == "Content-Digest" else [])
    declared.update(body)
    assert declared.is_true()
