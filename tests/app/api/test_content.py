"""File content: whole or in ranges, verified, and never executed by a browser."""

import os

import pytest

DATA = b"0123456789"
MIB = 1024 * 1024


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def fetch(server, saved, method="GET", **headers):
    url = f"/v1/checkpoints/{saved['id']}/content"
    return server.http.request(method, url, headers={name.replace("_", "-"): text for name, text in headers.items()})


def folder(server, directory, contents, name="folder", **facts):
    """Save a checkpoint of several files through an upload."""
    files = [{"path": path, "size_bytes": len(data)} for path, data in contents.items()]
    body = {"directory": directory, "name": name, "files": files, **facts}
    upload = server.http.post("/v1/uploads", json=body).json()
    for wanted in upload["missing"]:
        server.http.put(wanted["url"], content=contents[wanted["file"]]).raise_for_status()
    answer = server.http.post(f"/v1/uploads/{upload['id']}/commit")
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def saved(server, directory):
    return server.save(directory, DATA, epoch=1, metric=1)


def test_the_whole_file_comes_as_an_attachment(server, saved):
    answer = fetch(server, saved)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["etag"] == f'"{saved["files"][0]["digest"]}"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"checkpoint_epoch_0001.pt\"; filename*=UTF-8''checkpoint_epoch_0001.pt"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-checkpoint-name"] == saved["name"]


def test_a_page_that_was_uploaded_does_not_become_one(server, directory):
    page = server.save(directory, b"<script>alert(1)</script>", name="index.html")
    answer = fetch(server, page, Accept="text/html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "status", "content", "said"),
    [
        pytest.param("bytes=0-3", 206, b"0123", "bytes 0-3/10", id="first"),
        pytest.param("bytes=4-6", 206, b"456", "bytes 4-6/10", id="middle"),
        pytest.param("bytes=7-", 206, b"789", "bytes 7-9/10", id="rest"),
        pytest.param("bytes=9-9", 206, b"9", "bytes 9-9/10", id="last byte"),
        pytest.param("bytes=5-99999999999999999", 206, b"56789", "bytes 5-9/10", id="ends beyond"),
        pytest.param("bytes=-3", 206, b"789", "bytes 7-9/10", id="suffix"),
        pytest.param("bytes=-11", 206, DATA, "bytes 0-9/10", id="suffix longer than the file"),
        pytest.param("Bytes = 1-2", 206, b"12", "bytes 1-2/10", id="spaces and capitals"),
        pytest.param("bytes=10-", 416, None, "bytes */10", id="begins beyond"),
        pytest.param("bytes=10-20", 416, None, "bytes */10", id="lies beyond"),
        pytest.param("bytes=-0", 416, None, "bytes */10", id="suffix of nothing"),
        pytest.param("bytes=0-1,4-5", 200, DATA, None, id="several"),
        pytest.param("bytes=5-2", 200, DATA, None, id="backwards"),
        pytest.param("bytes=-", 200, DATA, None, id="no number"),
        pytest.param("bytes=a-b", 200, DATA, None, id="no digits"),
        pytest.param("lines=1-2", 200, DATA, None, id="another unit"),
        pytest.param("bytes=" + "9" * 5000 + "-", 200, DATA, None, id="endless digits"),
    ],
)
def test_one_range_is_served(server, saved, asked, status, content, said):
    answer = fetch(server, saved, Range=asked)
    assert answer.status_code == status
    assert answer.headers.get("content-range") == said
    if content is None:
        assert refusal(answer) == (416, "range_not_satisfiable")
    else:
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        pytest.param("{etag}", 206, id="the same content"),
        pytest.param('"other"', 200, id="other content"),
        pytest.param("W/{etag}", 200, id="a weak tag"),
        pytest.param("Mon, 23 Nov 2099 00:00:00 GMT", 200, id="a date"),
    ],
)
def test_a_range_of_other_content_is_not_served(server, saved, condition, status):
    etag = fetch(server, saved).headers["etag"]
    assert fetch(server, saved, Range="bytes=2-4", If_Range=condition.format(etag=etag)).status_code == status


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        pytest.param("If-None-Match", "{etag}", 304, id="known already"),
        pytest.param("If-None-Match", 'W/{etag}, "x"', 304, id="known already, weakly, among others"),
        pytest.param("If-None-Match", "*", 304, id="any known"),
        pytest.param("If-None-Match", '"x"', 200, id="another known"),
        pytest.param("If-Match", "{etag}", 200, id="as wanted"),
        pytest.param("If-Match", "*", 200, id="any wanted"),
        pytest.param("If-Match", '"x", "y"', 412, id="others wanted"),
        pytest.param("If-Match", "W/{etag}", 412, id="weakly wanted"),
    ],
)
def test_conditions_are_heard(server, saved, header, value, status):
    etag = fetch(server, saved).headers["etag"]
    answer = fetch(server, saved, **{header: value.format(etag=etag)})
    assert (answer.status_code, answer.headers["etag"]) == (status, etag)
    assert answer.content == (DATA if status == 200 else b"")


BY_DIRECTORY = ["best/content", "latest/content", "best/files/{name}", "latest/files/{name}"]


@pytest.mark.parametrize("what", ["{id}/content", "{id}/files/{name}", *BY_DIRECTORY])
def test_head_matches_get(server, directory, saved, what):
    url = "/v1/checkpoints/" + what.format(**saved)
    query = {} if "{id}" in what else {"directory": directory}
    get, head = server.http.get(url, params=query), server.http.head(url, params=query)
    assert (head.status_code, head.content, get.content) == (200, b"", DATA)
    changing = {"date", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in get.headers.items() if k not in changing
    }


def test_an_empty_file_is_served(server, directory):
    checkpoint = folder(server, directory, {"empty": b""})
    url = checkpoint["files"][0]["url"]
    assert (server.http.get(url).status_code, server.http.get(url).content) == (200, b"")
    assert refusal(server.http.get(url, headers={"Range": "bytes=0-0"})) == (416, "range_not_satisfiable")


def test_several_files_are_fetched_one_by_one(server, directory):
    contents = {".metadata": b"m", "sub/a b.bin": b"ab", "é.bin": b"e"}
    checkpoint = folder(server, directory, contents)
    refused = fetch(server, checkpoint)
    assert refusal(refused) == (409, "several_files")
    assert refused.json()["files"] == sorted(contents)
    assert refusal(server.http.get("/v1/checkpoints/latest/content", params={"directory": directory}))[0] == 409
    assert {file["path"]: server.http.get(file["url"]).content for file in checkpoint["files"]} == contents
    missing = server.http.get(f"/v1/checkpoints/{checkpoint['id']}/files/sub")
    assert refusal(missing) == (404, "file_not_found")


def test_a_removed_checkpoint_has_no_bytes(server, saved):
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert refusal(fetch(server, saved)) == (410, "checkpoint_removed")
    assert fetch(server, saved, "HEAD").status_code == 410


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_bytes(b"9876543210"), id="edited"),
        pytest.param(lambda file: file.write_bytes(DATA + b"!"), id="longer"),
        pytest.param(lambda file: file.write_bytes(b""), id="emptied"),
        pytest.param(lambda file: file.unlink(), id="deleted"),
        pytest.param(lambda file: (file.rename(file.with_suffix(".away")), file.symlink_to("x.away")), id="a link"),
        pytest.param(lambda file: (file.unlink(), file.mkdir()), id="a folder"),
        pytest.param(lambda file: (file.unlink(), os.mkfifo(file)), id="a pipe"),
    ],
)
def test_a_file_that_was_altered_is_not_served(server, directory, spoil):
    saved = server.save(directory, DATA, name="x.pt")
    spoil(server.root / directory / "x.pt")
    for _ in range(2):
        assert refusal(fetch(server, saved)) == (409, "altered")
    answer = server.http.get(f"/v1/checkpoints/{saved['id']}")
    assert answer.status_code == 200
    assert f"{directory}/x.pt" in answer.json()["damage"]
    query, headers = {"follow": False, "prefix": directory}, {"Last-Event-ID": "0"}
    events = server.http.get("/v1/events", params=query, headers=headers).text
    assert events.count("event: checkpoint.damaged\n") == 1


def test_a_file_that_was_only_touched_is_served(server, directory, saved):
    file = server.root / directory / saved["name"]
    for seconds in (1, 2):
        os.utime(file, (seconds, seconds))
        assert fetch(server, saved).content == DATA
    file.write_bytes(b"9876543210")
    assert refusal(fetch(server, saved)) == (409, "altered")
    file.write_bytes(DATA)
    assert fetch(server, saved).content == DATA


def test_a_reader_finishes_although_the_checkpoint_is_deleted_meanwhile(server, directory):
    data = os.urandom(MIB) * 48
    saved = server.save(directory, data)
    with server.http.stream("GET", f"/v1/checkpoints/{saved['id']}/content") as answer:
        pieces = answer.iter_bytes(MIB)
        received = [next(pieces)]
        server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
        assert not (server.root / directory / saved["name"]).exists()
        received += pieces
    assert b"".join(received) == data
    assert refusal(fetch(server, saved)) == (410, "checkpoint_removed")


def kept(server, directory, which, path, **headers):
    """Fetch a file of the best or the latest checkpoint of a directory."""
    address = f"/v1/checkpoints/{which}/files/{path}"
    return server.http.get(address, params={"directory": directory}, headers=headers)


def test_a_file_of_the_best_and_of_the_latest_is_found_at_the_request(server, directory):
    for name, metric in (("a", 2), ("b", 1), ("c", 3)):
        folder(server, directory, {"sub/f.bin": name.encode() * 10}, name=name, metric=metric)
    best, latest = (kept(server, directory, which, "sub/f.bin") for which in ("best", "latest"))
    assert (best.content, latest.content) == (b"b" * 10, b"c" * 10)
    assert (best.headers["x-checkpoint-name"], latest.headers["x-checkpoint-name"]) == ("b", "c")
    query = {"directory": directory, "mode": "max"}
    assert server.http.get("/v1/checkpoints/best/files/sub/f.bin", params=query).content == b"c" * 10
    folder(server, directory, {"sub/f.bin": b"d"}, name="d", metric=0)
    assert [kept(server, directory, which, "sub/f.bin").content for which in ("best", "latest")] == [b"d", b"d"]


@pytest.mark.parametrize("which", ["best", "latest"])
def test_a_file_by_directory_is_served_as_one_by_id(server, directory, which):
    folder(server, directory, {"f.bin": DATA, "g.bin": b"g"}, metric=1)
    whole = kept(server, directory, which, "f.bin")
    etag = whole.headers["etag"]
    part = kept(server, directory, which, "f.bin", **{"Range": "bytes=2-4", "If-Range": etag})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    other = kept(server, directory, which, "f.bin", **{"Range": "bytes=2-4", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, DATA)
    assert kept(server, directory, which, "f.bin", **{"If-None-Match": etag}).status_code == 304
    assert refusal(kept(server, directory, which, "f.bin", Range="bytes=10-")) == (416, "range_not_satisfiable")


@pytest.mark.parametrize("which", ["best", "latest"])
def test_a_file_by_directory_that_is_not_there_is_refused(server, directory, which):
    assert refusal(kept(server, directory, which, "f.bin")) == (404, "directory_not_found")
    saved = folder(server, directory, {"f.bin": DATA, "g.bin": b"g"}, metric=1)
    assert refusal(kept(server, directory, which, "h.bin")) == (404, "file_not_found")
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert refusal(kept(server, directory, which, "f.bin")) == (404, "no_checkpoint")
    folder(server, directory, {"f.bin": DATA, "g.bin": b"g"})
    expected = (404, "no_best") if which == "best" else None
    answer = kept(server, directory, which, "f.bin")
    assert (refusal(answer) if expected else None) == expected


def test_a_file_with_the_name_of_its_folder_is_served(server, directory):
    contents = {"a": b"a", "folder": b"same name", "z": b"z"}
    found = folder(server, directory, contents)
    assert {file["path"]: server.http.get(file["url"]).content for file in found["files"]} == contents
