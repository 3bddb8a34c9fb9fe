"""Validation errors: clear messages without internal names."""

import re

import pytest

from tests.data.delta_states import refusal

INSIDE = re.compile(
    r"function-|validat|Input should|literal\[|constrained|pydantic|union|\[\w+\(|_no_bool|Value error", re.I
)


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/v1/uploads", {}, "body.directory is missing"),
        ("POST", "/v1/uploads", [], "body must be an object"),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{}], "epoch": True},
            "body.epoch must be a number, not true",
        ),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "epoch": 1.5}, "body.epoch must be a whole number"),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{}], "metric": "x"},
            "body.metric must be a number or must be",
        ),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "metric": []}, "body.metric must be a number"),
        ("POST", "/v1/uploads", {"directory": "a", "files": []}, "body must have files, unless it is shared"),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{"size_bytes": -1}]},
            "body.files.0.size_bytes must be at l",
        ),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{"size_bytes": 1, "chunks": [{"length": "x"}]}]},
            "length must be a whole",
        ),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "save_id": "?"}, "body.save_id"),
        ("POST", "/v1/uploads", {"directory": 5, "files": [{}]}, "body.directory must be text"),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "metadata": 3}, "body.metadata must be an object"),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "tags": "x"}, "body.tags must be a list"),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{}], "kind": "x"},
            "body.kind must be 'regular' or 'best'",
        ),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{"size_bytes": 1}], "other": 1},
            "body.other is not a known field",
        ),
        ("PUT", "/v1/directories/a", {"keep_every_epochs": 0}, "body.keep_every_epochs must be at least 1"),
        ("PUT", "/v1/directories/a", {"keep_every_steps": 0}, "body.keep_every_steps must be at least 1"),
        ("GET", "/v1/checkpoints?directory=a&pinned=perhaps", None, "query.pinned must be true or false"),
        ("GET", "/v1/checkpoints?directory=a&metric_min=nan", None, "query.metric_min must be finite"),
        ("GET", "/v1/checkpoints?directory=a&page_size=0", None, "query.page_size must be at least 1"),
        ("POST", "/v1/prune", {}, "body"),
    ],
)
def test_validation_errors_are_clear(server, method, path, body, said):
    answer = server.http.request(method, path, json=body)
    assert refusal(answer) == (422, "invalid_request")
    assert said in answer.json()["detail"]
    assert not INSIDE.search(answer.text), answer.text


def test_invalid_json_is_a_clear_error(server):
    headers = {"Content-Type": "application/json"}
    answer = server.http.post("/v1/uploads", content=b'{"directory": ', headers=headers)
    assert "is not JSON" in answer.json()["detail"]
    assert not INSIDE.search(answer.text), answer.text


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/v1/checkpoints/{id}"),
        ("PUT", "/v1/directories/{directory}"),
        ("POST", "/v1/uploads"),
        ("POST", "/v1/uploads/{id}/commit"),
        ("POST", "/v1/prune"),
    ],
)
def test_json_without_its_type_is_asked_to_have_it(server, directory, method, path, kind):
    url = path.format(id=server.save(directory)["id"], directory=directory)
    answer = server.http.request(method, url, content=b'{"epoch": 1}', headers={"Content-Type": kind} if kind else {})
    assert refusal(answer) == (422, "invalid_request")
    assert "`Content-Type: application/json`" in answer.json()["detail"]
    assert (kind or "none") in answer.json()["detail"]


def test_json_of_another_kind_is_json(server, directory):
    headers = {"Content-Type": "Application/Merge-Patch+JSON; charset=utf-8"}
    url = f"/v1/checkpoints/{server.save(directory)['id']}"
    assert server.http.patch(url, content=b'{"pinned": true}', headers=headers).json()["pinned"] is True
    assert "body must be an object" in server.http.patch(url, content=b"[]", headers=headers).json()["detail"]


def test_a_save_that_must_improve_is_asked_for_a_metric(server, directory):
    server.save(directory, metric=0.5)
    params = {"directory": directory, "only_if_improved": True}
    answer = server.http.post("/v1/checkpoints", params=params, content=b"x")
    assert refusal(answer) == (409, "not_improved")
    assert "give it a metric" in answer.json()["detail"]


@pytest.mark.parametrize("url", ["/v1/directories/runs/mine/", "/v1/directories?prefix=runs/mine/"])
def test_a_name_outside_the_grammar_is_shown_whole(server, url):
    assert "'runs/mine/' has an empty component" in server.http.get(url).json()["detail"]
