"""Open uploads are listed with the writers that are missing, and are seen nowhere else before the commit."""

import json

from tests.support.live import eventually
from tests.support.shared_uploads import code, reserve
from tests.support.tokens import bearer, mint


def listed(http, **params):
    answer = http.get("/v1/uploads", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_listing_names_the_writers_that_are_missing(server, directory):
    shared = reserve(server.http, directory, writers=["rank-0", "rank-1", "rank-2"])
    shared.put("rank-0", {"a": b"a" * 1000})
    shared.ready("rank-0")
    shared.declare("rank-1", {"b": b"b" * 500, "c": b"c" * 300})
    (found,) = listed(server.http, directory=directory)["uploads"]
    assert (found["id"], found["name"], found["directory"]) == (shared.id, "step-10", directory)
    assert (found["arrived_bytes"], found["declared_bytes"], found["shared"]["attempt"]) == (1000, 1800, 0)
    writers = [
        (writer["writer"], writer["files"], writer["size_bytes"], writer["missing_bytes"], writer["is_ready"])
        for writer in found["shared"]["writers"]
    ]
    assert writers == [("rank-0", 1, 1000, 0, True), ("rank-1", 2, 800, 800, False)]
    assert found["shared"]["missing_writers"] == ["rank-1", "rank-2"]
    assert all(found["created_at"] <= writer["active_at"] for writer in found["shared"]["writers"])


def test_other_uploads_are_listed_beside_them_in_pages(server, directory):
    ids = {reserve(server.http, directory, save_id=f"save-{number:05}").id for number in range(4)}
    body = {"directory": f"{directory}/below", "files": [{"path": "f", "size_bytes": 7}]}
    alone = server.http.post("/v1/uploads", json=body).json()["id"]
    pages, token = [], None
    while True:
        page = listed(server.http, prefix=directory, page_size=2, **({"page_token": token} if token else {}))
        pages.append([upload["id"] for upload in page["uploads"]])
        token = page["next_page_token"]
        if token is None:
            break
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {upload for page in pages for upload in page} == ids | {alone}
    assert {upload["id"] for upload in listed(server.http, directory=directory)["uploads"]} == ids
    (found,) = listed(server.http, directory=f"{directory}/below")["uploads"]
    assert (found["shared"], found["declared_bytes"]) == (None, 7)


def test_nothing_is_seen_of_an_upload_before_its_commit(server, directory):
    server.save(directory, name="old.pt", metric=1)
    shared = reserve(server.http, directory, metric=0)
    shared.put("rank-0", {"a": b"a"})
    shared.ready("rank-0")
    assert server.names(directory) == ["old.pt"]
    for found in ("best", "latest"):
        assert server.http.get(f"/v1/checkpoints/{found}", params={"directory": directory}).json()["name"] == "old.pt"
    assert "step-10" not in server.http.get("/v1/tree", params={"path": directory}).text
    assert "step-10" not in server.http.post("/v1/prune", json={"directory": directory, "dry_run": True}).text
    assert not (server.root / directory / "step-10").exists()
    shared.commit()
    assert server.names(directory) == ["old.pt", "step-10"]
    assert listed(server.http, directory=directory)["uploads"] == []


def test_a_dead_writer_holds_up_the_commit_until_the_lease_expires(make_server, directory):
    server = make_server(upload_lease_s="3", janitor_every_s="0.2")
    shared = reserve(server.http, directory, writers=["rank-0", "rank-1"], commit_when_ready=True)
    shared.put("rank-0", {"a": b"a"})
    shared.ready("rank-0")
    assert code(shared.commit()) == (409, "writers_missing")
    assert eventually(lambda: listed(server.http)["uploads"] == []), "the lease has not expired"
    assert code(shared.ready("rank-1")) == (404, "upload_not_found")
    assert server.incoming() == []
    assert reserve(server.http, directory, writers=["rank-0", "rank-1"], commit_when_ready=True).id != shared.id


def test_limits_are_those_of_the_whole_upload(make_server, directory):
    server = make_server(max_files="3", max_chunks="5")
    shared = reserve(server.http, directory)
    shared.put("rank-0", {"a": b"a", "b": b"b"})
    assert code(shared.declare("rank-1", {"c": b"c", "d": b"d"})) == (413, "too_large")
    assert code(shared.declare("rank-1", {"c": b"c" * 16_385})) == (413, "too_large")
    assert shared.get()["shared"]["writers"][-1]["files"] == 0, "nothing stays of a refused declaration"
    shared.put("rank-0", {"c": b"c" * 3})
    assert shared.remove("rank-0", "a").status_code == 204
    assert shared.put("rank-1", {"d": b"d"}) == 1


def test_quotas_and_the_disk_are_asked_for_the_whole_upload(make_server, directory):
    server = make_server(quotas=json.dumps({directory: {"max_bytes": 20_000}}))
    shared = reserve(server.http, directory)
    shared.put("rank-0", {"a": b"a" * 15_000})
    assert code(shared.declare("rank-1", {"b": b"b" * 15_000})) == (507, "quota_exceeded")
    for size_bytes, refusal in ((2**50, (413, "too_large")), (2**42, (507, "no_space"))):
        body = {"writer": "rank-1", "files": [{"path": "huge", "size_bytes": size_bytes}]}
        assert code(server.http.post(f"{shared.url}/files", json=body)) == refusal
    assert shared.put("rank-1", {"b": b"b" * 1000}) == 1000
    for writer in ("rank-0", "rank-1"):
        assert shared.ready(writer).status_code == 200
    assert shared.commit().status_code == 201


def test_a_token_sees_the_uploads_within_its_prefix(make_server):
    server = make_server(admin_token="0123456789abcdef")
    server.http.headers.update(bearer("0123456789abcdef"))
    inside, outside = reserve(server.http, "team/a"), reserve(server.http, "other/a")
    token = bearer(mint(server.root, "read", prefix="team"))
    answer = server.http.get("/v1/uploads", headers=token)
    assert [upload["id"] for upload in answer.json()["uploads"]] == [inside.id]
    assert code(server.http.get("/v1/uploads?directory=other/a", headers=token)) == (404, "directory_not_found")
    assert code(server.http.get(outside.url, headers=token)) == (404, "upload_not_found")
    writer = bearer(mint(server.root, "write", prefix="team"))
    for path, body in (
        ("files", {"writer": "w", "files": [{"path": "f", "size_bytes": 1}]}),
        ("ready", {"writer": "w"}),
        ("rename", {"writer": "w", "path": "f", "to": "g"}),
    ):
        answer = server.http.post(f"{outside.url}/{path}", json=body, headers=writer)
        assert code(answer) == (404, "upload_not_found")
