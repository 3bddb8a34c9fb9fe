"""Saves in a single request: the body is the file, the query describes it."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest


def save(server, directory, data=b"bytes", **query):
    return server.http.post("/v1/checkpoints", params={"directory": directory, **query}, content=data)


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def manifest(server, directory, name):
    return json.loads((server.root / directory / ".holdfast" / f"{name}.json").read_text())


def content(server, checkpoint):
    return server.http.get(f"/v1/checkpoints/{checkpoint['id']}/content").content


def test_the_body_becomes_a_plain_file_with_a_manifest(server, directory):
    answer = save(server, directory, b"the bytes", epoch=7)
    assert answer.status_code == 201
    saved = answer.json()
    assert (server.root / directory / "checkpoint_epoch_0007.pt").read_bytes() == b"the bytes"
    assert manifest(server, directory, saved["name"])["checkpoint"]["id"] == saved["id"]
    assert saved["files"][0]["stored_at"] == f"{directory}/checkpoint_epoch_0007.pt"
    assert (saved["sequence"], saved["saved_after"], saved["size_bytes"]) == (1, 0, 9)
    assert saved["removed"] == []
    assert saved["repeated"] is False


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param({"epoch": 0}, r"checkpoint_epoch_0000\.pt", id="epoch 0"),
        pytest.param({"epoch": 12345}, r"checkpoint_epoch_12345\.pt", id="more than four digits"),
        pytest.param({"epoch": 3, "kind": "best"}, r"best_epoch_0003\.pt", id="a best one"),
        pytest.param({}, r"checkpoint_\d{8}T\d{6}_[0-9a-f]{12}\.pt", id="by time"),
        pytest.param({"kind": "best"}, r"best_\d{8}T\d{6}_[0-9a-f]{12}\.pt", id="a best one by time"),
        pytest.param({"save_id": "3f9aXYZ-9"}, r"checkpoint_\d{8}T\d{6}_7eb03bbd972c\.pt", id="by time and save_id"),
        pytest.param({"name": "model (é).ckpt", "epoch": 1}, r"model \(é\)\.ckpt", id="as asked"),
    ],
)
def test_a_checkpoint_is_named_by_what_is_known_of_it(server, directory, query, name):
    saved = server.save(directory, **query)
    assert re.fullmatch(name, saved["name"])
    assert [file["path"] for file in saved["files"]] == [saved["name"]]


def test_all_facts_are_kept_and_given_back(server, directory):
    metadata = {"lr": 0.1, "host": "näs", "nested": {"list": [1, None, True]}, "big": 2**62}
    facts = {"kind": "best", "epoch": 4, "metric": 0.25, "is_best": True, "pinned": True}
    saved = save(server, directory, **facts, tags=["a", "b", "a"], metadata=json.dumps(metadata)).json()
    assert {key: saved[key] for key in facts} == facts
    assert saved["tags"] == ["a", "b"]
    assert saved["metadata"] == metadata
    assert manifest(server, directory, saved["name"])["checkpoint"]["facts"]["metadata"] == metadata


@pytest.mark.parametrize("metric", ["NaN", "Infinity", "-Infinity"])
def test_a_metric_that_json_cannot_say_is_a_string(server, directory, metric):
    saved = server.save(directory, metric=metric)
    assert saved["metric"] == metric
    assert server.http.get(f"/v1/checkpoints/{saved['id']}").json()["metric"] == metric
    assert manifest(server, directory, saved["name"])["checkpoint"]["facts"]["metric"] == metric


@pytest.mark.parametrize("metric", ["nan", "inf", "1e999", "good", ""])
def test_no_other_spelling_of_such_a_metric_is_taken(server, directory, metric):
    assert refusal(save(server, directory, metric=metric)) == (422, "invalid_request")


@pytest.mark.parametrize("metadata", ["{", "[1]", '"text"', "3", '{"a": NaN}', '{"a": 1e999}', "null"])
def test_metadata_that_is_no_json_object_is_refused(server, directory, metadata):
    assert refusal(save(server, directory, metadata=metadata)) == (422, "invalid_request")


def test_a_policy_travels_in_the_query_and_is_in_force_at_once(server, directory):
    for epoch in range(4):
        saved = server.save(directory, epoch=epoch, metric=epoch, mode="min", max_checkpoints=2, max_best_checkpoints=1)
    assert saved["removed"] == ["checkpoint_epoch_0001.pt"]
    assert server.names(directory) == ["checkpoint_epoch_0000.pt", "checkpoint_epoch_0002.pt", saved["name"]]
    assert saved["policy"] == {
        "mode": "min",
        "max_checkpoints": 2,
        "max_best_checkpoints": 1,
        "keep_every_epochs": None,
        "keep_every_steps": None,
        "set_by_operator": [],
    }


def test_a_name_that_was_pruned_a_moment_ago_can_be_used_at_once(server, directory):
    for number in range(40):
        server.save(directory, b"%d" % number, epoch=number % 2, max_checkpoints=1)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


def test_without_a_policy_everything_stays(server, directory):
    for epoch in range(8):
        server.save(directory, epoch=epoch)
    assert len(server.names(directory)) == 8


def test_other_content_under_the_same_name_replaces(server, directory):
    old = server.save(directory, b"old", epoch=1)
    new = server.save(directory, b"new", epoch=1)
    assert new["id"] != old["id"]
    assert new["removed"] == [old["name"]]
    assert content(server, new) == b"new"
    assert server.names(directory) == [new["name"]]
    assert server.http.get(f"/v1/checkpoints/{old['id']}").json()["removed_because"] == "replaced"


def test_the_same_content_under_the_same_name_changes_facts_only(server, directory):
    old = server.save(directory, b"same", epoch=1, metric=1, tags="a", pinned=True)
    file = server.root / directory / old["name"]
    before = file.stat()
    new = server.save(directory, b"same", epoch=1, metric=2, tags="b")
    assert new["id"] == old["id"]
    assert new["sequence"] > old["sequence"]
    assert (new["metric"], new["tags"], new["pinned"]) == (2, ["a", "b"], True)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert server.names(directory, include_removed=True) == [old["name"]]
    assert sorted(path.name for path in file.parent.iterdir()) == [".holdfast", old["name"]]
    assert manifest(server, directory, old["name"])["checkpoint"]["sequence"] == new["sequence"]


def test_a_pinned_checkpoint_takes_no_other_content(server, directory):
    pinned = server.save(directory, b"precious", epoch=1, pinned=True)
    refused = save(server, directory, b"other", epoch=1)
    assert refusal(refused) == (409, "pinned")
    assert refused.json()["checkpoint_id"] == pinned["id"]
    assert content(server, pinned) == b"precious"
    assert server.save(directory, b"precious", epoch=1)["id"] == pinned["id"]


def test_a_save_id_is_committed_once(server, directory):
    first = save(server, directory, b"data", epoch=1, save_id="save-0001")
    again = save(server, directory, b"data", epoch=1, save_id="save-0001")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "repeated": True}
    assert refusal(save(server, directory, b"other", epoch=1, save_id="save-0001")) == (422, "save_id_reused")
    assert server.save(f"{directory}/other", b"other", save_id="save-0001")["sequence"] == 1


@pytest.mark.parametrize("because", ["replaced", "deleted", "pruned"])
def test_a_save_id_is_known_after_its_checkpoint_is_gone(server, directory, because):
    first = server.save(directory, b"data", epoch=1, save_id="save-0001")
    if because == "deleted":
        server.http.delete(f"/v1/checkpoints/{first['id']}").raise_for_status()
    else:
        server.save(directory, b"other", epoch=1 if because == "replaced" else 2, max_checkpoints=1)
    again = save(server, directory, b"data", epoch=1, save_id="save-0001")
    assert again.status_code == 200
    assert (again.json()["id"], again.json()["removed_because"]) == (first["id"], because)
    assert again.json()["removed_at"] is not None
    assert refusal(save(server, directory, b"DATA", epoch=1, save_id="save-0001")) == (422, "save_id_reused")


def test_an_empty_body_is_refused_and_leaves_nothing(server, directory):
    assert refusal(save(server, directory, b"")) == (422, "wrong_length")
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404
    assert not (server.root / directory).exists()


@pytest.mark.parametrize(
    ("mode", "metric", "improves"),
    [
        pytest.param("min", "0.4", True, id="smaller"),
        pytest.param("min", "0.5", False, id="equal"),
        pytest.param("min", "0.6", False, id="larger"),
        pytest.param("max", "0.6", True, id="larger, mode max"),
        pytest.param("max", "0.4", False, id="smaller, mode max"),
        pytest.param("min", "NaN", False, id="NaN"),
        pytest.param("min", "-Infinity", False, id="infinite"),
        pytest.param("min", None, False, id="none"),
    ],
)
def test_a_save_may_ask_to_be_refused_unless_it_improves(server, directory, mode, metric, improves):
    best = server.save(directory, epoch=0, metric=0.5, mode=mode, only_if_improved=True)
    query = {"metric": metric} if metric else {}
    answer = save(server, directory, epoch=1, only_if_improved=True, **query)
    if improves:
        assert answer.status_code == 201
    else:
        assert refusal(answer) == (409, "not_improved")
        assert (answer.json()["best_metric"], answer.json()["best_id"]) == (0.5, best["id"])
        assert server.names(directory) == [best["name"]]


def test_a_save_with_the_other_mode_is_refused(server, directory):
    server.save(directory, epoch=1, mode="min")
    refused = save(server, directory, epoch=2, mode="max")
    assert refusal(refused) == (409, "mode_conflict")
    assert refused.json()["mode"] == "min"
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


@pytest.mark.parametrize("data", [b"others", b"bytes"], ids=["new content", "the content that it has"])
def test_a_late_delivery_pruned_by_its_own_commit_is_reported(server, directory, data):
    server.save(directory, name="late.pt")
    server.save(directory, name="new.pt")
    server.http.put(f"/v1/directories/{directory}", json={"max_checkpoints": 1}).raise_for_status()
    late = server.save(directory, data, name="late.pt", saved_after=0, save_id="the-late-one")
    assert "late.pt" in late["removed"]
    again = server.http.post(
        "/v1/checkpoints", params={"directory": directory, "save_id": "the-late-one"}, content=data
    ).json()
    for told in (late, again):
        assert told["removed_because"] == "pruned"
        assert told["removed_at"] == late["removed_at"] is not None


def test_a_late_delivery_is_not_the_latest(server, directory):
    server.save(directory, epoch=1)
    newest = server.save(directory, epoch=3)
    late = server.save(directory, epoch=2, saved_after=0)
    assert (late["sequence"], late["saved_after"]) == (3, 0)
    assert server.names(directory)[-1] == newest["name"]
    assert server.save(directory, epoch=4, saved_after=99)["saved_after"] == 3


def test_a_body_of_undeclared_length_and_many_chunks_arrives_whole(server, directory):
    pieces = [bytes([number]) * 1_000_001 for number in range(20)]
    saved = save(server, directory, iter(pieces)).json()
    assert saved["size_bytes"] == 20 * 1_000_001
    assert content(server, saved) == b"".join(pieces)
    chunks = server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").json()["files"][0]["chunks"]
    assert len(chunks) == 3


def test_saves_of_one_second_whose_ids_begin_alike_replace_nothing(server, directory):
    for number in range(5):
        server.save(directory, b"%d" % number, save_id=f"nightly-run-of-the-job-{number}")
    assert len(server.names(directory)) == 5


def test_saves_at_the_same_time_are_committed_one_after_the_other(server, directory):
    with ThreadPoolExecutor(8) as pool:
        saves = list(pool.map(lambda epoch: server.save(directory, b"%d" % epoch, epoch=epoch), range(24)))
    assert len({saved["sequence"] for saved in saves}) == len({saved["saved_after"] for saved in saves}) == 24
    assert len(server.names(directory)) == 24


def test_a_save_that_named_nothing_can_be_repeated_later(server, directory):
    first = server.save(directory, b"data", save_id="an-id-of-mine")
    wait_for_another_second(first["created_at"])
    params = {"directory": directory, "save_id": "an-id-of-mine"}
    again = server.http.post("/v1/checkpoints", params=params, content=b"data")
    assert again.status_code == 200, again.text
    assert (again.json()["id"], again.json()["name"]) == (first["id"], first["name"])
    body = {"directory": directory, "save_id": "another-of-mine", "files": [{"size_bytes": 3}]}
    upload = server.http.post("/v1/uploads", json=body).json()
    wait_for_another_second(upload["expires_at"])
    repeated = server.http.post("/v1/uploads", json=body)
    assert (repeated.status_code, repeated.json()["name"]) == (200, upload["name"])


def wait_for_another_second(since):
    """Wait until the second of the given time is over, as generated names contain the second."""
    while datetime.now(UTC).second == datetime.fromisoformat(since).second:
        time.sleep(0.01)
