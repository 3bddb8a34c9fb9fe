"""Invalid input: refused with a status and a code, without effect."""

import json

import pytest

from tests.app.api.refusals.requests import CHUNK, FILE, raw, refusal, reserve, save

REQUEST = (422, "invalid_request")


def reserve_text(server, text):
    text = text if isinstance(text, bytes) else text.encode()
    return server.http.post("/v1/uploads", content=text, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"epoch": -1}, id="negative epoch"),
        pytest.param({"epoch": 1.5}, id="half an epoch"),
        pytest.param({"epoch": "9" * 5000}, id="endless epoch"),
        pytest.param({"epoch": 2**53}, id="epoch beyond exact"),
        pytest.param({"epoch": ""}, id="no epoch"),
        pytest.param({"max_checkpoints": -1}, id="negative limit"),
        pytest.param({"keep_every_epochs": 0}, id="every 0 epochs"),
        pytest.param({"mode": "average"}, id="no mode"),
        pytest.param({"kind": "other"}, id="no kind"),
        pytest.param({"pinned": "maybe"}, id="no boolean"),
        pytest.param({"save_id": "short"}, id="short save_id"),
        pytest.param({"save_id": "../../etc"}, id="save_id no word"),
        pytest.param({"writer": "a\nb"}, id="writer of two lines"),
        pytest.param({"saved_after": -1}, id="negative saved_after"),
        pytest.param({"unknown": 1}, id="unknown"),
        pytest.param({"metadata": "[" * 100_00 + "]" * 100_00}, id="deep metadata"),
        pytest.param({"metadata": '{"a": ' * 30 + "1" + "}" * 30}, id="deep object"),
        pytest.param({"metadata": r'{"a": "\ud800"}'}, id="lone surrogate"),
        pytest.param({"metadata": '{"a": ' + "9" * 5000 + "}"}, id="endless integer"),
        pytest.param({"metadata": f'{{"a": {"9" * 4301}}}'}, id="integer of too many digits"),
    ],
)
def test_a_save_with_facts_that_cannot_be_meant_is_refused(server, query):
    assert refusal(save(server, **query)) == REQUEST


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": 0},
        {"page_size": 1001},
        {"order_by": "random"},
        {"mode": "avg"},
        {"by": ""},
        {"metric_min": "NaN"},
        {"metric_max": "1e999"},
        {"epoch_min": -1},
        {"pinned": "x"},
        {"kind": "x"},
    ],
    ids=str,
)
def test_a_listing_that_cannot_be_meant_is_refused(server, query):
    assert refusal(server.http.get("/v1/checkpoints", params={"directory": "never/made", **query})) == REQUEST


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"unknown": 1}, id="unknown field"),
        pytest.param({"policy": {"max": 1}}, id="unknown limit"),
        pytest.param({"files": [{**FILE, "kind": 7}]}, id="unknown in a file"),
        pytest.param({"directory": 7}, id="directory a number"),
        pytest.param({"directory": None}, id="no directory"),
        pytest.param({"epoch": True}, id="epoch a boolean"),
        pytest.param({"metric": True}, id="metric a boolean"),
        pytest.param({"metadata": []}, id="metadata a list"),
        pytest.param({"metadata": {"a": "\ud800"}}, id="lone surrogate in metadata"),
        pytest.param({"metadata": {"\ud800": 1}}, id="lone surrogate in a key"),
        pytest.param({"metadata": {"a": "x" * 1_100_000}}, id="much metadata"),
        pytest.param({"files": []}, id="no files"),
        pytest.param({"files": [{**FILE, "size_bytes": 6}]}, id="chunks that do not add up"),
        pytest.param({"files": [{**FILE, "size_bytes": -1}]}, id="negative size"),
        pytest.param({"files": [{"size_bytes": 0, "chunks": [{**CHUNK, "length": 0}]}]}, id="empty chunk"),
        pytest.param({"files": [{**FILE, "chunks": [{"length": 5, "digest": "00"}]}]}, id="short digest"),
        pytest.param({"files": [{"size_bytes": 2**24, "chunks": [{**CHUNK, "length": 2**24}]}]}, id="long chunk"),
        pytest.param({"files": [{**FILE, "path": "a"}] * 2}, id="a path twice"),
        pytest.param({"files": [{**FILE, "path": "a"}, {**FILE, "path": "a/b"}]}, id="a file that is a folder"),
        pytest.param({"files": [FILE, {**FILE, "path": "a"}]}, id="a file without a path"),
        pytest.param({"files": [{**FILE, "tensors": [{"name": "a", "dtype": "f", "shape": [-1]}]}]}, id="tensor shape"),
    ],
)
def test_an_upload_that_cannot_be_meant_is_refused(server, changed):
    assert refusal(reserve(server, **changed)) == REQUEST


@pytest.mark.parametrize("name", ["directory", "name", "tags", "path"])
def test_a_lone_surrogate_in_a_name_is_refused(server, name):
    bad = "a\ud800b"
    changed = {"tags": {"tags": [bad]}, "path": {"files": [{**FILE, "path": bad}]}}.get(name, {name: bad})
    assert refusal(reserve(server, **changed)) in ((422, "invalid_name"), REQUEST)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"directory": "a", "files": [{"size_bytes": 1}], "metric": NaN}', id="NaN"),
        pytest.param('{"directory": "a", "files": [{"size_bytes": 1}], "metric": -Infinity}', id="Infinity"),
        pytest.param('{"directory": "a", "files": [{"size_bytes": 1}], "metric": 1e999}', id="1e999"),
        pytest.param('{"directory": "a", "files": [{"size_bytes": 1}], "metadata": {"a": [NaN]}}', id="NaN within"),
        pytest.param('{"directory": "a", "files": [{"size_bytes": 1}], "epoch": %s}' % ("9" * 5000), id="endless"),
        pytest.param('{"directory": "a", "files": [{"size_bytes": 1}], "x": %s}' % ("9" * 5000), id="endless unknown"),
        pytest.param('{"metadata": ' + "[" * 100_000, id="deep and open"),
        pytest.param('{"metadata": ' + "[" * 100_000 + "]" * 100_000 + "}", id="deep"),
        pytest.param('{"metadata": ' + '{"a":' * 100_000 + "1" + "}" * 100_001, id="deep objects"),
        pytest.param("", id="empty"),
        pytest.param("{", id="cut off"),
        pytest.param("hello", id="no json"),
        pytest.param("[]", id="a list"),
        pytest.param('"text"', id="a text"),
        pytest.param("null", id="null"),
        pytest.param(b"\xff\xfe", id="no utf-8"),
        pytest.param(b'{"directory": "\xff"}', id="no utf-8 within"),
        pytest.param("\0", id="NUL"),
    ],
)
def test_a_body_that_is_not_our_json_is_refused(server, text):
    assert refusal(reserve_text(server, text)) == REQUEST


def test_json_that_does_not_say_so_is_refused(server):
    body = json.dumps({"directory": "never/made", "files": [FILE]})
    assert refusal(server.http.post("/v1/uploads", content=body)) == REQUEST
    assert refusal(server.http.post("/v1/uploads", content=body, headers={"Content-Type": "text/plain"})) == REQUEST


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        pytest.param("GET", "/v1/nothing", (404, "not_found"), id="unknown route"),
        pytest.param("GET", "/v2/checkpoints", (404, "not_found"), id="unknown version"),
        pytest.param("POST", "/v1/checkpoints/best", (405, "method_not_allowed"), id="POST to a query"),
        pytest.param("PATCH", "/v1/checkpoints", (405, "method_not_allowed"), id="PATCH of a list"),
        pytest.param("PROPFIND", "/v1/info", (405, "method_not_allowed"), id="another method"),
        pytest.param("GET", "/v1/checkpoints/a.b", REQUEST, id="an id with a dot"),
        pytest.param("GET", "/v1/checkpoints/" + "a" * 65, REQUEST, id="a long id"),
        pytest.param("GET", "/v1/uploads/..%2f..", (404, "not_found"), id="an id with slashes"),
        pytest.param("GET", "/v1/info?x=1", REQUEST, id="a query where none is"),
        pytest.param("GET", "/v1/checkpoints", REQUEST, id="no directory"),
    ],
)
def test_an_address_that_is_not_there_is_refused(server, method, target, expected):
    assert raw(server, method, target) == expected
