"""A raw body is the file and nothing around it: forms, chunks and encodings are refused, and nothing is kept."""

import base64
import gzip
import subprocess
import zipfile
from secrets import token_hex

import pytest

from app import envelopes
from app.errors import Refusal
from tests.app.deltas import refusal

RAW = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"
MULTIPART = b'--abc\r\nContent-Disposition: form-data; name="file"; filename="m.pt"\r\n\r\nbytes\r\n--abc--\r\n'
SIGNED = b"5;chunk-signature=" + b"a" * 64 + b"\r\nbytes\r\n0;chunk-signature=" + b"a" * 64 + b"\r\n\r\n"
CHUNKED = b"5\r\nbytes\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A zip file, as torch writes them."""
    path = tmp_path_factory.mktemp("curl") / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(range(256)) * 20)
    return path


def curl(*words):
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", *map(str, words)], capture_output=True, check=True, timeout=60
    )
    answer, _, status = done.stdout.decode().rpartition("\n")
    return int(status), answer


@pytest.mark.parametrize("words", [["--data-binary", "@{}"], ["-X", "POST", "-T", "{}"]])
def test_the_commands_in_the_message_work(server, directory, file, words):
    status, _ = curl(*(word.format(file) for word in words), f"{server.url}/v1/checkpoints?directory={directory}")
    assert status == 201
    found = server.http.get("/v1/checkpoints/latest/content", params={"directory": directory})
    assert found.content == file.read_bytes()


@pytest.mark.parametrize(
    "words",
    [["-F", "file=@{}"], ["-d", "@{}"], ["-d", "file=@{}"], ["--data-urlencode", "file@{}"]],
    ids=["-F", "-d @file", "-d field", "--data-urlencode"],
)
def test_forms_of_curl_are_refused_with_the_command_that_works(server, directory, file, words):
    status, answer = curl(*(word.format(file) for word in words), f"{server.url}/v1/checkpoints?directory={directory}")
    assert status == 415
    assert "unsupported_media_type" in answer
    assert "--data-binary @model.pt" in answer
    assert server.http.get(f"/v1/checkpoints?directory={directory}").json().get("checkpoints", []) == []


WRAPPED = [
    pytest.param(MULTIPART, {"Content-Type": RAW}, "unsupported_media_type", id="a form that is called bytes"),
    pytest.param(
        MULTIPART, {"Content-Type": "Multipart/Related; boundary=abc"}, "unsupported_media_type", id="related"
    ),
    pytest.param(b"file=UEsDBBQ", {"Content-Type": FORM}, "unsupported_media_type", id="fields"),
    pytest.param(SIGNED, {"Content-Type": RAW}, "unsupported_encoding", id="signed chunks"),
    pytest.param(b"x", {"Content-Encoding": "aws-chunked"}, "unsupported_encoding", id="aws-chunked"),
    pytest.param(b"x", {"X-Amz-Content-Sha256": "STREAMING-X"}, "unsupported_encoding", id="a streaming S3 client"),
    pytest.param(CHUNKED, {"Content-Type": RAW}, "unsupported_encoding", id="chunks in a body"),
    pytest.param(gzip.compress(b"x"), {"Content-Encoding": "gzip"}, "unsupported_encoding", id="gzip"),
    pytest.param(b"x", {"Content-Encoding": "br, zstd"}, "unsupported_encoding", id="several encodings"),
    pytest.param(b"eA==", {"Content-Transfer-Encoding": "base64"}, "unsupported_encoding", id="base64"),
]


@pytest.mark.parametrize(("body", "headers", "code"), WRAPPED)
def test_what_is_wrapped_is_refused_by_every_route_of_bytes(server, directory, body, headers, code):
    answer = server.http.post("/v1/checkpoints", params={"directory": directory}, content=body, headers=headers)
    assert refusal(answer) == (415, code)
    assert (answer.headers.get("accept-encoding") == "identity") == (code == "unsupported_encoding")
    small, other = body[:1], {"size_bytes": 1, "path": "other"}
    asked = {"directory": directory, "name": "f.pt", "files": [{"size_bytes": len(body), "path": "a"}, other]}
    begun = server.http.post("/v1/uploads", json={**asked, "save_id": token_hex(8)}).json()
    answer = server.http.put(f"/v1/uploads/{begun['id']}/files/a", content=body, headers=headers)
    assert refusal(answer) == (415, code)
    batch = server.http.put(f"/v1/uploads/{begun['id']}/batch?files=0-1", content=body + small, headers=headers)
    assert batch.status_code == 415
    missing = server.http.get(f"/v1/uploads/{begun['id']}").json()["missing"]
    assert sum(span["length"] for span in missing) == len(body) + 1
    server.http.delete(f"/v1/uploads/{begun['id']}").raise_for_status()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/uploads"), ("POST", "/v1/prune"), ("PUT", "/v1/directories/a"), ("PATCH", "/v1/checkpoints/0")],
)
def test_json_in_an_encoding_is_refused_too(server, method, path, encoding):
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    answer = server.http.request(method, path, content=gzip.compress(b"{}"), headers=headers)
    assert refusal(answer) == (415, "unsupported_encoding")
    assert server.http.get("/v1/info", headers={"Content-Encoding": encoding}).status_code == 200


def test_an_encoding_that_changes_nothing_is_taken(server, directory):
    query = {"directory": directory}
    answer = server.http.post("/v1/checkpoints", params=query, content=b"x", headers={"Content-Encoding": "Identity"})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", FORM),
        (b"x", FORM),
        (b"PK\x03\x04" + bytes(200), FORM),
        (b"PK\x03\x04" + b"\n" * 200, FORM),
        (b"PK\x03\x04short", FORM),
        (b"key=value", RAW),
        (b"lr = 0.1\nseed = 2\n", FORM),
        (base64.b64encode(bytes(300)), RAW),
        (b"-----BEGIN CERTIFICATE-----\r\nMII", RAW),
        (b"--- # a list\r\n- Content-Type: x\r\n", RAW),
        (b"5\r\nbytes\r\nnot a chunk", RAW),
        (b"10\r\n20\r\n30\r\n", RAW),
        (b"0\r\n\r\n", RAW),
        (b"abc;chunk-signature=none\r\n", RAW),
    ],
)
def test_what_could_be_a_file_is_taken(head, kind):
    envelopes.refuse_head(head, kind)


@pytest.mark.parametrize("body", [MULTIPART, SIGNED, CHUNKED])
def test_a_long_one_is_known_by_its_beginning(body):
    with pytest.raises(Refusal):
        envelopes.refuse_head((body + bytes(envelopes.HEAD_BYTES))[: envelopes.HEAD_BYTES], RAW)
