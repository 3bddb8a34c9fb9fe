"""Uploads: reserve, send ranges, commit; and incomplete uploads."""

import socket
from urllib.parse import urlsplit

import pytest

from app.core import digests
from tests.support.live import eventually

DATA = bytes(range(256)) * 40


def chunks(data, length=4000):
    pieces = [data[start : start + length] for start in range(0, len(data), length)]
    return [{"length": len(piece), "digest": digests.of_chunk(piece)} for piece in pieces]


def declared(data=DATA, **more):
    return {"size_bytes": len(data), "chunks": chunks(data), **more}


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def reserve(server, directory, *files, **more):
    body = {"directory": directory, "files": list(files) or [declared()], **more}
    return server.http.post("/v1/uploads", json=body)


def begin(server, directory, *files, **more):
    answer = reserve(server, directory, *files, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def send(server, upload, contents=DATA):
    for wanted in upload["missing"]:
        data = contents[wanted["file"]] if isinstance(contents, dict) else contents
        body = data[wanted["offset"] : wanted["offset"] + wanted["length"]]
        answer = server.http.request(wanted["method"], wanted["url"], content=body, headers=wanted["headers"])
        assert answer.status_code == 200, answer.text


def put(server, upload, data, offset=0, path=None, **query):
    url = f"/v1/uploads/{upload['id']}/files/{path or upload['name']}"
    return server.http.put(url, params={"offset": offset, **query}, content=data)


def commit(server, upload, body=None):
    return server.http.post(f"/v1/uploads/{upload['id']}/commit", json=body)


def missing(server, upload):
    found = server.http.get(f"/v1/uploads/{upload['id']}").json()["missing"]
    return [(wanted["file"], wanted["offset"], wanted["length"]) for wanted in found]


@pytest.mark.parametrize(
    ("promise", "at_commit"),
    [
        pytest.param(declared(), None, id="chunks declared"),
        pytest.param({"size_bytes": len(DATA)}, None, id="only the size"),
        pytest.param({"size_bytes": len(DATA)}, {"files": [{"chunks": chunks(DATA, 3000)}]}, id="chunks at commit"),
        pytest.param(declared(), {"files": [{"chunks": chunks(DATA)}]}, id="chunks twice"),
    ],
)
def test_reserve_send_commit_makes_a_checkpoint(server, directory, promise, at_commit):
    upload = begin(server, directory, promise, epoch=5, metric=0.5, save_id="upload-0001")
    assert (upload["state"], upload["name"]) == ("open", "checkpoint_epoch_0005.pt")
    send(server, upload)
    committed = commit(server, upload, at_commit)
    assert committed.status_code == 201
    assert (committed.json()["id"], committed.json()["epoch"], committed.json()["metric"]) == (upload["id"], 5, 0.5)
    assert (server.root / directory / upload["name"]).read_bytes() == DATA
    assert upload["id"] not in server.incoming()


def test_nothing_is_seen_of_an_upload_before_its_commit(server, directory):
    upload = begin(server, directory)
    send(server, upload)
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404
    assert server.http.get(f"/v1/checkpoints/{upload['id']}").status_code == 404
    assert not (server.root / directory / upload["name"]).exists()


def test_a_checkpoint_may_be_a_folder_of_files(server, directory):
    contents = {"a.bin": DATA, "sub/deep/b.bin": b"b" * 9999, ".metadata": b"m", "empty": b""}
    files = [declared(data, path=path) for path, data in contents.items()]
    upload = begin(server, directory, *files, name="checkpoint-500")
    assert "empty" not in {wanted["file"] for wanted in upload["missing"]}
    send(server, upload, contents)
    committed = commit(server, upload).json()
    assert [file["path"] for file in committed["files"]] == sorted(contents)
    assert committed["size_bytes"] == sum(map(len, contents.values()))
    for path, data in contents.items():
        assert (server.root / directory / "checkpoint-500" / path).read_bytes() == data
        assert server.http.get(f"/v1/checkpoints/{upload['id']}/files/{path}").content == data


def test_a_file_that_is_empty_needs_no_bytes(server, directory):
    upload = begin(server, directory, {"size_bytes": 0}, epoch=1)
    assert upload["missing"] == []
    assert commit(server, upload).json()["size_bytes"] == 0


def test_resuming_is_asking_what_is_missing_and_sending_that(server, directory):
    upload = begin(server, directory)
    name = upload["name"]
    assert put(server, upload, DATA[4000:8000], offset=4000).json() == {"file": name, "offset": 4000, "length": 4000}
    assert missing(server, upload) == [(name, 0, 4000), (name, 8000, 2240)]
    refused = commit(server, upload)
    assert refusal(refused) == (409, "ranges_missing")
    assert refused.json()["missing"] == [
        {"file": name, "offset": 0, "length": 4000},
        {"file": name, "offset": 8000, "length": 2240},
    ]
    send(server, server.http.get(f"/v1/uploads/{upload['id']}").json())
    assert commit(server, upload).status_code == 201


def test_bytes_with_another_digest_are_not_written(server, directory):
    upload = begin(server, directory)
    wrong = DATA[:4000] + b"x" * 4000
    refused = put(server, upload, wrong)
    assert refusal(refused) == (422, "digest_mismatch")
    assert (refused.json()["offset"], refused.json()["length"]) == (4000, 4000)
    assert missing(server, upload) == [(upload["name"], 4000, 6240)]
    file = server.root / ".holdfast" / "incoming" / upload["id"] / "files" / upload["name"]
    assert file.read_bytes().rstrip(b"\0") == DATA[:4000].rstrip(b"\0")


def test_digests_that_come_with_the_commit_are_verified(server, directory):
    upload = begin(server, directory, {"size_bytes": len(DATA)}, epoch=1)
    send(server, upload)
    wrong = {"files": [{"chunks": chunks(DATA[::-1])}]}
    short = {"files": [{"chunks": chunks(DATA)[:-1]}]}
    assert refusal(commit(server, upload, wrong)) == (422, "digest_mismatch")
    assert refusal(commit(server, upload, short)) == (422, "wrong_length")
    unknown = {"files": [{"path": "other", "chunks": chunks(DATA)}]}
    assert refusal(commit(server, upload, unknown)) == (404, "file_not_found")
    assert commit(server, upload, {"files": [{"chunks": chunks(DATA)}]}).status_code == 201


@pytest.mark.parametrize(
    ("body", "query", "expected"),
    [
        pytest.param(DATA[:4000], {"length": 3999}, (422, "wrong_length"), id="longer than declared"),
        pytest.param(DATA[:4000], {"length": 8000}, (422, "wrong_length"), id="shorter than declared"),
        pytest.param(iter([DATA[:4000]]), {"length": 8000}, (422, "wrong_length"), id="shorter, no Content-Length"),
        pytest.param(iter([DATA[:4001]]), {"length": 4000}, (422, "wrong_length"), id="longer, no Content-Length"),
        pytest.param(iter([DATA[:4000]]), {}, (422, "wrong_length"), id="no length at all"),
        pytest.param(DATA[:4000], {"offset": 8000}, (422, "wrong_length"), id="beyond the file"),
        pytest.param(DATA[1:4000], {"offset": 1}, (422, "range_misaligned"), id="begins within a chunk"),
        pytest.param(DATA[:3999], {}, (422, "range_misaligned"), id="ends within a chunk"),
        pytest.param(DATA[:4000], {"path": "other.pt"}, (404, "file_not_found"), id="of no file"),
        pytest.param(DATA[:4000], {"offset": -1}, (422, "invalid_request"), id="a negative offset"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(server, directory, body, query, expected):
    upload = begin(server, directory)
    assert refusal(put(server, upload, body, **query)) == expected
    assert commit(server, upload).status_code == 409
    send(server, server.http.get(f"/v1/uploads/{upload['id']}").json())
    assert commit(server, upload).status_code == 201


def test_a_body_that_breaks_off_leaves_its_range_missing(server, directory):
    upload = begin(server, directory)
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port)) as connection:
        head = f"PUT {upload['missing'][0]['url']} HTTP/1.1\r\nHost: {where.netloc}\r\n"
        connection.sendall(head.encode() + b"Content-Length: 10240\r\n\r\n" + DATA[:5000])
    rest = [(upload["name"], 4000, 6240)]
    assert eventually(lambda: missing(server, upload) in (rest, [(upload["name"], 0, 10240)]))
    assert refusal(commit(server, upload)) == (409, "ranges_missing")
    send(server, server.http.get(f"/v1/uploads/{upload['id']}").json())
    assert commit(server, upload).status_code == 201
    assert (server.root / directory / upload["name"]).read_bytes() == DATA


def test_a_range_may_be_sent_again(server, directory):
    upload = begin(server, directory)
    for _ in range(2):
        send(server, upload)
    assert put(server, upload, DATA[4000:8000], offset=4000).status_code == 200
    assert commit(server, upload).status_code == 201
    assert (server.root / directory / upload["name"]).read_bytes() == DATA


@pytest.mark.parametrize(
    "first",
    [declared(chunks=chunks(DATA, 5120)), declared(chunks=[{"length": 5120}] * 2)],
    ids=["with digests", "with lengths only"],
)
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({}, {"saved_after": 1}, 1, id="begun directly, ended late"),
        pytest.param({"saved_after": 1}, {}, 1, id="late all the same"),
        pytest.param({"saved_after": 0}, {"saved_after": 1}, 0, id="the first word stands"),
        pytest.param({}, {}, 1, id="direct all the same"),
        pytest.param({}, {"saved_after": 3}, 1, id="nothing moves it forward"),
        pytest.param({}, {"saved_after": 0}, 0, id="its writer never had the answer"),
    ],
)
def test_the_place_of_a_save_is_fixed_by_its_first_reservation(server, directory, first, before, after, expected):
    server.save(directory, epoch=1)
    facts = {"epoch": 2, "save_id": "begun-directly"}
    upload = begin(server, directory, first, **facts, **before)
    put(server, upload, DATA[:5120])
    for epoch in (3, 4):
        server.save(directory, b"newer work", epoch=epoch)
    answer = reserve(server, directory, declared(chunks=chunks(DATA, 5120)), **facts, **after)
    assert (answer.status_code, answer.json()["id"]) == (200, upload["id"])
    assert answer.json()["saved_after"] == expected <= upload["saved_after"]
    send(server, answer.json())
    committed = commit(server, upload)
    assert committed.status_code == 201, committed.text
    assert (committed.json()["sequence"], committed.json()["saved_after"]) == (
        4 if before == {"saved_after": 0} else 5,
        expected,
    )
    latest = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert latest["epoch"] == 4


def test_saves_of_a_writer_stay_in_order_if_the_answer_to_a_reservation_was_lost(server, directory):
    whole = declared(chunks=chunks(DATA, 5120))
    server.save(directory, epoch=0)
    begin(server, directory, whole, epoch=1, save_id="abandoned")  # what begins now comes after this one
    lost = begin(server, directory, whole, epoch=2, save_id="unanswered")
    assert lost["saved_after"] == 2
    known = {"saved_after": 1}  # so the writer still believes, and so it notes its next save
    again = reserve(server, directory, whole, epoch=2, save_id="unanswered", **known).json()
    send(server, again)
    assert commit(server, again).json()["saved_after"] == 1
    server.save(directory, b"the next one", epoch=3, **known)
    latest = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert latest["epoch"] == 3
    begun_later = begin(server, directory, whole, epoch=4, save_id="begun-later")
    assert begun_later["saved_after"] == 3
