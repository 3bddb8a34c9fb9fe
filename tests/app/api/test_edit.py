"""Edits of facts and policies; the manifests follow at once."""

import json

import pytest


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def patch(server, saved, **change):
    return server.http.patch(f"/v1/checkpoints/{saved['id']}", json=change)


def put(server, directory, **policy):
    return server.http.put(f"/v1/directories/{directory}", json=policy)


def facts_on_disk(server, saved):
    manifest = server.root / saved["directory"] / ".holdfast" / f"{saved['name']}.json"
    return json.loads(manifest.read_text())["checkpoint"]["facts"]


def policy_of(server, directory):
    return server.http.get(f"/v1/directories/{directory}").json()["policy"]


BEFORE = {"epoch": 1, "metric": 0.5, "is_best": True, "pinned": False, "tags": ["a"], "metadata": {"k": 1, "n": None}}


@pytest.mark.parametrize(
    ("change", "after"),
    [
        pytest.param({"pinned": True}, {"pinned": True}, id="pin"),
        pytest.param({"tags": ["b", "c", "b"]}, {"tags": ["b", "c"]}, id="tags"),
        pytest.param({"tags": []}, {"tags": []}, id="no tags"),
        pytest.param({"metric": -1}, {"metric": -1}, id="metric"),
        pytest.param({"metric": None}, {"metric": None}, id="no metric"),
        pytest.param({"metric": "NaN"}, {"metric": "NaN"}, id="metric NaN"),
        pytest.param({"epoch": 7, "is_best": False}, {"epoch": 7, "is_best": False}, id="epoch and flag"),
        pytest.param({"epoch": None}, {"epoch": None}, id="no epoch"),
        pytest.param({"metadata": {"new": [1]}}, {"metadata": {"k": 1, "n": None, "new": [1]}}, id="merges metadata"),
        pytest.param({"metadata": {"k": None}}, {"metadata": {"n": None}}, id="drops a key"),
        pytest.param({"metadata": {"absent": None}}, {}, id="drops an absent key"),
        pytest.param({"metadata": {"k": {"in": None}}}, {"metadata": {"k": {"in": None}, "n": None}}, id="null within"),
        pytest.param({}, {}, id="nothing"),
    ],
)
def test_what_is_named_changes_and_the_rest_stays(server, directory, change, after):
    saved = server.save(directory, **{**BEFORE, "metadata": json.dumps(BEFORE["metadata"])})
    answer = patch(server, saved, **change)
    assert answer.status_code == 200, answer.text
    expected = {**BEFORE, **after}
    assert {key: answer.json()[key] for key in expected} == expected
    assert server.http.get(f"/v1/checkpoints/{saved['id']}").json() == answer.json()
    on_disk = facts_on_disk(server, saved)
    assert {key: on_disk[key] for key in expected} == expected
    unchanged = ("id", "name", "digest", "sequence", "saved_after", "created_at", "save_id")
    assert all(answer.json()[key] == saved[key] for key in unchanged)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"name": "other"}, id="a name"),
        pytest.param({"pinned": None}, id="pinned null"),
        pytest.param({"pinned": "maybe"}, id="pinned a word"),
        pytest.param({"metric": "nan"}, id="metric a word"),
        pytest.param({"epoch": -1}, id="negative epoch"),
        pytest.param({"tags": ["x" * 201]}, id="a long tag"),
        pytest.param({"metadata": {"x": "x" * 1_100_000}}, id="much metadata"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(server, directory, change):
    saved = server.save(directory, epoch=1)
    assert patch(server, saved, **change).status_code == 422
    assert server.http.get(f"/v1/checkpoints/{saved['id']}").json()["epoch"] == 1


def test_metadata_does_not_grow_without_bound_by_changes(server, directory):
    saved = server.save(directory)
    assert patch(server, saved, metadata={"a": "x" * 900_000}).status_code == 200
    assert refusal(patch(server, saved, metadata={"b": "x" * 900_000})) == (422, "invalid_request")


def test_a_corrected_metric_ranks_at_once(server, directory):
    first, second = server.save(directory, epoch=1, metric=1), server.save(directory, epoch=2, metric=2)
    patch(server, second, metric=0.5, metadata={"acc": 9}).raise_for_status()
    query = {"directory": directory}
    assert server.http.get("/v1/checkpoints/best", params=query).json()["id"] == second["id"]
    assert server.http.get("/v1/checkpoints/best", params={**query, "by": "acc"}).json()["id"] == second["id"]
    patch(server, second, metric="NaN", metadata={"acc": None}).raise_for_status()
    assert server.http.get("/v1/checkpoints/best", params=query).json()["id"] == first["id"]
    assert server.http.get("/v1/checkpoints/best", params={**query, "by": "acc"}).status_code == 404


def test_a_pin_holds_against_the_policy_until_it_is_taken_off(server, directory):
    first = server.save(directory, epoch=1, max_checkpoints=1)
    patch(server, first, pinned=True).raise_for_status()
    server.save(directory, epoch=2)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"]
    patch(server, first, pinned=False).raise_for_status()
    assert server.save(directory, epoch=3)["removed"] == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"][::-1]


def test_a_removed_checkpoint_does_not_change(server, directory):
    saved = server.save(directory, epoch=1)
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert refusal(patch(server, saved, pinned=True)) == (410, "checkpoint_removed")
    assert refusal(patch(server, {"id": "0" * 32}, pinned=True)) == (404, "checkpoint_not_found")


def test_an_operators_limits_are_stronger_than_a_saves(server, directory):
    server.save(directory, epoch=1, mode="min", max_checkpoints=5, max_best_checkpoints=5)
    ordered = put(server, directory, max_checkpoints=2)
    assert ordered.status_code == 200
    expected = {"mode": "min", "max_checkpoints": 2, "max_best_checkpoints": 5}
    expected |= {"keep_every_epochs": None, "keep_every_steps": None}
    assert ordered.json()["policy"] == {**expected, "set_by_operator": ["max_checkpoints"]}
    saved = server.save(directory, epoch=2, max_checkpoints=9, max_best_checkpoints=1)
    assert saved["policy"] == {**expected, "max_best_checkpoints": 1, "set_by_operator": ["max_checkpoints"]}
    assert policy_of(server, directory) == saved["policy"]


def test_limits_that_are_left_out_go_back_to_saves(server, directory):
    put(server, directory, max_checkpoints=2, keep_every_epochs=10).raise_for_status()
    assert put(server, directory, keep_every_epochs=5).json()["policy"]["set_by_operator"] == ["keep_every_epochs"]
    policy = server.save(directory, epoch=1, max_checkpoints=7, keep_every_epochs=3)["policy"]
    assert (policy["max_checkpoints"], policy["keep_every_epochs"]) == (7, 5)


def test_an_operator_may_take_a_limit_off_for_good(server, directory):
    put(server, directory, max_checkpoints=None).raise_for_status()
    for epoch in range(4):
        saved = server.save(directory, epoch=epoch, max_checkpoints=1)
    assert saved["policy"]["max_checkpoints"] is None
    assert len(server.names(directory)) == 4


def test_an_operator_may_turn_the_mode(server, directory):
    server.save(directory, epoch=1, metric=1, mode="min")
    server.save(directory, epoch=2, metric=2)
    assert put(server, directory, mode="max").json()["best"]["epoch"] == 2
    refused = server.http.post("/v1/checkpoints", params={"directory": directory, "mode": "min"}, content=b"x")
    assert refusal(refused) == (409, "mode_conflict")
    assert put(server, directory).json()["policy"]["mode"] == "max"


@pytest.mark.parametrize(
    ("exists", "header", "value", "status"),
    [
        pytest.param(True, "If-Match", "{etag}", 200, id="the policy that was read"),
        pytest.param(True, "If-Match", '"another", {etag}', 200, id="one of several"),
        pytest.param(True, "If-Match", "*", 200, id="any"),
        pytest.param(True, "If-Match", '"another"', 412, id="another policy"),
        pytest.param(True, "If-None-Match", "*", 412, id="none, but there is one"),
        pytest.param(False, "If-None-Match", "*", 200, id="none"),
        pytest.param(False, "If-Match", "*", 412, id="any, but there is none"),
    ],
)
def test_a_policy_changes_only_if_the_precondition_holds(server, directory, exists, header, value, status):
    address, etag = f"/v1/directories/{directory}", ""
    if exists:
        etag = put(server, directory, max_checkpoints=3).json()["policy_etag"]
        assert server.http.get(address).json()["policy_etag"] == etag
    answer = server.http.put(address, json={"max_checkpoints": 5}, headers={header: value.format(etag=etag)})
    assert answer.status_code == status
    if status == 412:
        assert refusal(answer) == (412, "policy_changed")
        assert not exists or policy_of(server, directory)["max_checkpoints"] == 3
        assert server.http.get(address).status_code == (200 if exists else 404)
    else:
        assert policy_of(server, directory)["max_checkpoints"] == 5
        assert answer.json()["policy_etag"] != etag


def test_a_save_that_changes_the_policy_changes_its_tag_and_another_does_not(server, directory):
    def etag_after(**query):
        server.save(directory, **query)
        return server.http.get(f"/v1/directories/{directory}").json()["policy_etag"]

    first = etag_after(epoch=1, max_checkpoints=3)
    assert etag_after(epoch=2, max_checkpoints=3) == first
    assert etag_after(epoch=3, max_checkpoints=4) != first


def test_a_policy_may_come_before_the_first_save(server, directory):
    answer = put(server, directory, mode="max", max_checkpoints=1)
    assert (answer.status_code, answer.json()["count"], answer.json()["sequence"]) == (200, 0, 0)
    assert server.http.get(f"/v1/directories/{directory}").json() == answer.json()
    query = {"directory": directory}
    assert refusal(server.http.get("/v1/checkpoints/best", params=query)) == (404, "no_checkpoint")


def test_a_policy_that_asks_nothing_makes_no_directory(server, directory):
    answer = put(server, directory)
    assert (answer.status_code, answer.json()["code"]) == (404, "directory_not_found")
    assert not (server.root / directory).exists()


def test_an_operator_may_remove_a_directory_without_saves(server, directory):
    put(server, directory, max_checkpoints=None).raise_for_status()
    answer = put(server, directory)
    assert answer.status_code == 200, answer.text
    assert answer.json()["policy"]["set_by_operator"] == []


def test_a_lower_limit_converges_at_the_next_save(server, directory):
    for epoch in range(4):
        server.save(directory, epoch=epoch, max_checkpoints=4)
    put(server, directory, max_checkpoints=2).raise_for_status()
    assert len(server.names(directory)) == 4
    server.save(directory, epoch=4)
    assert server.names(directory) == ["checkpoint_epoch_0003.pt", "checkpoint_epoch_0004.pt"]


def test_the_policy_stands_beside_the_files(server, directory):
    put(server, directory, mode="max", keep_every_epochs=10).raise_for_status()
    record = json.loads((server.root / directory / ".holdfast" / "directory.json").read_text())
    assert (record["policy"]["mode"], record["policy"]["keep_every_epochs"]) == ("max", 10)
    assert record["policy"]["operator"] == ["keep_every_epochs"]
    server.save(directory, max_best_checkpoints=3)
    record = json.loads((server.root / directory / ".holdfast" / "directory.json").read_text())
    assert record["policy"]["max_best_checkpoints"] == 3
