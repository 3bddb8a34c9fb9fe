"""Several writers fill one checkpoint: declarations, bytes, readiness and commit, over plain HTTP."""

import itertools

import pytest

from tests.support.shared_uploads import chunks_of, code, contents, facts, reserve

A = {"shard-0/a.bin": b"a" * 10_000, "shard-0/empty": b""}
B = {"shard-1/b.bin": bytes(range(256)) * 64}
_numbers = itertools.count()


@pytest.fixture
def shared(server, directory):
    return reserve(server.http, directory)


def test_two_writers_fill_one_checkpoint(server, directory, shared):
    assert shared.put("rank-0", A) == 10_000
    assert shared.put("rank-1", B, hashed=False) == 256 * 64
    unseen = server.http.get("/v1/checkpoints", params={"directory": directory})
    assert code(unseen) == (404, "directory_not_found")
    assert [shared.ready(writer).status_code for writer in ("rank-0", "rank-1")] == [200, 200]
    committed = shared.commit(writers=["rank-0", "rank-1"], paths=["shard-0/a.bin", "shard-1/b.bin"])
    assert committed.status_code == 201, committed.text
    assert (committed.json()["id"], committed.json()["step"]) == (shared.id, 10)
    assert contents(server.http, committed.json()) == A | B
    assert server.names(directory) == ["step-10"]
    assert shared.commit().status_code == 200
    assert shared.get()["state"] == "committed"
    assert shared.ready("rank-1").json()["state"] == "committed"


def test_every_writer_sends_the_same_reservation(server, directory):
    first, second = reserve(server.http, directory), reserve(server.http, directory)
    assert first.id == second.id
    answers = [server.http.post("/v1/uploads", json=facts(directory)).status_code for _ in range(2)]
    assert answers == [200, 200]


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        pytest.param({"metric": 0.5}, ["metric"], id="the metric"),
        pytest.param({"epoch": 3, "tags": ["t"]}, ["epoch", "tags"], id="the epoch and tags"),
        pytest.param({"metadata": {"lr": 1}}, ["metadata"], id="metadata"),
        pytest.param({"kind": "best", "retention": "manual"}, ["kind", "retention"], id="kind and retention"),
        pytest.param({"policy": {"mode": "max"}}, ["policy"], id="the mode"),
        pytest.param({"writers": ["rank-0"]}, ["writers"], id="the writers"),
        pytest.param({"name": "step-11"}, ["name"], id="the name"),
    ],
)
def test_writers_that_state_other_facts_are_refused(server, directory, more, fields):
    reserve(server.http, directory)
    answer = server.http.post("/v1/uploads", json=facts(directory, **more))
    assert code(answer) == (409, "writers_disagree")
    assert answer.json()["fields"] == fields


def test_the_same_facts_may_have_nan_and_another_order(server, directory):
    first = reserve(server.http, directory, metric="NaN", tags=["a", "b"], writers=["x", "y"])
    assert reserve(server.http, directory, metric="NaN", tags=["b", "a"], writers=["y", "x"]).id == first.id


def test_a_save_id_stands_for_a_shared_upload_or_for_another_one(server, directory, shared):
    alone = {**facts(directory), "files": [{"path": "f", "size_bytes": 1}]}
    del alone["shared"]
    assert code(server.http.post("/v1/uploads", json=alone)) == (422, "save_id_reused")
    query = {"directory": directory, "name": "step-10", "save_id": "job-1-step-10"}
    assert code(server.http.post("/v1/checkpoints", params=query, content=b"x")) == (422, "save_id_reused")
    alone["save_id"] = "another-save"
    assert server.http.post("/v1/uploads", json=alone).status_code == 201
    again = facts(directory, save_id="another-save")
    assert code(server.http.post("/v1/uploads", json=again)) == (422, "save_id_reused")
    assert shared.get()["state"] == "open"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"save_id": None}, id="no save_id"),
        pytest.param({"name": None}, id="no name"),
        pytest.param({"files": [{"path": "f", "size_bytes": 1}]}, id="files at once"),
        pytest.param({"commit_when_ready": True}, id="a commit without writers"),
        pytest.param({"attempt": -1}, id="a negative attempt"),
        pytest.param({"writers": []}, id="no writers"),
        pytest.param({"shared": False, "files": [{"path": "f", "size_bytes": 1}], "attempt": 1}, id="not shared"),
        pytest.param({"shared": False}, id="no files"),
    ],
)
def test_a_reservation_that_cannot_be_shared_is_refused(server, directory, more):
    assert code(server.http.post("/v1/uploads", json=facts(directory, **more))) == (422, "invalid_request")


# files


def test_a_declaration_is_idempotent_and_lists_its_own_files(shared):
    shared.put("rank-0", A)
    answer = shared.declare("rank-1", B).json()
    assert {wanted["file"] for wanted in answer["missing"]} == set(B)
    assert shared.declare("rank-1", B).json()["missing"] == answer["missing"]
    assert all("attempt=0" in wanted["url"] for wanted in answer["missing"])
    assert {wanted["file"] for wanted in shared.get(writer="rank-0")["missing"]} == set()
    assert {wanted["file"] for wanted in shared.get()["missing"]} == set(B)
    status = {writer["writer"]: writer for writer in answer["shared"]["writers"]}
    assert (status["rank-0"]["files"], status["rank-0"]["missing_bytes"]) == (2, 0)
    assert (status["rank-1"]["files"], status["rank-1"]["missing_bytes"]) == (1, 256 * 64)


def test_a_path_of_another_writer_is_taken(shared):
    shared.put("rank-0", {"f.bin": b"one"})
    answer = shared.declare("rank-1", {"g.bin": b"two", "f.bin": b"one"})
    assert code(answer) == (409, "path_taken")
    assert (answer.json()["writer"], answer.json()["file"]) == ("rank-0", "f.bin")
    assert shared.get()["missing"] == [], "all files are declared, or none"


def test_the_same_path_with_another_description_is_refused_until_it_is_deleted(server, shared):
    shared.put("rank-0", {"f.bin": b"one"})
    assert code(shared.declare("rank-0", {"f.bin": b"other"})) == (409, "path_taken")
    assert code(shared.declare("rank-0", {"f.bin": b"two"})) == (409, "path_taken")
    assert shared.remove("rank-0", "f.bin").status_code == 204
    assert code(shared.remove("rank-0", "f.bin")) == (404, "file_not_found")
    assert shared.put("rank-0", {"f.bin": b"two"}) == 3
    shared.ready("rank-0")
    assert contents(server.http, shared.commit().json()) == {"f.bin": b"two"}


def test_bytes_that_were_removed_do_not_count_again(server, shared):
    shared.put("rank-0", {"f.bin": b"one", "g": b"g"})
    shared.remove("rank-0", "f.bin")
    assert shared.put("rank-0", {"f.bin": b"one"}) == 3
    shared.ready("rank-0")
    assert contents(server.http, shared.commit().json()) == {"f.bin": b"one", "g": b"g"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("a", "a/b", id="a file, then a folder"),
        pytest.param("a/b", "a", id="a folder, then a file"),
        pytest.param("a/b/c", "a/b", id="deeper"),
    ],
)
def test_a_file_and_a_folder_cannot_have_the_same_path(shared, first, second):
    shared.put("rank-0", {first: b"x"})
    for writer in ("rank-0", "rank-1"):
        assert code(shared.declare(writer, {second: b"y"})) == (409, "path_taken")
    assert code(shared.declare("rank-1", {"n": b"", "n/m": b""})) == (409, "path_taken")
    assert shared.remove("rank-0", first).status_code == 204
    assert shared.put("rank-1", {second: b"y"}) == 1
    assert shared.ready("rank-1").status_code == 200
    assert [file["path"] for file in shared.commit().json()["files"]] == [second]


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", ".holdfast", "x\0y", "nul\n", "step-10", ""])
def test_names_beyond_the_grammar_are_refused(shared, path):
    answer = shared.declare("rank-0", {path: b"x"})
    assert answer.status_code == 422
    assert answer.json()["code"] in {"invalid_name", "invalid_request"}


def test_a_file_is_renamed_with_its_bytes(server, shared):
    shared.put("rank-0", {"tmp/f.bin": b"one" * 5000})
    assert shared.rename("rank-0", "tmp/f.bin", "final.bin").status_code == 204
    assert shared.rename("rank-0", "tmp/f.bin", "final.bin").status_code == 204, "idempotent"
    assert shared.put("rank-1", {"tmp": b"a file where a folder was"}) == 25
    assert code(shared.rename("rank-1", "final.bin", "x")) == (409, "path_taken")
    assert code(shared.rename("rank-1", "tmp", "final.bin")) == (409, "path_taken")
    assert code(shared.rename("rank-1", "tmp", "final.bin/x")) == (409, "path_taken")
    assert code(shared.rename("rank-1", "none", "x")) == (404, "file_not_found")
    assert code(shared.rename("rank-1", "tmp", "tmp/inside")) == (409, "path_taken")
    assert shared.rename("rank-1", "tmp", "inside/it").status_code == 204
    for writer in ("rank-0", "rank-1"):
        assert shared.ready(writer).status_code == 200
    found = contents(server.http, shared.commit().json())
    assert found == {"final.bin": b"one" * 5000, "inside/it": b"a file where a folder was"}


def test_batches_name_the_same_files_whatever_others_change(server, shared):
    mine = {f"mine/{number}": bytes([number]) * 100 for number in range(20)}
    others = {f"other/{number}": b"o" * 100 for number in range(5)}
    shared.put("rank-1", others)
    answer = shared.declare("rank-0", mine).json()
    shared.remove("rank-1", "other/0")
    shared.put("rank-1", {"other/new": b"new"})
    (batch,) = answer["batches"]
    data = b"".join(mine[part["file"]] for part in batch["parts"])
    server.http.put(batch["url"], content=data).raise_for_status()
    for writer in ("rank-0", "rank-1"):
        assert shared.ready(writer).status_code == 200
    found = contents(server.http, shared.commit().json())
    assert found == mine | {path: data for path, data in others.items() if path != "other/0"} | {"other/new": b"new"}


def test_a_place_is_not_given_again(shared):
    first = shared.declare("rank-0", {"a": b"a" * 10, "b": b"b" * 10}).json()["batches"][0]
    shared.remove("rank-0", "b")
    shared.declare("rank-0", {"c": b"c" * 10})
    assert code(shared.http.put(first["url"], content=b"a" * 10 + b"b" * 10)) == (404, "file_not_found")


# readiness


def test_a_writer_is_ready_only_with_all_of_its_bytes(shared):
    shared.declare("rank-0", A)
    answer = shared.ready("rank-0")
    assert code(answer) == (409, "ranges_missing")
    assert answer.json()["missing_bytes"] == 10_000
    shared.put("rank-0", A)
    assert shared.ready("rank-0").status_code == shared.ready("rank-0").status_code == 200


def test_a_writer_without_files_may_be_ready(server, directory):
    shared = reserve(server.http, directory, writers=["rank-0", "rank-1"])
    shared.put("rank-0", A)
    assert shared.get()["shared"]["missing_writers"] == ["rank-0", "rank-1"]
    assert shared.ready("rank-0").json()["shared"]["missing_writers"] == ["rank-1"]
    answer = shared.commit()
    assert code(answer) == (409, "writers_missing")
    assert answer.json()["writers"] == ["rank-1"]
    assert shared.ready("rank-1").json()["shared"]["missing_writers"] == []
    assert shared.commit().status_code == 201


@pytest.mark.parametrize("change", ["declare", "remove", "rename"])
def test_a_change_of_its_files_makes_a_writer_unready(shared, change):
    shared.put("rank-0", {"f": b"one", "g": b"two"})
    shared.ready("rank-0")
    shared.declare("rank-0", {"f": b"one"})
    assert shared.get()["shared"]["missing_writers"] == [], "nothing has changed"
    {
        "declare": lambda: shared.put("rank-0", {"h": b"more"}),
        "remove": lambda: shared.remove("rank-0", "f"),
        "rename": lambda: shared.rename("rank-0", "f", "x"),
    }[change]()
    assert code(shared.commit()) == (409, "writers_missing")
    assert shared.ready("rank-0").status_code == 200
    assert shared.commit().status_code == 201


def test_digests_that_come_last_are_verified(server, shared):
    data = b"x" * 10_000
    shared.put("rank-0", {"f": data}, hashed=False)
    wrong = chunks_of(data[:5000] + b"y" + data[5001:])
    answer = shared.ready("rank-0", files=[{"path": "f", "chunks": wrong}])
    assert code(answer) == (422, "digest_mismatch")
    assert (answer.json()["file"], answer.json()["offset"]) == ("f", 4096)
    missing = shared.get()["missing"]
    assert [(wanted["offset"], wanted["length"]) for wanted in missing] == [(4096, 4096)]
    assert code(shared.ready("rank-0")) == (409, "ranges_missing")
    shared.send({"missing": missing}, {"f": data})
    assert code(shared.ready("rank-0", files=[{"path": "g", "chunks": []}])) == (404, "file_not_found")
    assert shared.ready("rank-0", files=[{"path": "f", "chunks": chunks_of(data)}]).status_code == 200
    assert contents(server.http, shared.commit().json()) == {"f": data}


def test_digests_declared_later_count_what_has_arrived(shared):
    shared.put("rank-0", {"f": b"x" * 10_000}, hashed=False)
    assert shared.declare("rank-0", {"f": b"x" * 10_000}).json()["missing"] == []
    shared.declare("rank-0", {"g": b"y" * 9000}, hashed=False)
    assert shared.declare("rank-0", {"g": b"y" * 9000}).json()["missing_bytes"] == 9000


def test_files_without_chunks_are_cut_by_the_server(shared):
    body = {"writer": "rank-0", "files": [{"path": "f", "size_bytes": 5}]}
    answer = shared.http.post(f"{shared.url}/files", json=body)
    shared.send(answer.json(), {"f": b"bytes"})
    assert shared.ready("rank-0").status_code == 200
    assert shared.commit().status_code == 201


# commit


def test_a_commit_needs_files_and_those_that_it_names(shared):
    assert code(shared.commit()) == (409, "files_missing")
    shared.put("rank-0", {"f": b"one"})
    assert code(shared.commit()) == (409, "writers_missing")
    shared.ready("rank-0")
    answer = shared.commit(paths=["f", "index.json"])
    assert code(answer) == (409, "files_missing")
    assert answer.json()["files"] == ["index.json"]
    answer = shared.commit(writers=["rank-0", "rank-7"])
    assert (code(answer), answer.json()["writers"]) == ((409, "writers_missing"), ["rank-7"])
    assert shared.commit(paths=["f"]).status_code == 201


def test_the_last_one_that_is_ready_commits_if_the_reservation_says_so(server, directory):
    shared = reserve(server.http, directory, writers=["rank-0", "rank-1"], commit_when_ready=True)
    for writer, files in (("rank-0", A), ("rank-1", B)):
        shared.put(writer, files)
    first = shared.ready("rank-0").json()
    assert (first["state"], first["shared"]["missing_writers"]) == ("open", ["rank-1"])
    last = shared.ready("rank-1").json()
    assert (last["state"], last["checkpoint"]["name"]) == ("committed", "step-10")
    assert shared.get()["checkpoint"]["id"] == last["checkpoint"]["id"]
    assert shared.ready("rank-0").json()["state"] == "committed"
    again = server.http.post("/v1/uploads", json=facts(directory, writers=["x"]))
    assert (again.status_code, again.json()["state"]) == (200, "committed")


def test_preconditions_are_those_of_other_commits(server, directory):
    server.save(directory, name="step-10")
    refused = server.http.post("/v1/uploads", json=facts(directory), headers={"If-None-Match": "*"})
    assert code(refused) == (412, "precondition_failed")
    shared = reserve(server.http, directory, writers=["a"], commit_when_ready=True)
    shared.put("a", {"f": b"1"})
    digest = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()["digest"]
    assert code(shared.commit(headers={"If-Match": '"0"'})) == (409, "writers_missing")
    assert shared.declare("a", {"f": b"1"}).status_code == 200
    other = reserve(server.http, directory, save_id="other-save-id")
    other.put("a", {"f": b"2"})
    other.ready("a")
    assert code(other.commit(headers={"If-Match": '"0"'})) == (412, "precondition_failed")
    assert other.commit(headers={"If-Match": f'"{digest}"'}).status_code == 201


def test_an_upload_is_not_committed_as_one_that_is_not_shared(server, directory, shared):
    shared.put("a", {"f": b"1"})
    shared.ready("a")
    assert code(server.http.post(f"{shared.url}/commit")) == (422, "invalid_request")
    assert code(server.http.put(f"{shared.url}/files/f?offset=0", content=b"1")) == (422, "invalid_request")
    assert code(server.http.put(f"{shared.url}/batch?files=0", content=b"1")) == (422, "invalid_request")
    body = {"directory": directory, "files": [{"path": "f", "size_bytes": 1}]}
    alone = server.http.post("/v1/uploads", json=body).json()["id"]
    for path, sent in (
        ("files", {"writer": "a", "files": [{"path": "g", "size_bytes": 1}]}),
        ("ready", {"writer": "a"}),
        ("rename", {"writer": "a", "path": "f", "to": "g"}),
        ("commit", {"attempt": 0}),
    ):
        assert code(server.http.post(f"/v1/uploads/{alone}/{path}", json=sent)) == (422, "invalid_request")
    assert code(server.http.put(f"/v1/uploads/{alone}/files/f?attempt=0", content=b"1")) == (422, "invalid_request")
    assert shared.commit().status_code == 201
