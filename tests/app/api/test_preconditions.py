"""Preconditions by digest: of writers that expect the same checkpoint under a name, one replaces it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import httpx
import pytest

from app.core import digests
from tests.data.delta_states import refusal
from tests.support.deadlines import DEADLINE_S
from tests.support.tokens import bearer, mint

NAME = "a.pt"
DATE = "Sat, 29 Oct 1994 19:43:31 GMT"


def single(server, directory, data, headers, save_id=None, meanwhile=lambda: None):
    """Save in one request; ``meanwhile`` runs while the body is on its way."""

    def body():
        yield data[:1]
        meanwhile()
        yield data[1:]

    query = {"directory": directory, "name": NAME, "save_id": save_id or token_hex(8)}
    url = f"{server.url}/v1/checkpoints"
    return httpx.post(url, params=query, content=body(), headers=headers, timeout=DEADLINE_S)


def small(server, directory, data, headers, save_id=None, meanwhile=lambda: None):
    """Save the facts and the bytes in one request; ``meanwhile`` runs before it."""
    meanwhile()
    facts = {"directory": directory, "name": NAME, "save_id": save_id or token_hex(8)}
    line = json.dumps({**facts, "files": [{"size_bytes": len(data)}]}).encode()
    headers = {"Content-Type": "application/vnd.holdfast.save", **headers}
    return httpx.post(f"{server.url}/v1/saves", content=line + b"\n" + data, headers=headers, timeout=DEADLINE_S)


def reserve(server, directory, contents, headers, save_id=None):
    files = [{"path": path, "size_bytes": len(data)} for path, data in contents.items()]
    body = {"directory": directory, "name": NAME, "save_id": save_id or token_hex(8), "files": files}
    return httpx.post(f"{server.url}/v1/uploads", json=body, headers=headers, timeout=DEADLINE_S)


def send(server, upload, contents):
    for wanted in upload["missing"]:
        data = contents[wanted["file"]][wanted["offset"] :][: wanted["length"]]
        httpx.put(server.url + wanted["url"], content=data, timeout=DEADLINE_S).raise_for_status()


def commit(server, upload, headers=None):
    return httpx.post(f"{server.url}/v1/uploads/{upload['id']}/commit", headers=headers, timeout=DEADLINE_S)


def uploaded(server, directory, contents, at_reservation, at_commit, save_id=None, meanwhile=lambda: None):
    """Reserve, send and commit; ``meanwhile`` runs before the commit."""
    begun = reserve(server, directory, contents, at_reservation, save_id)
    if begun.is_error:
        return begun
    send(server, begun.json(), contents)
    meanwhile()
    return commit(server, begun.json(), at_commit)


def reserved(server, directory, data, headers, save_id=None, meanwhile=lambda: None):
    return uploaded(server, directory, {NAME: data}, headers, {}, save_id, meanwhile)


def committed(server, directory, data, headers, save_id=None, meanwhile=lambda: None):
    return uploaded(server, directory, {NAME: data}, {}, headers, save_id, meanwhile)


def folder(server, directory, data, headers, save_id=None, meanwhile=lambda: None):
    contents = {"weights/model.bin": data * 1000, "config.json": data}
    return uploaded(server, directory, contents, headers, {}, save_id, meanwhile)


ROUTES = pytest.mark.parametrize("save", [single, small, reserved, committed, folder], ids=lambda save: save.__name__)


def tag(checkpoint):
    return f'"{checkpoint["digest"]}"'


def live(server, directory):
    return server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]


def bytes_of(server, checkpoint):
    paths = [file["path"] for file in checkpoint["files"]]
    return {path: server.http.get(f"/v1/checkpoints/{checkpoint['id']}/files/{path}").content for path in paths}


@ROUTES
@pytest.mark.parametrize(
    ("name", "value", "if_present", "if_absent"),
    [
        pytest.param("If-Match", "{tag}", 201, 412, id="this checkpoint"),
        pytest.param("If-Match", '"other", {tag}', 201, 412, id="this one or another"),
        pytest.param("If-Match", "*", 201, 412, id="some checkpoint"),
        pytest.param("If-Match", '"other"', 412, 412, id="another one"),
        pytest.param("If-Match", "W/{tag}", 412, 412, id="this one, weakly"),
        pytest.param("If-None-Match", "*", 412, 201, id="no checkpoint"),
        pytest.param("If-None-Match", "{tag}", 412, 201, id="not this one"),
        pytest.param("If-None-Match", 'W/{tag}, "other"', 412, 201, id="not this one, weakly, nor another"),
        pytest.param("If-None-Match", '"other"', 201, 201, id="not another one"),
        pytest.param("If-Match", "{digest}", 422, 422, id="a digest without quotes"),
        pytest.param("If-None-Match", '*, "other"', 422, 422, id="malformed"),
        pytest.param("If-Unmodified-Since", DATE, 422, 422, id="a date"),
    ],
)
def test_a_save_replaces_what_it_expects(server, directory, save, name, value, if_present, if_absent):
    first = server.save(directory, b"first", name=NAME)
    headers = {name: value.format(tag=tag(first), digest=first["digest"])}
    answer = save(server, directory, b"second", headers)
    assert answer.status_code == if_present, answer.text
    assert [found["id"] for found in live(server, directory)] == [
        answer.json()["id"] if if_present == 201 else first["id"]
    ]
    assert save(server, f"{directory}/new", b"second", headers).status_code == if_absent


@ROUTES
def test_the_refusal_names_what_is_there(server, directory, save):
    answer = save(server, directory, b"bytes", {"If-Match": "*"})
    assert refusal(answer) == (412, "precondition_failed")
    assert {name: answer.json()[name] for name in ("name", "checkpoint_id", "digest")} == {
        "name": NAME,
        "checkpoint_id": None,
        "digest": None,
    }
    there = server.save(directory, b"first", name=NAME)
    answer = save(server, directory, b"bytes", {"If-Match": '"other"'})
    assert refusal(answer) == (412, "precondition_failed")
    assert [answer.json()[name] for name in ("name", "checkpoint_id", "digest")] == [
        NAME,
        there["id"],
        there["digest"],
    ]
    assert save(server, directory, b"bytes", {"If-Match": f'"{answer.json()["digest"]}"'}).status_code == 201


@pytest.mark.parametrize("save", [single, small, reserved])
def test_a_refused_save_makes_no_directory(server, directory, save):
    assert save(server, directory, b"bytes", {"If-Match": "*"}).status_code == 412
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404
    assert directory not in [server.http.get(f"/v1/uploads/{name}").json()["directory"] for name in server.incoming()]


@ROUTES
def test_the_precondition_is_evaluated_again_at_the_commit(server, directory, save):
    first = server.save(directory, b"first", name=NAME)
    other = []

    def meanwhile():
        if not other:
            other.append(server.save(directory, b"other", name=NAME))

    answer = save(server, directory, b"second", {"If-Match": tag(first)}, meanwhile=meanwhile)
    assert refusal(answer) == (412, "precondition_failed")
    assert answer.json()["checkpoint_id"] == other[0]["id"]
    assert bytes_of(server, live(server, directory)[0]) == {NAME: b"other"}


@ROUTES
def test_a_removed_checkpoint_is_no_longer_there(server, directory, save):
    first = server.save(directory, b"first", name=NAME)
    server.http.delete(f"/v1/checkpoints/{first['id']}").raise_for_status()
    assert save(server, directory, b"second", {"If-Match": tag(first)}).status_code == 412
    assert save(server, directory, b"second", {"If-None-Match": "*"}).status_code == 201


@ROUTES
def test_the_repeat_of_a_committed_save_gives_its_checkpoint(server, directory, save):
    first = server.save(directory, b"first", name=NAME)
    headers, save_id = {"If-Match": tag(first)}, token_hex(8)
    made = save(server, directory, b"second", headers, save_id)
    assert made.status_code == 201, made.text
    for _ in range(2):
        again = save(server, directory, b"second", headers, save_id)
        assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
        server.save(directory, b"third", name=NAME)
    assert bytes_of(server, live(server, directory)[0]) == {NAME: b"third"}


@ROUTES
def test_the_same_content_again_keeps_checkpoint_and_tag(server, directory, save):
    first = save(server, directory, b"first", {"If-None-Match": "*"}).json()
    again = save(server, directory, b"first", {"If-Match": tag(first)})
    assert (again.status_code, again.json()["id"], tag(again.json())) == (201, first["id"], tag(first))
    assert again.json()["sequence"] > first["sequence"]


def test_the_tag_of_the_bytes_of_a_single_file_works_too(server, directory):
    first = server.save(directory, b"first", name=NAME)
    sent = server.http.head(f"/v1/checkpoints/{first['id']}/content").headers["etag"]
    assert sent != tag(first)
    assert single(server, directory, b"second", {"If-None-Match": sent}).status_code == 412
    assert single(server, directory, b"second", {"If-Match": sent}).status_code == 201


@ROUTES
@pytest.mark.parametrize("writers", [2, 4])
def test_of_writers_with_the_same_expectation_one_wins(server, directory, save, writers):
    """Each round replaces the winner of the last one; in the first, the name is free."""
    headers = {"If-None-Match": "*"}
    for number in range(5):
        begun = threading.Barrier(writers)

        def replace(writer, number=number, begun=begun, headers=headers):
            waited = []

            def meanwhile():
                if not waited:
                    waited.append(begun.wait(DEADLINE_S))

            data = f"round {number}, writer {writer}".encode()
            return data, save(server, directory, data, headers, meanwhile=meanwhile)

        with ThreadPoolExecutor(writers) as pool:
            answers = list(pool.map(replace, range(writers)))
        assert sorted(answer.status_code for _, answer in answers) == [201] + [412] * (writers - 1)
        data, winner = next((data, answer.json()) for data, answer in answers if answer.status_code == 201)
        assert [found["id"] for found in live(server, directory)] == [winner["id"]]
        assert {path: stored[: len(data)] for path, stored in bytes_of(server, winner).items()} == dict.fromkeys(
            (file["path"] for file in winner["files"]), data
        )
        assert {answer.json()["digest"] for _, answer in answers} == {winner["digest"]}
        headers = {"If-Match": tag(winner)}


@pytest.mark.parametrize("is_replaced", [True, False])
def test_the_precondition_of_a_reservation_outlasts_the_server(own_server, is_replaced):
    first = own_server.save("runs/a", b"first", name=NAME)
    upload = reserve(own_server, "runs/a", {NAME: b"second"}, {"If-Match": tag(first)}).json()
    own_server.restart()
    if is_replaced:
        own_server.save("runs/a", b"other", name=NAME)
    upload = own_server.http.get(f"/v1/uploads/{upload['id']}").json()
    send(own_server, upload, {NAME: b"second"})
    assert commit(own_server, upload).status_code == (412 if is_replaced else 201)


def test_a_repeated_reservation_keeps_the_precondition_or_brings_another(server, directory):
    first, save_id, contents = server.save(directory, b"first", name=NAME), token_hex(8), {NAME: b"second"}
    earlier = reserve(server, directory, {NAME: b"other"}, {}).json()  # else the upload would be superseded by it
    upload = reserve(server, directory, contents, {"If-Match": tag(first)}, save_id).json()
    send(server, upload, contents)
    send(server, earlier, {NAME: b"other"})
    other = commit(server, earlier).json()
    assert commit(server, upload).status_code == 412
    assert commit(server, upload, {"If-Match": tag(other)}).status_code == 412
    for headers in ({}, {"If-Match": tag(first)}):
        assert refusal(reserve(server, directory, contents, headers, save_id)) == (412, "precondition_failed")
    again = reserve(server, directory, contents, {"If-Match": tag(other)}, save_id)
    assert (again.status_code, again.json()["id"], again.json()["missing"]) == (200, upload["id"], [])
    assert commit(server, upload).status_code == 201


def test_a_refused_repeat_of_a_small_save_leaves_no_upload(server, directory):
    server.save(directory, b"first", name=NAME)
    chunks = [{"length": 6, "digest": digests.of_chunk(b"second")}]
    save_id, file = token_hex(8), {"path": NAME, "size_bytes": 6, "chunks": chunks}
    body = {"directory": directory, "name": NAME, "save_id": save_id, "files": [file]}
    upload = server.http.post("/v1/uploads", json=body).json()
    assert small(server, directory, b"second", {"If-Match": '"other"'}, save_id).status_code == 412
    assert server.http.get(f"/v1/uploads/{upload['id']}").status_code == 404


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        pytest.param("If-Match", "{tag}", 200, id="this checkpoint"),
        pytest.param("If-Match", "*", 200, id="a live one"),
        pytest.param("If-Match", '"other"', 412, id="another one"),
        pytest.param("If-Match", "W/{tag}", 412, id="this one, weakly"),
        pytest.param("If-None-Match", "*", 412, id="none"),
        pytest.param("If-None-Match", "{tag}", 412, id="not this one"),
        pytest.param("If-None-Match", '"other"', 200, id="not another one"),
        pytest.param("If-Match", "other", 422, id="malformed"),
        pytest.param("If-Unmodified-Since", DATE, 422, id="a date"),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_checkpoint_is_changed_or_deleted_as_expected(server, directory, method, name, value, status):
    saved = server.save(directory, b"first", name=NAME)
    url, headers = f"/v1/checkpoints/{saved['id']}", {name: value.format(tag=tag(saved))}
    body = {"tags": ["new"]} if method == "PATCH" else None
    answer = server.http.request(method, url, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    found = server.http.get(url).json()
    assert (found["tags"] == ["new"], found["removed_at"] is not None) == (
        (status, method) == (200, "PATCH"),
        (status, method) == (200, "DELETE"),
    )
    if status == 412:
        there = [answer.json()[member] for member in ("name", "checkpoint_id", "digest")]
        assert there == [NAME, saved["id"], saved["digest"]]
    gone = server.save(directory, b"second", name=f"{method}.pt")
    server.save(directory, b"third", name=f"{method}.pt")
    answer = server.http.request(method, f"/v1/checkpoints/{gone['id']}", json=body, headers={"If-Match": tag(gone)})
    assert refusal(answer) == (410, "checkpoint_removed")


def test_the_facts_of_a_checkpoint_have_no_tag(server, directory):
    """They change, and the digest does not: a tag of the JSON would call other facts the same."""
    saved = server.save(directory, b"first", name=NAME)
    url = f"/v1/checkpoints/{saved['id']}"
    assert "etag" not in server.http.get(url).headers
    changed = server.http.patch(url, json={"pinned": True}, headers={"If-Match": tag(saved)}).json()
    assert (changed["pinned"], changed["digest"]) == (True, saved["digest"])


@pytest.mark.parametrize(("scopes", "is_told"), [(["write"], False), (["read", "write"], True)], ids=["write", "both"])
def test_a_token_that_may_not_read_is_not_told_the_digest(own_server, scopes, is_told):
    saved = own_server.save("runs/a", b"one", name=NAME)
    headers = {**bearer(mint(own_server.root, *scopes)), "If-None-Match": "*"}
    query = {"directory": "runs/a", "name": NAME}
    answer = own_server.http.post("/v1/checkpoints", params=query, content=b"two", headers=headers)
    assert answer.status_code == 412
    assert answer.json()["digest"] == (saved["digest"] if is_told else None)
    assert (saved["digest"] in answer.text) == is_told
