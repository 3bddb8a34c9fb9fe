"""Requests that must be refused."""

import http.client
import json
from urllib.parse import urlsplit

from app.core import digests
from tests.support.deadlines import DEADLINE_S

CHUNK = {"length": 5, "digest": digests.of_chunk(b"bytes")}
FILE = {"size_bytes": 5, "chunks": [CHUNK]}


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:holdfast:problem:{problem['code']}"
    assert problem["detail"]
    return answer.status_code, problem["code"]


def raw(server, method, target, body=b"", **headers):
    """Send a request whose target is not normalised."""
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=DEADLINE_S)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status, json.loads(answer.read())["code"]
    finally:
        connection.close()


def save(server, **query):
    return server.http.post("/v1/checkpoints", params={"directory": "never/made", **query}, content=b"bytes")


def reserve(server, **changed):
    body = {"directory": "never/made", "files": [FILE], **changed}
    return server.http.post("/v1/uploads", content=json.dumps(body), headers={"Content-Type": "application/json"})
