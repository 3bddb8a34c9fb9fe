"""Copies: checkpoints from the files of others, without bytes that pass through the client."""

import os
import threading

import pytest

from tests.app.api.test_content import folder, refusal
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint

FILES = {"config.json": b"{}", "model.bin": os.urandom(300_000), "shards/1.bin": b"one", "shards/deep/2.bin": b"two"}


def copy(server, source, headers=None, **said):
    return server.http.post(f"/v1/checkpoints/{source['id']}/copy", json=said, headers=headers)


def copied(server, source, **said):
    answer = copy(server, source, **said)
    assert answer.status_code == 201, answer.text
    return answer.json()


def contents(server, checkpoint):
    return {file["path"]: server.http.get(file["url"]).content for file in checkpoint["files"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own, in which no other test leaves an upload."""
    with LiveServer(tmp_path_factory.mktemp("copies") / "root") as live:
        yield live


@pytest.fixture
def source(server, directory):
    facts = {"epoch": 3, "metric": 0.5, "pinned": True, "tags": ["good"], "metadata": {"lr": 1, "note": "x"}}
    return folder(server, directory, FILES, name="step-3", **facts)


def test_a_copy_has_the_files_and_facts_of_its_source_and_no_pin(server, directory, source):
    found = copied(server, source, directory=f"{directory}/other", name="again")
    assert contents(server, found) == FILES
    same = ("digest", "size_bytes", "epoch", "metric", "tags", "metadata", "kind")
    assert {name: found[name] for name in same} == {name: source[name] for name in same}
    assert (found["directory"], found["name"], found["pinned"]) == (f"{directory}/other", "again", False)
    assert found["id"] != source["id"]
    assert server.incoming() == []


def test_facts_may_change(server, directory, source):
    facts = {"pinned": True, "tags": ["base"], "metric": None, "metadata": {"lr": None, "more": 2}}
    found = copied(server, source, directory=directory, name="again", **facts)
    assert (found["pinned"], found["tags"], found["metric"]) == (True, ["base"], None)
    assert (found["metadata"], found["epoch"]) == ({"note": "x", "more": 2}, 3)


@pytest.mark.parametrize(
    ("drop", "rename", "expected"),
    [
        pytest.param(["config.json"], {}, ["model.bin", "shards/1.bin", "shards/deep/2.bin"], id="a file dropped"),
        pytest.param(["shards"], {}, ["config.json", "model.bin"], id="a folder dropped"),
        pytest.param([], {"config.json": "a/b.json"}, ["a/b.json", *sorted(FILES)[1:]], id="a file renamed"),
        pytest.param(
            [], {"shards": "s"}, ["config.json", "model.bin", "s/1.bin", "s/deep/2.bin"], id="a folder renamed"
        ),
        pytest.param(
            ["shards/1.bin"],
            {"shards": "s", "shards/deep": "d", "model.bin": "config.json", "config.json": "model.bin"},
            ["config.json", "d/2.bin", "model.bin"],
            id="the closest name counts, and names may be swapped",
        ),
    ],
)
def test_files_are_left_out_and_renamed(server, directory, source, drop, rename, expected):
    found = copied(server, source, directory=directory, name="again", drop=drop, rename=rename)
    assert [file["path"] for file in found["files"]] == sorted(expected)
    for path, data in contents(server, found).items():
        assert data in FILES.values(), path
    if "model.bin" in rename:
        assert contents(server, found)["config.json"] == FILES["model.bin"]


def test_a_checkpoint_of_one_file_stays_one(server, directory):
    saved = server.save(directory, b"data", name="a.pt", metric=1)
    found = copied(server, saved, directory=directory, name="b.pt")
    assert [file["path"] for file in found["files"]] == ["b.pt"]
    assert (server.root / directory / "b.pt").read_bytes() == b"data"
    inside = copied(server, saved, directory=directory, name="c", rename={"a.pt": "weights/a.pt"})
    assert contents(server, inside) == {"weights/a.pt": b"data"}
    out = copied(server, inside, directory=directory, name="d.pt", rename={"weights/a.pt": "d.pt"})
    assert (server.root / directory / "d.pt").read_bytes() == b"data"
    assert out["digest"] != inside["digest"]


def test_declared_folders_go_with_their_files(server, directory):
    body = {"directory": directory, "name": "a", "files": [{"path": "x/f", "size_bytes": 0, "mode": 0o600}]}
    body["folders"] = [{"mode": 0o700}, {"path": "x", "mode": 0o750}, {"path": "empty"}, {"path": "gone/inner"}]
    upload = server.http.post("/v1/uploads", json=body).json()
    saved = server.http.post(f"/v1/uploads/{upload['id']}/commit").json()
    found = copied(server, saved, directory=directory, name="b", drop=["gone"], rename={"x": "y"})
    layout = server.http.get(f"/v1/checkpoints/{found['id']}/chunks").json()
    assert [(each["path"], each["mode"]) for each in layout["folders"]] == [("", 0o700), ("y", 0o750), ("empty", None)]
    assert [(each["path"], each["mode"]) for each in layout["files"]] == [("y/f", 0o600)]


def test_many_small_files_are_copied(server, directory):
    many = {f"sub{number % 7}/{number:04d}.bin": b"%d" % number for number in range(600)} | {"empty": b""}
    saved = folder_of_many(server, directory, many)
    found = copied(server, saved, directory=directory, name="again", drop=["sub3"], rename={"sub4": "four"})
    expected = {path.replace("sub4/", "four/"): data for path, data in many.items() if not path.startswith("sub3/")}
    assert {file["path"]: file["size_bytes"] for file in found["files"]} == {k: len(v) for k, v in expected.items()}
    stored = server.root / directory / "again"
    assert {path: (stored / path).read_bytes() for path in expected} == expected


def folder_of_many(server, directory, files):
    body = {"directory": directory, "name": "many"}
    body["files"] = [{"path": path, "size_bytes": len(data)} for path, data in files.items()]
    upload = server.http.post("/v1/uploads", json=body).json()
    for batch in upload["batches"]:
        data = b"".join(files[part["file"]] for part in batch["parts"])
        server.http.request(batch["method"], batch["url"], content=data).raise_for_status()
    answer = server.http.post(f"/v1/uploads/{upload['id']}/commit")
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_repeated_save_id_gives_the_same_copy_even_without_its_source(server, directory, source):
    said = {"directory": directory, "name": "again", "save_id": "copy-of-step-3", "drop": ["shards"]}
    first = copied(server, source, **said)
    assert (first["repeated"], first["save_id"]) == (False, "copy-of-step-3")
    again = copy(server, source, **said)
    assert (again.status_code, again.json()["id"], again.json()["repeated"]) == (200, first["id"], True)
    server.http.patch(f"/v1/checkpoints/{source['id']}", json={"pinned": False}).raise_for_status()
    server.http.delete(f"/v1/checkpoints/{source['id']}").raise_for_status()
    assert copy(server, source, **said).status_code == 200
    assert refusal(copy(server, source, **{**said, "drop": []})) == (422, "save_id_reused")
    assert refusal(copy(server, source, **{**said, "save_id": "another-copy"})) == (410, "checkpoint_removed")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"drop": ["nothing"]}, (404, "file_not_found"), id="an unknown file dropped"),
        pytest.param({"rename": {"shard": "x"}}, (404, "file_not_found"), id="an unknown file renamed"),
        pytest.param({"drop": ["config.json", "model.bin", "shards"]}, (422, "invalid_request"), id="nothing left"),
        pytest.param({"rename": {"config.json": "model.bin"}}, (422, "invalid_request"), id="one path for two"),
        pytest.param({"rename": {"config.json": "shards"}}, (422, "invalid_request"), id="a file that is a folder"),
        pytest.param(
            {"rename": {"config.json": "model.bin/a"}}, (422, "invalid_request"), id="a folder that is a file"
        ),
        pytest.param({"drop": ["shards"], "rename": {"shards/1.bin": "x"}}, (422, "invalid_request"), id="both"),
        pytest.param({"rename": {"config.json": "../x"}}, (422, "invalid_name"), id="a path out of it"),
        pytest.param({"rename": {"shards": "/".join(["x" * 101] * 10)}}, (422, "invalid_name"), id="a path too long"),
        pytest.param({"name": "a/b"}, (422, "invalid_name"), id="a name that is none"),
        pytest.param({"directory": "/runs"}, (422, "invalid_name"), id="a directory that is none"),
        pytest.param({"files": []}, (422, "invalid_request"), id="an unknown field"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(server, directory, source, said, expected):
    target = f"{directory}/target"
    answer = copy(server, source, **{"directory": target, "name": "again", **said})
    assert refusal(answer) == expected
    assert refusal(server.http.get(f"/v1/directories/{target}")) == (404, "directory_not_found")
    assert server.incoming() == []


def test_a_copy_is_a_save_like_any_other(server, directory, source):
    target = f"{directory}/target"
    server.http.put(f"/v1/directories/{target}", json={"max_checkpoints": 1, "max_best_checkpoints": 0})
    first = copied(server, source, directory=target, name="one")
    second = copied(server, source, directory=target, name="two", drop=["shards"])
    assert (second["removed"], server.names(target)) == (["one"], ["two"])
    assert second["sequence"] == first["sequence"] + 1
    assert refusal(copy(server, source, directory=f"{target}/two", name="x")) == (409, "name_taken")
    pinned = copied(server, source, directory=target, name="three", pinned=True)
    assert refusal(copy(server, source, directory=target, name="three", drop=["shards"])) == (409, "pinned")
    answer = server.http.post(
        f"/v1/checkpoints/{source['id']}/copy",
        json={"directory": target, "name": "three"},
        headers={"If-None-Match": "*"},
    )
    assert refusal(answer) == (412, "precondition_failed")
    assert server.names(target) == [pinned["name"]]
    assert server.incoming() == []


def test_the_source_itself_may_be_replaced(server, directory):
    saved = folder(server, directory, {"a": b"a", "optimizer.pt": b"o"}, name="step")
    found = copied(server, saved, directory=directory, name="step", drop=["optimizer.pt"])
    assert (found["removed"], contents(server, found)) == (["step"], {"a": b"a"})


def test_a_quota_counts_copies(make_server):
    live = make_server(quotas='{"runs": {"max_bytes": "1500"}}')
    saved = live.save("runs/a", bytes(1000), name="a.pt")
    assert refusal(copy(live, saved, directory="runs/b", name="b.pt")) == (507, "quota_exceeded")
    assert copy(live, saved, directory="elsewhere", name="b.pt").status_code == 201


def test_a_damaged_source_is_not_copied(server, directory, source):
    (server.root / directory / "step-3" / "config.json").write_bytes(b"[]")
    assert refusal(copy(server, source, directory=directory, name="again")) == (409, "altered")
    assert server.names(directory) == ["step-3"]
    assert server.incoming() == []


def test_a_source_that_is_removed_meanwhile_gives_a_whole_copy_or_a_refusal(server, directory):
    many = {f"{number:04d}.bin": b"%d" % number for number in range(1500)}
    saved, answers = folder_of_many(server, directory, many), []
    thread = threading.Thread(target=lambda: answers.append(copy(server, saved, directory=f"{directory}/b", name="c")))
    thread.start()
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    thread.join()
    (answer,) = answers
    if answer.status_code == 201:
        assert len(answer.json()["files"]) == 1500
    else:
        assert refusal(answer) == (410, "checkpoint_removed")
        assert refusal(server.http.get(f"/v1/directories/{directory}/b")) == (404, "directory_not_found")
    assert server.incoming() == []


def test_of_concurrent_repeats_one_makes_the_copy(server, directory):
    many = {f"{number:04d}.bin": b"%d" % number for number in range(600)}
    saved, answers = folder_of_many(server, directory, many), []
    said = {"directory": directory, "name": "again", "save_id": "copied-by-two"}
    threads = [threading.Thread(target=lambda: answers.append(copy(server, saved, **said))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    assert all(refusal(answer) == (409, "upload_busy") for answer in answers if answer.status_code == 409)
    last = copy(server, saved, **said)
    assert last.status_code in {200, 201}
    assert server.names(directory) == ["many", "again"]
    assert last.json()["digest"] == saved["digest"]
    assert server.incoming() == []


def test_a_copy_needs_both_ends_within_reach(tmp_path):
    with LiveServer(tmp_path / "root") as live:
        admin = bearer(mint(live.root, "admin"))

        def save(directory):
            query = {"directory": directory, "name": "a.pt"}
            return live.http.post("/v1/checkpoints", params=query, content=b"x", headers=admin).json()

        inside, outside = save("team/a"), save("team/b")
        both = bearer(mint(live.root, "read", "write", prefix="team/a"))
        writer, reader = (bearer(mint(live.root, scope, prefix="team/a")) for scope in ("write", "read"))
        here, there = {"directory": "team/a", "name": "b.pt"}, {"directory": "team/b", "name": "b.pt"}
        assert refusal(copy(live, outside, both, **here)) == (404, "checkpoint_not_found")
        assert refusal(copy(live, inside, both, **there)) == (404, "directory_not_found")
        assert refusal(copy(live, inside, writer, **here)) == (404, "checkpoint_not_found")
        assert refusal(copy(live, inside, reader, **here)) == (403, "forbidden")
        assert copy(live, inside, both, **here).status_code == 201
