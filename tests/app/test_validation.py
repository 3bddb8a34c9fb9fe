"""What is not valid is said in words, and without names from inside the program."""

import re

import pytest

from tests.app.deltas import refusal

INSIDE = re.compile(
    r"function-|validat|Input should|literal\[|constrained|pydantic|union|\[\w+\(|_no_bool|Value error", re.I
)


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/v1/uploads", {}, "body.directory is missing"),
        ("POST", "/v1/uploads", [], "body must be an object"),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "epoch": True}, "body.epoch true and false are not"),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "epoch": 1.5}, "body.epoch must be a whole number"),
        (
            "POST",
            "/v1/uploads",
            {"directory": "a", "files": [{}], "metric": "x"},
            "body.metric must be a number or must be",
        ),
        ("POST", "/v1/uploads", {"directory": "a", "files": [{}], "metric": []}, "body.metric must be a number"),
        ("POST", "/v1/uploads", {"directory": "a", "files": []}, "body.files must have at least 1 entries"),
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
            "body.other is not known here",
        ),
        ("PUT", "/v1/directories/a", {"keep_every_epochs": 0}, "body.keep_every_epochs must be at least 1"),
        ("GET", "/v1/checkpoints?directory=a&pinned=perhaps", None, "query.pinned must be true or false"),
        ("GET", "/v1/checkpoints?directory=a&metric_min=nan", None, "query.metric_min must be finite"),
        ("GET", "/v1/checkpoints?directory=a&page_size=0", None, "query.page_size must be at least 1"),
        ("POST", "/v1/prune", {}, "body"),
    ],
)
def test_what_is_not_valid_is_said_in_words(server, method, path, body, said):
    answer = server.http.request(method, path, json=body)
    assert refusal(answer) == (422, "invalid_request")
    assert said in answer.json()["detail"]
    assert not INSIDE.search(answer.text), answer.text


def test_json_that_is_none_is_said_in_words(server):
    headers = {"Content-Type": "application/json"}
    answer = server.http.post("/v1/uploads", content=b'{"directory": ', headers=headers)
    assert "is not JSON" in answer.json()["detail"]
    assert not INSIDE.search(answer.text), answer.text
