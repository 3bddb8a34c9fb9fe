"""Lists, the best and the latest: queries over what was committed."""

import base64
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
    """The epochs of names that were made of them."""
    return [int(name.removesuffix(".pt").rpartition("_")[2]) for name in names]


@pytest.fixture
def filled(server, directory):
    """A directory of five: sizes fall, one is pruned by hand, metrics are 5, NaN, none, 1, 3."""
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


@pytest.fixture(scope="module")
def varied(server):
    """A directory of eleven, with equal and missing values of everything."""
    for number in range(11):
        facts = {"epoch": number % 3} if number % 4 else {}
        facts |= {"metric": number % 2} if number % 3 else {"is_best": True}
        server.save("finding/varied", b"x" * (number % 5 + 1), name=f"{number}.pt", **facts)
    return "finding/varied"


@pytest.mark.parametrize("size", [1, 4, 11])
@pytest.mark.parametrize(
    "order",
    ["position", "-position", "best", "epoch", "-epoch", "metric", "-metric", "name", "-name", "size_bytes"],
)
def test_pages_add_up_to_the_whole_list(server, varied, order, size):
    names, token = [], {}
    while token is not None:
        page = get(server, "checkpoints", directory=varied, order_by=order, page_size=size, **token).json()
        assert 0 < len(page["checkpoints"]) <= size
        names += [checkpoint["name"] for checkpoint in page["checkpoints"]]
        token = {"page_token": page["next_page_token"]} if page["next_page_token"] else None
    assert names == server.names(varied, order_by=order)
    assert len(set(names)) == 11


def test_pages_are_stable_while_checkpoints_come_and_go(server, directory):
    saved = [server.save(directory, epoch=epoch) for epoch in range(6)]
    page = get(server, "checkpoints", directory=directory, page_size=3).json()
    server.http.delete(f"/v1/checkpoints/{saved[2]['id']}").raise_for_status()
    server.save(directory, epoch=6)
    assert numbered(server.names(directory, page_token=page["next_page_token"])) == [3, 4, 5, 6]


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


def token_of(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("x", id="not base64"),
        pytest.param("é", id="not ascii"),
        pytest.param("AAAA", id="not json"),
        pytest.param("", id="empty"),
        pytest.param(token_of(7), id="a number"),
        pytest.param(token_of([["directories", ""], [1]]), id="of another listing"),
    ],
)
def test_a_damaged_page_token_is_refused(server, varied, token):
    assert refusal(get(server, "checkpoints", directory=varied, page_token=token)) == (422, "invalid_request")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param([1], id="too short"),
        pytest.param([], id="empty"),
        pytest.param(["a", "b", "c", "d"], id="too long"),
        pytest.param([2**70, 1], id="a number beyond SQL"),
        pytest.param([None, {}], id="no values"),
        pytest.param(5, id="no list"),
        pytest.param(["\ud800", 1], id="no text"),
    ],
)
def test_a_page_token_of_our_shape_with_another_key_is_refused(server, varied, key):
    token = token_of([[varied, "position", "min", None], key])
    assert refusal(get(server, "checkpoints", directory=varied, page_token=token)) == (422, "invalid_request")


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
