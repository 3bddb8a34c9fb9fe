"""Envelopes: a raw body must be the file alone; forms, chunks and encodings are refused, and nothing is saved."""

import base64
import gzip
import subprocess
import zipfile
from secrets import token_hex

import pytest

from app.core.errors import Refusal, UnsupportedMediaType
from app.http.body import envelopes
from tests.data.delta_states import refusal
from tests.support.deadlines import DEADLINE_S

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
        ["curl", "-s", "-w", "\n%{http_code}", *map(str, words)], capture_output=True, check=True, timeout=DEADLINE_S
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
        (b"PK\x03\x04" + bytes(200), FORM),
        (b"\x93NUMPY\x01\x00v", FORM),
        (b"a format of its own\x00", FORM),
        (b"\x80\x04N.", FORM),
        (b"<!DOCTYPE html><html>404</html>", FORM),
        (b"version https://git-lfs.github.com/spec/v1\n", FORM),
        (b'{"error": 1}', FORM),
        (b"\x89HDF\r\n\x1a\n", FORM),
        (b"\x1f\x8b\x08", FORM),
        (b"lr = 0.1\nseed = 2\n", FORM),
        (b"weights of a model", FORM),
        (b"", RAW),
        (b"model.pt", RAW),
        (b"key=value", RAW),
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


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"model.pt",
        b"./runs/my model-1.safetensors",
        "/data/größe.ckpt".encode(),
        b"PK\x03\x04\x14",
        b"\x93NUMPY\x01",
        b"\x80\x02}q",
    ],
)
def test_the_name_of_a_file_or_what_was_cut_is_refused_with_the_type_of_a_form(head):
    for kind in (FORM, "Application/X-WWW-Form-Urlencoded; charset=utf-8"):
        with pytest.raises(UnsupportedMediaType, match=r"curl --data-binary @model\.pt"):
            envelopes.refuse_head(head, kind)


def test_a_range_of_a_text_file_is_taken_with_any_type(server, directory):
    """The length was declared earlier, so a file name sent instead of the file never becomes a checkpoint."""
    asked = {
        "directory": directory,
        "name": "f",
        "save_id": token_hex(8),
        "files": [{"size_bytes": 6, "path": "a.txt"}],
    }
    begun = server.http.post("/v1/uploads", json=asked).json()
    url, headers = f"/v1/uploads/{begun['id']}/files/a.txt", {"Content-Type": FORM}
    assert server.http.put(url, content=b"a.txt", headers=headers).status_code == 200
    assert refusal(server.http.post(f"/v1/uploads/{begun['id']}/commit")) == (409, "ranges_missing")
    assert server.http.put(url, content=b"line\n\n", headers=headers).status_code == 200
    server.http.delete(f"/v1/uploads/{begun['id']}").raise_for_status()


@pytest.mark.parametrize("words", [["-d", "{}"], ["--data-binary", "{}"], ["--data-binary", ""]])
def test_without_the_at_sign_the_name_of_a_file_is_not_kept_as_one(server, directory, file, words):
    status, answer = curl(
        *(word.format(file.name) for word in words), f"{server.url}/v1/checkpoints?directory={directory}"
    )
    assert (status, "unsupported_media_type" in answer) == (415, True)
    assert server.http.get(f"/v1/checkpoints?directory={directory}").json().get("checkpoints", []) == []


PARTS = [
    {"Content-Range": "bytes 1000-1999/2000"},
    {"content-range": "bytes */*"},
    {"Upload-Offset": "1000"},
    {"Upload-Complete": "?0"},
    {"Upload-Incomplete": "?1"},
]


@pytest.mark.parametrize("headers", PARTS, ids=lambda headers: next(iter(headers)))
def test_a_part_is_not_kept_as_the_whole(server, directory, headers):
    """RFC 9110, section 14.5."""
    answer = server.http.post("/v1/checkpoints", params={"directory": directory}, content=b"x", headers=headers)
    assert refusal(answer) == (400, "partial_body")
    asked = {"directory": directory, "name": "f.pt", "save_id": token_hex(8), "files": [{"size_bytes": 1, "path": "a"}]}
    begun = server.http.post("/v1/uploads", json=asked).json()
    for url in ("files/a", "batch?files=0"):
        answer = server.http.put(f"/v1/uploads/{begun['id']}/{url}", content=b"x", headers=headers)
        assert refusal(answer) == (400, "partial_body")
    whole = {"Upload-Offset": "0", "Upload-Complete": "?1", "Upload-Incomplete": "?0"}
    assert server.http.put(f"/v1/uploads/{begun['id']}/files/a", content=b"x", headers=whole).status_code == 200
    server.http.delete(f"/v1/uploads/{begun['id']}").raise_for_status()


def test_an_upload_that_curl_resumes_is_refused_with_the_command_that_works(server, directory, file):
    url = f"{server.url}/v1/checkpoints?directory={directory}"
    status, answer = curl("-C", "1000", "-X", "POST", "-T", file, url)
    assert (status, "without `-C`" in answer) == (400, True)
