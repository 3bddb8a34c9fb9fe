"""Facts with bytes: the answer about a small checkpoint holds its file, for a client that takes both at once."""

import json

import pytest

from app.core import digests
from app.core.models import SMALL_CHECKPOINT_BYTES

KIND = "application/vnd.holdfast.checkpoint"


def ask(server, path, *, accept=f"{KIND}, application/json", **query):
    return server.http.get(f"/v1/checkpoints/{path}", params=query, headers={"Accept": accept} if accept else {})


def parts_of(answer):
    """Return the facts, the contents and the bytes of an answer that holds all of them."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == KIND
    line, end, data = answer.content.partition(b"\n")
    assert answer.headers["holdfast-facts-digest"] == digests.of_message(line + end)
    found = json.loads(line)
    assert set(found) == {"checkpoint", "contents"}
    return found["checkpoint"], found["contents"], data


@pytest.mark.parametrize("size_bytes", [1, 1000, 256 * 1024 - 1, 256 * 1024, SMALL_CHECKPOINT_BYTES])
def test_facts_chunks_and_bytes_are_those_of_single_requests(server, directory, size_bytes):
    data = bytes(number % 251 for number in range(size_bytes))
    saved = server.save(directory, data, epoch=1, metric=0.5)
    for path, query in (("latest", {"directory": directory}), ("best", {"directory": directory}), (saved["id"], {})):
        facts, contents, received = parts_of(ask(server, path, **query))
        assert facts == ask(server, path, accept=None, **query).json()
        assert contents == server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").json()
        assert received == data


@pytest.mark.parametrize(
    ("accept", "has_bytes"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        (f"{KIND}2", False),
        (KIND, True),
        (f"application/json;q=0.5 , {KIND.upper()};q=1", True),
    ],
)
def test_bytes_come_only_if_the_client_names_them(server, directory, accept, has_bytes):
    server.save(directory, b"bytes")
    answer = ask(server, "latest", accept=accept, directory=directory)
    assert (answer.headers["content-type"] == KIND) == has_bytes


def test_a_large_checkpoint_and_one_of_several_files_come_without_bytes(server, directory):
    server.save(directory, bytes(SMALL_CHECKPOINT_BYTES + 1), epoch=1)
    assert ask(server, "latest", directory=directory).headers["content-type"] == "application/json"
    files = [{"path": path, "size_bytes": 1} for path in ("a", "b")]
    body = json.dumps({"directory": directory, "name": "folder", "files": files}).encode() + b"\n12"
    made = server.http.post("/v1/saves", content=body, headers={"Content-Type": "application/vnd.holdfast.save"})
    folder = made.raise_for_status().json()
    answer = ask(server, folder["id"])
    assert (answer.headers["content-type"], answer.json()["id"]) == ("application/json", folder["id"])


def test_what_cannot_be_read_comes_without_bytes(own_server):
    """A client that asks for the bytes alone is told why."""
    damaged = own_server.save("runs/a", b"bytes", name="damaged.pt")
    removed = own_server.save("runs/a", b"bytes", name="removed.pt")
    (own_server.root / "runs/a/damaged.pt").write_bytes(b"other")
    own_server.http.delete(f"/v1/checkpoints/{removed['id']}").raise_for_status()
    for saved, status, code in ((damaged, 409, "altered"), (removed, 410, "checkpoint_removed")):
        answer = ask(own_server, saved["id"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        refused = own_server.http.get(f"/v1/checkpoints/{saved['id']}/content")
        assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_refusals_are_those_of_the_facts(server, directory):
    answer = ask(server, "latest", directory=directory)
    assert (answer.status_code, answer.json()["code"]) == (404, "directory_not_found")
    server.save(directory, b"unranked")
    answer = ask(server, "best", directory=directory)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_best")
