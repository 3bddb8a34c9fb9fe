"""Large JSON bodies: answered like small ones, without blocking the event loop."""

import gc
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from app.api.schemas.requests import UploadIn
from app.http.body.json_request import LARGE_BYTES, GarbageCollection
from app.http.body.sliced_lists import SLICE
from tests.data.delta_states import Uploader, declared, pieces, refusal
from tests.support.deadlines import DEADLINE_S

CHUNK = {"length": 1}
DEEP = json.loads('{"a":' * 30 + "1" + "}" * 30)


def upload(directory, count, **more):
    return {"directory": directory, "name": "x", "files": [{"size_bytes": count, "chunks": [CHUNK] * count, **more}]}


def many(count, **faults):
    """Return a list of chunks, with some of them replaced."""
    chunks = [CHUNK] * count
    for place, fault in faults.items():
        chunks[int(place[1:])] = fault
    return {"directory": "runs/a", "name": "x", "files": [{"size_bytes": count, "chunks": chunks}]}


BAD = {
    "no object": [1],
    "null": None,
    "no JSON": '{"directory": 1,]',
    "not text": '{"directory": "\ud800"}',
    "too deep": "[" * 100_000,
    "a number": '{"directory": 1e999}',
    "unknown": {"directory": "runs/a", "files": [{"size_bytes": 1}], "odd": 1},
    "a name": {"directory": "../x", "files": [{"size_bytes": 1}]},
    "a file's name": {"directory": "runs/a", "files": [{"path": "/etc", "size_bytes": 1}]},
    "a sum": {"directory": "runs/a", "files": [{"size_bytes": 1, "chunks": [CHUNK, CHUNK]}]},
    "one chunk": many(2 * SLICE + 5, _1500={"length": 0}),
    "several chunks": many(2 * SLICE + 5, _3={"length": 1, "odd": 1}, _1999={"length": True}, _2000={}, _2004=5),
    "every chunk": many(2 * SLICE + 5) | {"files": [{"size_bytes": 1, "chunks": [{"length": -1}] * (2 * SLICE)}]},
    "too many tags": {"directory": "runs/a", "files": [{"size_bytes": 1}], "tags": ["t"] * 101},
    "NaN": '{"directory": "runs/a", "files": [{"size_bytes": NaN}], "metric": NaN}',
    "deep metadata": {
        "directory": "runs/a",
        "files": [{"size_bytes": 1}],
        "metadata": json.loads('{"a":' * 30 + "1" + "}" * 30),
    },
}


@pytest.mark.parametrize("body", BAD.values(), ids=list(BAD))
def test_a_large_body_is_refused_in_the_words_for_a_small_one(server, body):
    answers = [refused(server, body, large=large) for large in (False, True)]
    for answer in answers:
        answer.pop("request_id")
    assert answers[0] == answers[1]


def refused(server, body, *, large):
    data = (body if isinstance(body, str) else json.dumps(body)).encode("utf-8", "surrogatepass")
    data += b" " * LARGE_BYTES if large else b""  # whitespace makes the body large without changing its value
    answer = server.http.post("/v1/uploads", content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code >= 400, answer.text
    return answer.json()


def test_more_chunks_than_any_server_takes_name_the_setting(server, directory):
    answer = server.http.post("/v1/uploads", json=upload(directory, 1_000_001))
    assert refusal(answer) == (413, "too_large")
    assert "1000001 chunks" in answer.json()["detail"]
    assert "HOLDFAST_MAX_CHUNKS" in answer.json()["detail"]


def test_errors_of_parameters_are_reported_with_those_of_a_large_body(server):
    body = json.dumps({"pinned": 5}) + " " * LARGE_BYTES
    headers = {"Content-Type": "application/json"}
    answer = server.http.patch("/v1/checkpoints/" + "x" * 65, content=body, headers=headers)
    assert refusal(answer) == (422, "invalid_request")
    assert [fault["at"] for fault in answer.json()["errors"]] == ["path.checkpoint_id", "body.pinned"]
    body = json.dumps({"pinned": True}) + " " * LARGE_BYTES
    assert server.http.patch("/v1/checkpoints/nowhere", content=body, headers=headers).status_code == 404


def test_large_bodies_save_and_commit(server, directory):
    uploader, state = Uploader(server, directory), pieces(4000, 16)
    begun = uploader.begin(declared(state, hashed=False))
    uploader.put(begun, b"".join(state))
    body = declared(state)
    assert len(json.dumps(body)) > LARGE_BYTES
    answer = uploader.commit(begun, body)
    assert answer.status_code == 201, answer.text
    assert uploader.content(answer.json()["id"]) == b"".join(state)
    again = uploader.reserve(body, name="again.pt")
    assert (again.status_code, again.json()["missing_count"]) == (201, 0)


def test_garbage_is_collected_again_once_no_body_is_parsed():
    pauses = GarbageCollection()
    with pytest.raises(ZeroDivisionError), pauses.paused(), pauses.paused():
        _ = 1 / gc.isenabled()  # the digest is wrong
    assert gc.isenabled()
    with pauses.paused():
        with pauses.paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.alone
def test_the_event_loop_is_not_blocked_by_large_bodies(server, directory):
    """A probe waits for only a fraction of the time that parsing one body at once takes, measured concurrently."""
    count = 600_000
    body = json.dumps(upload(directory, count, size_bytes=count + 1)).encode()  # refused only in the end
    model_body = json.loads(body)
    model_body["files"][0]["size_bytes"] = count
    started = time.perf_counter()
    parsed = json.loads(body)
    in_one_go_s = time.perf_counter() - started
    assert len(parsed["files"][0]["chunks"]) == count
    started = time.perf_counter()
    UploadIn.model_validate(model_body)
    in_one_go_s += time.perf_counter() - started
    waits, ended = [], threading.Event()
    probe = threading.Thread(target=_probe, args=(server.url, ended, waits))
    probe.start()
    clients = [threading.Thread(target=_send, args=(server.url, body)) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    ended.set()
    probe.join()
    assert len(waits) > 10
    assert max(waits) < in_one_go_s / 2, (sorted(waits)[-5:], in_one_go_s)


def _send(url, body):
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{url}/v1/uploads", content=body, headers=headers, timeout=DEADLINE_S)
    assert answer.status_code == 422, answer.text


def _probe(url, ended, waits):
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_S)
    while not ended.is_set():
        started = time.perf_counter()
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        waits.append(time.perf_counter() - started)
        time.sleep(0.002)
    connection.close()
