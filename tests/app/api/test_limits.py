"""Limits of requests: operators may lower them; values above are refused by name or clamped."""

import json

import pytest

from tests.data.delta_states import Uploader, declared, pieces, refusal
from tests.support.live import LiveServer

SMALL = {
    "max_metadata_bytes": "100",
    "max_metadata_depth": "3",
    "max_files": "2",
    "max_chunks": "3",
    "max_tensors": "2",
    "max_tags": "2",
    "max_page_size": "2",
}
TENSOR = {"name": "w", "dtype": "float32", "shape": [1]}
FILE = {"size_bytes": 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server with low limits."""
    with LiveServer(tmp_path_factory.mktemp("limits") / "root", **SMALL) as live:
        yield live


def chunks(count):
    return {"size_bytes": count, "chunks": [{"length": 1}] * count}


def folder(*files):
    return {"files": [{**file, "path": f"{place}.bin"} for place, file in enumerate(files)]}


@pytest.mark.parametrize(
    ("most", "more", "setting"),
    [
        pytest.param({"metadata": {"a": "x" * 80}}, {"metadata": {"a": "x" * 110}}, "METADATA_BYTES", id="metadata"),
        pytest.param(folder(FILE, FILE), folder(FILE, FILE, FILE), "FILES", id="files"),
        pytest.param(folder(chunks(3)), folder(chunks(4)), "CHUNKS", id="chunks of a file"),
        pytest.param(folder(chunks(2), chunks(1)), folder(chunks(2), chunks(2)), "CHUNKS", id="chunks of two files"),
        pytest.param(
            folder({**FILE, "tensors": [TENSOR] * 2}),
            folder({**FILE, "tensors": [TENSOR] * 2}, {**FILE, "tensors": [TENSOR]}),
            "TENSORS",
            id="tensors of two files",
        ),
        pytest.param({"tags": ["a", "b"]}, {"tags": ["a", "b", "c"]}, "TAGS", id="tags"),
    ],
)
def test_a_save_beyond_a_bound_is_refused_by_the_name_of_the_setting(small, directory, most, more, setting):
    body = {"directory": directory, "name": "x", "files": [FILE]}
    before = small.incoming()
    answer = small.http.post("/v1/uploads", json=body | more)
    assert refusal(answer) == (413, "too_large")
    assert f"HOLDFAST_MAX_{setting} " in answer.json()["detail"]
    assert small.http.get(f"/v1/directories/{directory}").status_code == 404
    assert small.incoming() == before
    upload = small.http.post("/v1/uploads", json=body | most)
    assert upload.status_code == 201, upload.text
    small.http.delete(f"/v1/uploads/{upload.json()['id']}").raise_for_status()


def test_a_save_in_one_request_has_the_same_bounds(small, directory):
    query = {"directory": directory, "metadata": json.dumps({"a": "x" * 110})}
    assert refusal(small.http.post("/v1/checkpoints", params=query, content=b"x")) == (413, "too_large")
    query = {"directory": directory, "tags": ["a", "b", "c"]}
    assert refusal(small.http.post("/v1/checkpoints", params=query, content=b"x")) == (413, "too_large")
    small.save(directory, b"x", metadata=json.dumps({"a": "x" * 80}))


def test_what_a_change_gives_is_bounded_and_what_is_there_stays(small, directory):
    saved = small.save(directory, b"x", metadata=json.dumps({"a": "x" * 60}))
    place = f"/v1/checkpoints/{saved['id']}"
    assert refusal(small.http.patch(place, json={"metadata": {"b": "x" * 60}})) == (413, "too_large")
    assert refusal(small.http.patch(place, json={"tags": ["a", "b", "c"]})) == (413, "too_large")
    assert refusal(small.http.patch(place, json={"metadata": {"b": [[[1]]]}})) == (422, "invalid_request")
    assert small.http.patch(place, json={"metadata": {"b": 1}, "tags": ["a", "b"], "pinned": True}).status_code == 200


def test_metadata_that_is_too_deep_is_refused(small, directory):
    body = {"directory": directory, "files": [FILE], "metadata": {"a": {"b": {"c": 1}}}}
    assert small.http.post("/v1/uploads", json=body).status_code == 201
    answer = small.http.post("/v1/uploads", json={**body, "metadata": {"a": {"b": {"c": [1]}}}})
    assert refusal(answer) == (422, "invalid_request")
    assert "deeper than 3" in answer.json()["detail"]


def test_chunks_declared_at_the_commit_are_bounded(small, directory):
    uploader, state = Uploader(small, directory), pieces(4)
    upload = uploader.begin({"size_bytes": sum(map(len, state))})
    uploader.put(upload, b"".join(state))
    place = f"/v1/uploads/{upload['id']}/commit"
    answer = small.http.post(place, json={"files": [{"chunks": declared(state)["chunks"]}]})
    assert refusal(answer) == (413, "too_large")
    assert "HOLDFAST_MAX_CHUNKS " in answer.json()["detail"]
    assert small.http.post(place).status_code == 201


@pytest.mark.parametrize("asked", [{}, {"page_size": 3}, {"page_size": 1000}], ids=["by default", "three", "the most"])
def test_a_page_is_bounded_and_continues(small, directory, asked):
    for epoch in range(5):
        small.save(f"{directory}/{epoch}", b"x")
        small.save(directory, b"x", epoch=epoch)
    for url, key, query in (
        ("/v1/checkpoints", "checkpoints", {"directory": directory}),
        ("/v1/directories", "directories", {"prefix": directory}),
    ):
        names, sizes, token = [], [], {}
        while token is not None:
            page = small.http.get(url, params=query | asked | token).json()
            names += [entry.get("name", entry["directory"]) for entry in page[key]]
            sizes.append(len(page[key]))
            token = {"page_token": page["next_page_token"]} if page["next_page_token"] else None
        assert max(sizes) == 2
        assert len(set(names)) == len(names) >= 5


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("[" * 100_000 + "]" * 100_000, id="arrays"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, id="objects"),
        pytest.param("[" * 100_000, id="arrays that do not end"),
        pytest.param("[" * 300 + "]" * 300, id="not too deep for the parser"),
        pytest.param('{"a":' * 300 + "1" + "}" * 300, id="objects, not too deep for the parser"),
    ],
)
@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        pytest.param("POST", "/v1/uploads", "%s", id="a whole body"),
        pytest.param("POST", "/v1/uploads", '{"directory": "a", "files": [{"size_bytes": 1}], "metadata": %s}', id="m"),
        pytest.param(
            "POST", "/v1/uploads", '{"directory": "a", "files": [{"size_bytes": 1}], "epoch": %s}', id="epoch"
        ),
        pytest.param("POST", "/v1/uploads", '{"directory": "a", "files": %s}', id="files"),
        pytest.param("POST", "/v1/uploads", '{"unknown": %s}', id="an unknown field"),
        pytest.param("POST", "/v1/uploads/0123/commit", '{"files": %s}', id="a commit"),
        pytest.param("PATCH", "/v1/checkpoints/0123", '{"tags": %s}', id="a change"),
        pytest.param("PATCH", "/v1/checkpoints/0123", '{"metadata": {"a": %s}}', id="metadata of a change"),
        pytest.param("PUT", "/v1/directories/a", '{"mode": %s}', id="a policy"),
        pytest.param("POST", "/v1/prune", '{"prefix": %s}', id="a prune"),
    ],
)
def test_json_that_is_nested_deeply_is_refused_wherever_it_stands(small, method, url, body, value):
    headers = {"Content-Type": "application/json"}
    answer = small.http.request(method, url, content=body.replace("%s", value), headers=headers)
    assert refusal(answer) == (422, "invalid_request")
    assert len(answer.content) < 20_000
    assert "Traceback" not in small.log()


@pytest.mark.parametrize(("setting", "value"), [("FILES", "10001"), ("CHUNKS", "0"), ("METADATA_DEPTH", "21")])
def test_no_bound_is_wider_than_the_apis_own(tmp_path, setting, value):
    with (
        pytest.raises(RuntimeError, match=f"HOLDFAST_MAX_{setting}: "),
        LiveServer(tmp_path / "root", **{f"max_{setting.lower()}": value}),
    ):
        pass


@pytest.mark.parametrize(
    ("more", "setting"),
    [
        pytest.param(
            {"files": [{"path": f"{place}", "size_bytes": 1} for place in range(10_001)]}, "FILES", id="files"
        ),
        pytest.param({"tags": [f"t{place}" for place in range(101)]}, "TAGS", id="tags"),
    ],
)
def test_what_no_server_takes_is_refused_by_the_name_of_the_setting_too(server, directory, more, setting):
    answer = server.http.post("/v1/uploads", json={"directory": directory, "name": "x", "files": [FILE]} | more)
    assert refusal(answer) == (413, "too_large")
    assert f"HOLDFAST_MAX_{setting}" in answer.json()["detail"]


def test_a_refusal_names_alternatives(small, directory):
    three = small.http.post("/v1/uploads", json={"directory": directory, "name": "x", **folder(FILE, FILE, FILE)})
    assert "may be set to 10000 at most. Pack some of them into one file" in three.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "save", "setting"),
    [
        pytest.param({"quotas": '{"": {"max_bytes": 1}}'}, {}, "QUOTAS", id="a quota"),
        pytest.param({"reserve_bytes": str(2**60)}, {}, "RESERVE_BYTES", id="the disk"),
        pytest.param({"max_metadata_bytes": "9"}, {"metadata": {"a": "x" * 99}}, "MAX_METADATA_BYTES", id="metadata"),
        pytest.param({"max_metadata_depth": "1"}, {"metadata": {"a": [[[1]]]}}, "MAX_METADATA_DEPTH", id="its depth"),
        pytest.param({}, {"metadata": {"a": "x" * (2**20 + 1)}}, "MAX_METADATA_BYTES", id="far too much metadata"),
        pytest.param({"max_json_bytes": "99"}, {"metadata": {"a": "x" * 99}}, "MAX_JSON_BYTES", id="a body"),
        pytest.param({"max_uploads_per_token": "1"}, {}, "MAX_UPLOADS_PER_TOKEN", id="uploads"),
        pytest.param({"max_header_bytes": "4096"}, {"head": "x" * 300_000}, "MAX_HEADER_BYTES", id="headers"),
    ],
)
def test_every_limit_is_refused_by_the_name_of_its_setting(make_server, settings, save, setting):
    live = make_server(**settings)
    headers = {"X-Long": save.get("head", "")}
    for name in ("a", "b"):
        body = {"directory": "runs", "name": name, "files": [{"size_bytes": 9}]}
        body |= {key: value for key, value in save.items() if key != "head"}
        answer = live.http.post("/v1/uploads", json=body, headers=headers)
    assert answer.status_code in {413, 422, 429, 431, 507}, answer.text
    assert f"HOLDFAST_{setting}" in answer.json()["detail"], answer.text
