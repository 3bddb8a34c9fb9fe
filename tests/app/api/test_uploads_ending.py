"""Ends of uploads: committed once, aborted, expired; or resumed after the server was killed."""

import random
import time

import pytest

from app.core import digests
from tests.support.live import eventually

DATA = random.Random(1).randbytes(10240)
HALVES = [{"length": len(half), "digest": digests.of_chunk(half)} for half in (DATA[:5120], DATA[5120:])]
FILE = {"size_bytes": len(DATA), "chunks": HALVES}


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def reserve(server, directory, **more):
    return server.http.post("/v1/uploads", json={"directory": directory, "files": [FILE], **more})


def begin(server, directory, **more):
    answer = reserve(server, directory, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def put(server, upload, start, stop):
    url = f"/v1/uploads/{upload['id']}/files/{upload['name']}"
    return server.http.put(url, params={"offset": start}, content=DATA[start:stop])


def commit(server, upload):
    return server.http.post(f"/v1/uploads/{upload['id']}/commit")


def missing(server, upload):
    found = server.http.get(f"/v1/uploads/{upload['id']}").json()["missing"]
    return [(wanted["offset"], wanted["length"]) for wanted in found]


def test_a_commit_may_be_repeated(server, directory):
    upload = begin(server, directory, epoch=1)
    put(server, upload, 0, len(DATA))
    first, again = commit(server, upload), commit(server, upload)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "repeated": True}
    assert server.names(directory, include_removed=True) == [upload["name"]]


def test_a_commit_may_be_repeated_after_its_checkpoint_was_deleted(server, directory):
    upload = begin(server, directory, epoch=1)
    put(server, upload, 0, len(DATA))
    first = commit(server, upload).json()
    server.http.delete(f"/v1/checkpoints/{upload['id']}").raise_for_status()
    again = commit(server, upload)
    assert again.status_code == 200
    assert again.json()["removed_because"] == "deleted"
    assert (again.json()["id"], again.json()["digest"]) == (first["id"], first["digest"])


def test_the_same_save_gets_the_same_upload(server, directory):
    upload = begin(server, directory, epoch=1, save_id="save-0001")
    put(server, upload, 0, 5120)
    again = reserve(server, directory, epoch=1, save_id="save-0001")
    assert (again.status_code, again.json()["id"]) == (200, upload["id"])
    assert [wanted["offset"] for wanted in again.json()["missing"]] == [5120]
    put(server, upload, 5120, len(DATA))
    commit(server, upload)
    after = reserve(server, directory, epoch=1, save_id="save-0001")
    assert (after.status_code, after.json()["state"], after.json()["missing"]) == (200, "committed", [])
    assert after.json()["checkpoint"]["id"] == upload["id"]
    assert server.http.get(f"/v1/uploads/{upload['id']}").json()["state"] == "committed"


@pytest.mark.parametrize("committed", [False, True], ids=["while it is open", "after its commit"])
@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"size_bytes": 5}, id="another size"),
        pytest.param({"size_bytes": len(DATA), "chunks": HALVES[::-1]}, id="other chunks"),
    ],
)
def test_other_content_under_the_save_id_is_refused(server, directory, committed, other):
    upload = begin(server, directory, epoch=1, save_id="save-0001")
    if committed:
        put(server, upload, 0, len(DATA))
        assert commit(server, upload).status_code == 201
    refused = reserve(server, directory, epoch=1, save_id="save-0001", files=[other])
    assert refusal(refused) == (422, "save_id_reused")


@pytest.mark.parametrize(
    ("before", "save", "code"),
    [
        pytest.param({"epoch": 1, "mode": "min"}, {"epoch": 2, "policy": {"mode": "max"}}, "mode_conflict", id="mode"),
        pytest.param({"epoch": 1, "pinned": True}, {"epoch": 1}, "pinned", id="pinned"),
        pytest.param(
            {"epoch": 1, "metric": 0.5},
            {"epoch": 2, "metric": 0.5, "only_if_improved": True},
            "not_improved",
            id="not improved",
        ),
    ],
)
def test_a_save_is_refused_before_any_bytes(server, directory, before, save, code):
    server.save(directory, **before)
    held = server.incoming()
    assert refusal(reserve(server, directory, **save)) == (409, code)
    assert server.incoming() == held


@pytest.mark.parametrize(
    ("meanwhile", "save", "code"),
    [
        pytest.param({"epoch": 9, "mode": "min"}, {"epoch": 1, "policy": {"mode": "max"}}, "mode_conflict", id="mode"),
        pytest.param({"epoch": 1, "pinned": True}, {"epoch": 1}, "pinned", id="pinned"),
        pytest.param({"epoch": 9, "metric": 0}, {"metric": 0.5, "only_if_improved": True}, "not_improved", id="better"),
    ],
)
def test_it_is_judged_again_at_commit(server, directory, meanwhile, save, code):
    upload = begin(server, directory, **save)
    put(server, upload, 0, len(DATA))
    winner = server.save(directory, b"meanwhile", **meanwhile)
    assert refusal(commit(server, upload)) == (409, code)
    assert server.names(directory) == [winner["name"]]
    assert server.http.delete(f"/v1/uploads/{upload['id']}").status_code == 204


def test_an_abandoned_upload_leaves_nothing(own_server):
    upload = begin(own_server, "runs/a")
    put(own_server, upload, 0, 5120)
    assert own_server.http.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert own_server.incoming() == []
    assert not (own_server.root / "runs").exists()
    for answer in (
        own_server.http.get(f"/v1/uploads/{upload['id']}"),
        own_server.http.delete(f"/v1/uploads/{upload['id']}"),
        put(own_server, upload, 0, 5120),
        commit(own_server, upload),
    ):
        assert refusal(answer) == (404, "upload_not_found")


def test_after_a_crash_only_bytes_on_disk_count(own_server):
    upload = begin(own_server, "runs/a", epoch=1)
    put(own_server, upload, 0, 5120)
    own_server.restart()
    assert missing(own_server, upload) == [(5120, 5120)]
    own_server.kill()
    file = own_server.root / ".holdfast" / "incoming" / upload["id"] / "files" / upload["name"]
    file.write_bytes(b"x" * 5120)
    own_server.start()
    assert missing(own_server, upload) == [(0, 10240)]
    put(own_server, upload, 5120, len(DATA))
    own_server.restart()
    assert missing(own_server, upload) == [(0, 5120)]
    put(own_server, upload, 0, 5120)
    assert commit(own_server, upload).status_code == 201
    assert (own_server.root / "runs/a" / upload["name"]).read_bytes() == DATA


def test_an_upload_of_sizes_only_is_sent_again_after_a_crash(own_server):
    upload = begin(own_server, "runs/a", epoch=1, files=[{"size_bytes": len(DATA)}])
    put(own_server, upload, 0, 5120)
    own_server.restart()
    assert missing(own_server, upload) == [(0, 10240)]
    put(own_server, upload, 0, len(DATA))
    assert commit(own_server, upload).status_code == 201


def test_an_upload_without_news_expires(make_server):
    live = make_server(upload_lease_s="1", janitor_every_s="0.2")
    upload = begin(live, "runs/a", save_id="save-0001")
    put(live, upload, 0, 5120)
    assert eventually(lambda: live.incoming() == [])
    assert refusal(put(live, upload, 0, 5120)) == (404, "upload_not_found")
    assert live.http.get("/v1/directories").json()["directories"] == []
    assert eventually(lambda: not (live.root / "runs").exists())
    assert begin(live, "runs/a", save_id="save-0001")["id"] != upload["id"]


def test_an_upload_with_news_does_not_expire(make_server):
    live = make_server(upload_lease_s="1.5", janitor_every_s="0.1")
    upload = begin(live, "runs/a")
    for _ in range(8):
        time.sleep(0.4)  # twice the lease has to pass in total
        assert put(live, upload, 0, 5120).status_code == 200
