"""Queries over committed checkpoints: lists, best and latest."""

import json
import math

import pytest


def get(server, what, **query):
    return server.http.get(f"/v1/{what}", params=query)


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def best(server, directory, **query):
    return get(server, "checkpoints/best", directory=directory, **query).json()["name"]


def numbered(names):
    """Return the epochs in generated names."""
    return [int(name.removesuffix(".pt").rpartition("_")[2]) for name in names]


@pytest.fixture
def filled(server, directory):
    """A directory of five checkpoints: falling sizes, one deleted, metrics 5, NaN, none, 1, 3."""
    for epoch, (metric, more) in enumerate(
        [
            ({"metric": 5}, {"tags": "a", "name": "e_0.pt"}),
            ({"metric": "NaN"}, {"tags": ["a", "b"], "pinned": True}),
            ({}, {"is_best": True}),
            ({"metric": 1}, {"kind": "best", "tags": "ab"}),
            ({"metric": 3}, {}),
        ]
    ):
        server.save(directory, b"x" * (50 - epoch), epoch=epoch, **metric, **more)
    return directory


@pytest.mark.parametrize(
    ("query", "epochs"),
    [
        pytest.param({}, [0, 1, 2, 3, 4], id="by position"),
        pytest.param({"order_by": "-position"}, [4, 3, 2, 1, 0], id="newest first"),
        pytest.param({"order_by": "-epoch"}, [4, 3, 2, 1, 0], id="by epoch"),
        pytest.param({"order_by": "size_bytes"}, [4, 3, 2, 1, 0], id="by size"),
        pytest.param({"order_by": "name"}, [3, 1, 2, 4, 0], id="by name"),
        pytest.param({"order_by": "-created_at"}, [4, 3, 2, 1, 0], id="by time"),
        pytest.param({"order_by": "best"}, [3, 4, 0, 2], id="best first"),
        pytest.param({"order_by": "best", "mode": "max"}, [0, 4, 3, 2], id="best first, mode max"),
        pytest.param({"kind": "best"}, [3], id="kind"),
        pytest.param({"pinned": "true"}, [1], id="pinned"),
        pytest.param({"pinned": "false"}, [0, 2, 3, 4], id="not pinned"),
        pytest.param({"is_best": "true"}, [2], id="flagged"),
        pytest.param({"tag": "a"}, [0, 1], id="tag"),
        pytest.param({"tag": "ab"}, [3], id="a longer tag"),
        pytest.param({"tag": "%"}, None, id="a tag outside the grammar"),
        pytest.param({"epoch_min": 1, "epoch_max": 3}, [1, 2, 3], id="epochs"),
        pytest.param({"metric_min": 2}, [0, 4], id="metrics from"),
        pytest.param({"metric_max": 3}, [3, 4], id="metrics up to"),
        pytest.param({"name": "e_0.pt"}, [0], id="name"),
        pytest.param({"tag": "a", "pinned": "true", "epoch_min": 2}, [], id="all together"),
    ],
)
def test_checkpoints_are_listed_filtered_and_in_order(server, filled, query, epochs):
    if epochs is None:
        assert refusal(get(server, "checkpoints", directory=filled, **query)) == (422, "invalid_name")
    else:
        assert numbered(server.names(filled, **query)) == epochs


@pytest.mark.parametrize("order", ["metric", "-metric", "epoch", "-epoch"])
def test_what_has_no_value_comes_last(server, directory, order):
    server.save(directory, name="none")
    server.save(directory, name="some", metric=1, epoch=1)
    assert server.names(directory, order_by=order) == ["some", "none"]


def test_removed_ones_are_listed_when_asked_for(server, directory):
    gone, replaced = server.save(directory, epoch=1), server.save(directory, b"1", epoch=2)
    server.save(directory, b"2", epoch=2)
    server.http.delete(f"/v1/checkpoints/{gone['id']}").raise_for_status()
    assert numbered(server.names(directory)) == [2]
    server.wait_until_freed()  # removed checkpoints can be restored until then
    found = get(server, "checkpoints", directory=directory, include_removed=True).json()["checkpoints"]
    assert [checkpoint["removed_because"] for checkpoint in found] == ["deleted", "replaced", None]
    assert found[1] == get(server, f"checkpoints/{replaced['id']}").json()


def test_the_best_goes_by_the_mode(server, filled):
    found = get(server, "checkpoints/best", directory=filled).json()
    assert (found["epoch"], found["ranked_by"], found["mode"], found["own_mode"]) == (3, "metric", "min", False)
    server.http.put(f"/v1/directories/{filled}", json={"mode": "max"}).raise_for_status()
    found = get(server, "checkpoints/best", directory=filled).json()
    assert (found["epoch"], found["mode"], found["own_mode"]) == (0, "max", True)
    found = get(server, "checkpoints/best", directory=filled, mode="min").json()
    assert (found["epoch"], found["mode"], found["own_mode"]) == (3, "min", False)


def test_the_older_of_equals_is_best(server, directory):
    for epoch in range(3):
        server.save(directory, epoch=epoch, metric=0.5)
    assert numbered([best(server, directory), best(server, directory, mode="max")]) == [0, 0]


def test_any_number_in_the_metadata_can_rank(server, directory):
    for epoch, metadata in enumerate(['{"acc": 0.1}', '{"acc": 3}', '{"acc": true}', '{"acc": "9"}', "{}"]):
        server.save(directory, epoch=epoch, metric=-epoch, metadata=metadata, is_best=True)
    assert numbered([best(server, directory, by="acc", mode="max"), best(server, directory, by="acc")]) == [1, 0]
    assert numbered(server.names(directory, order_by="best", by="acc", mode="max")) == [1, 0]
    assert refusal(get(server, "checkpoints/best", directory=directory, by="loss")) == (404, "no_best")


@pytest.mark.parametrize("path", ["checkpoints/best", "checkpoints"])
@pytest.mark.parametrize(
    ("key", "fault"), [("k" * 201, "at most 200 characters"), ("", "at least 1 character"), ("a\0", "NUL")]
)
def test_a_key_that_cannot_rank_is_refused_in_words_that_fit_text(server, directory, path, key, fault):
    server.save(directory)
    ranked = {"order_by": "best"} if path == "checkpoints" else {}
    answer = get(server, path, directory=directory, by=key, **ranked)
    assert refusal(answer) == (422, "invalid_request")
    assert fault in answer.json()["detail"]


def test_metadata_with_a_key_that_not_every_database_can_index_is_kept_but_does_not_rank(server, directory):
    longest, longer, odd = "é" * 200, "k" * 201, "a\0b"
    metadata = {longest: 1, longer: 2, odd: 3}
    server.save(directory, epoch=1, metadata=json.dumps(metadata))
    assert get(server, "checkpoints/latest", directory=directory).json()["metadata"] == metadata
    found = get(server, "checkpoints/best", directory=directory, by=longest).json()
    assert (found["epoch"], found["ranked_by"]) == (1, longest)
    for key in (odd, longer):
        for path, asked in (("checkpoints/best", {}), ("checkpoints", {"order_by": "best"})):
            answer = get(server, path, directory=directory, by=key, **asked)
            assert refusal(answer) == (422, "invalid_request"), (path, answer.text)


def test_texts_with_nul_are_refused_as_names_and_as_keys(server, directory):
    given = {"directory": directory, "name": "a.pt"}
    for wrong in ({"directory": "a\0b"}, {"name": "a\0.pt"}, {"tags": ["a\0"]}, {"tag": "\0"}):
        path = "checkpoints" if "tag" in wrong else "uploads"
        asked = given | wrong | ({} if "tag" in wrong else {"files": [{"size_bytes": 1}]})
        answer = get(server, path, **asked) if "tag" in wrong else server.http.post("/v1/uploads", json=asked)
        assert refusal(answer) == (422, "invalid_name"), wrong
    answer = server.http.post("/v1/uploads", json=given | {"writer": "a\0", "files": [{"size_bytes": 1}]})
    assert refusal(answer) == (422, "invalid_request")
    server.save(directory, epoch=1)
    page = server.http.get(f"/series/{directory}", params={"of": "a\0"}, headers={"Accept": "application/json"})
    assert page.status_code == 422


@pytest.mark.parametrize("metric", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_never_best(server, directory, metric):
    server.save(directory, epoch=1, metric=metric, is_best=True)
    assert refusal(get(server, "checkpoints/best", directory=directory)) == (404, "no_best")
    server.save(directory, epoch=2, metric=1e300)
    assert numbered([best(server, directory), best(server, directory, mode="max")]) == [2, 2]


def test_flagged_ones_without_a_metric_come_after_those_with_one(server, directory):
    for epoch in (1, 2):
        server.save(directory, epoch=epoch, is_best=True)
    assert numbered([best(server, directory)]) == [2]
    server.save(directory, epoch=0, metric=math.pi)
    assert numbered([best(server, directory)]) == [0]


def test_the_latest_is_the_newest_of_any_kind(server, directory):
    for epoch, kind in ((5, "regular"), (3, "best")):
        server.save(directory, epoch=epoch, kind=kind)
    assert get(server, "checkpoints/latest", directory=directory).json()["epoch"] == 3


@pytest.mark.parametrize(
    ("what", "query", "expected"),
    [
        pytest.param("checkpoints/best", {}, "directory_not_found", id="best of no directory"),
        pytest.param("checkpoints/latest", {}, "directory_not_found", id="latest of no directory"),
        pytest.param("checkpoints", {}, "directory_not_found", id="list of no directory"),
        pytest.param("directories/never/made", None, "directory_not_found", id="no directory"),
        pytest.param("checkpoints/0123456789abcdef", None, "checkpoint_not_found", id="no checkpoint"),
        pytest.param("checkpoints/0123456789abcdef/chunks", None, "checkpoint_not_found", id="its chunks"),
        pytest.param("checkpoints/0123456789abcdef/content", None, "checkpoint_not_found", id="its content"),
        pytest.param("uploads/0123456789abcdef", None, "upload_not_found", id="no upload"),
    ],
)
def test_what_is_not_there_has_a_code(server, directory, what, query, expected):
    found = get(server, what, **(query if query is None else {"directory": directory}) or {})
    assert refusal(found) == (404, expected)


@pytest.mark.parametrize("what", ["best", "latest", "best/content", "latest/content"])
def test_an_emptied_directory_is_known_but_holds_none(server, directory, what):
    server.save(directory, metric=1)
    server.http.delete(f"/v1/directories/{directory}").raise_for_status()
    assert refusal(get(server, f"checkpoints/{what}", directory=directory)) == (404, "no_checkpoint")
    assert get(server, f"directories/{directory}").json()["count"] == 0


def test_a_misspelt_query_parameter_is_refused(server, directory):
    server.save(directory)
    refused = get(server, "checkpoints", directory=directory, pined=True)
    assert refusal(refused) == (422, "invalid_request")
    assert "pinned" in refused.json()["known"]


def test_directories_are_listed_below_a_prefix_by_whole_components(own_server):
    for name in ("runs/b", "runs/a", "runs/a/deep", "runs/ab", "runs", "other"):
        own_server.save(name, b"12345", epoch=1, metric=2)
    own_server.save("runs/a", b"123", epoch=2, metric=1)

    def names(**query):
        return [found["directory"] for found in get(own_server, "directories", **query).json()["directories"]]

    assert names() == ["other", "runs", "runs/a", "runs/a/deep", "runs/ab", "runs/b"]
    assert names(prefix="runs/a") == ["runs/a", "runs/a/deep"]
    assert names(prefix="run") == []
    found = get(own_server, "directories", prefix="runs/a", page_size=1).json()
    (first,) = found["directories"]
    assert (first["count"], first["size_bytes"], first["sequence"]) == (2, 8, 2)
    assert (first["latest"]["epoch"], first["best"]["epoch"]) == (2, 2)
    assert first == get(own_server, "directories/runs/a").json()
    assert names(prefix="runs/a", page_token=found["next_page_token"]) == ["runs/a/deep"]
