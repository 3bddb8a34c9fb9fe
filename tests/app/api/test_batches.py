"""Batches: small files of an upload or a checkpoint are transferred together, as the server planned."""

import os
from contextlib import closing

import pytest
from blake3 import blake3
from sqlalchemy import event

from app.bootstrap import open_root
from app.core import batches
from app.core.models import Chunk, Facts, Save, UploadFile
from app.core.spans import Span
from app.service.upload import dedup
from app.settings import Settings
from app.storage.local.disk import durability, linux
from tests.data.samples import feed

CONTENTS = {f"part-{number:03d}.bin": os.urandom(1 + number % 90) for number in range(300)}
CONTENTS |= {"sub/é 1.bin": b"one", "sub/2.bin": b"two", "empty": b"", "large.bin": os.urandom(batches.SMALL_BYTES + 1)}


def files_of(contents):
    return [
        {
            "path": path,
            "size_bytes": len(data),
            "chunks": [{"length": len(data), "digest": blake3(data).hexdigest()}] if data else [],
        }
        for path, data in contents.items()
    ]


def reserved(server, directory, contents=CONTENTS, **more):
    body = {"directory": directory, "name": "step", "files": files_of(contents), **more}
    answer = server.http.post("/v1/uploads", json=body)
    assert answer.is_success, answer.text
    return answer.json()


def send(server, batch, contents=CONTENTS):
    data = b"".join(contents[part["file"]] for part in batch["parts"])
    assert len(data) == batch["length"]
    return server.http.request(batch["method"], batch["url"], content=data, headers=batch["headers"])


def saved(server, directory, contents=CONTENTS):
    upload = reserved(server, directory, contents)
    for batch in upload["batches"]:
        send(server, batch, contents).raise_for_status()
    for wanted in server.http.get(f"/v1/uploads/{upload['id']}").json()["missing"]:
        server.http.put(wanted["url"], content=contents[wanted["file"]]).raise_for_status()
    answer = server.http.post(f"/v1/uploads/{upload['id']}/commit")
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_small_files_are_sent_and_fetched_together(server, directory):
    upload = reserved(server, directory)
    (batch,) = upload["batches"]
    assert {part["file"] for part in batch["parts"]} == CONTENTS.keys() - {"empty", "large.bin"}
    assert {wanted["file"] for wanted in upload["missing"]} == CONTENTS.keys() - {
        "empty"
    }  # for older clients, as ranges
    answer = send(server, batch)
    assert answer.json() == {"files": 302, "length": batch["length"]}
    assert send(server, batch).status_code == 200
    after = server.http.get(f"/v1/uploads/{upload['id']}").json()
    assert ([wanted["file"] for wanted in after["missing"]], after["batches"]) == (["large.bin"], [])
    found = saved(server, directory)
    folder = server.root / directory / "step"
    assert {path: (folder / path).read_bytes() for path in CONTENTS} == CONTENTS
    (batch,) = server.http.get(f"/v1/checkpoints/{found['id']}/chunks").json()["batches"]
    answer = server.http.request(batch["method"], batch["url"], headers=batch["headers"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == b"".join(CONTENTS[part["file"]] for part in batch["parts"])


def test_a_batch_that_was_altered_keeps_what_is_right_and_names_the_file_that_is_not(server, directory):
    upload = reserved(server, directory)
    answer = send(server, upload["batches"][0], {**CONTENTS, "sub/2.bin": b"2wo"})
    assert (answer.status_code, answer.json()["code"], answer.json()["file"]) == (422, "digest_mismatch", "sub/2.bin")
    after = server.http.get(f"/v1/uploads/{upload['id']}").json()
    assert {wanted["file"] for wanted in after["missing"]} == {"sub/2.bin", "large.bin"}


def test_what_arrived_in_a_batch_is_found_again_after_a_restart(own_server):
    upload = reserved(own_server, "runs")
    send(own_server, upload["batches"][0]).raise_for_status()
    own_server.restart()
    after = own_server.http.get(f"/v1/uploads/{upload['id']}").json()
    assert [wanted["file"] for wanted in after["missing"]] == ["large.bin"]


def test_files_without_declared_digests_travel_together_too(server, directory):
    body = {"directory": directory, "name": "step", "files": [{"path": p, "size_bytes": 3} for p in ("a", "b", "c")]}
    upload = server.http.post("/v1/uploads", json=body).json()
    send(server, upload["batches"][0], dict.fromkeys("abc", b"xyz")).raise_for_status()
    assert server.http.post(f"/v1/uploads/{upload['id']}/commit").status_code == 201


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        pytest.param("", 422, "invalid_request", id="nothing"),
        pytest.param("a", 422, "invalid_request", id="a word"),
        pytest.param("1-0", 422, "invalid_request", id="backwards"),
        pytest.param("1,1", 422, "invalid_request", id="twice"),
        pytest.param("-1", 422, "invalid_request", id="negative"),
        pytest.param("٣", 422, "invalid_request", id="other digits"),
        pytest.param("0-1000", 413, "too_large", id="too many"),
        pytest.param("0,999999", 404, "file_not_found", id="beyond the last"),
    ],
)
def test_a_batch_that_cannot_be_meant_is_refused(server, directory, files, status, code):
    contents = {"a": b"1", "b": b"2"}
    found = saved(server, directory, contents)
    upload = reserved(server, directory, {**contents, "c": b"3"}, name="other")
    for method, path in (("GET", f"/v1/checkpoints/{found['id']}"), ("PUT", f"/v1/uploads/{upload['id']}")):
        answer = server.http.request(method, f"{path}/batch", params={"files": files}, content=b"12")
        assert (answer.status_code, answer.json()["code"]) == (status, code), (method, answer.text)


def test_a_batch_is_as_long_as_its_files_and_no_longer_than_may_be(server, directory):
    contents = {f"{number}.bin": bytes(batches.BATCH_BYTES // 4 + 1) for number in range(4)}
    upload = reserved(server, directory, contents)
    url = f"/v1/uploads/{upload['id']}/batch"
    assert server.http.put(url, params={"files": "0"}, content=b"short").json()["code"] == "wrong_length"
    large = server.http.put(url, params={"files": "0-3"}, content=b"".join(contents.values()))
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    found = saved(server, directory, contents)
    large = server.http.get(f"/v1/checkpoints/{found['id']}/batch", params={"files": "0-3"})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


def test_a_file_of_a_batch_that_was_changed_on_the_disk_is_not_served(server, directory):
    contents = {"a": b"1", "b": b"2"}
    found = saved(server, directory, contents)
    (server.root / directory / "step" / "b").write_bytes(b"3")
    answer = server.http.get(f"/v1/checkpoints/{found['id']}/batch", params={"files": "0-1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "altered")
    assert server.http.get(f"/v1/checkpoints/{found['id']}/batch", params={"files": "0"}).content == b"1"


@pytest.mark.parametrize(
    "contents",
    [{"step": b"itself", "other": b"another"}, {"step": b"alone"}],
    ids=["a folder", "a single file"],
)
def test_a_file_that_bears_the_name_of_its_checkpoint_is_found(server, directory, contents):
    found = saved(server, directory, contents)
    paths = sorted(contents)
    for place, path in enumerate(paths):
        for url in (f"files/{path}", f"batch?files={place}"):
            assert server.http.get(f"/v1/checkpoints/{found['id']}/{url}").content == contents[path]


@pytest.fixture
def folders(tmp_path):
    """A root with checkpoints of 3 and of 300 files, and the ids."""
    with closing(open_root(Settings(root=tmp_path / "root"))) as service:
        ids = []
        for count in (3, 300):
            files = tuple(UploadFile(f"{number:03d}", 0, ()) for number in range(count))
            save = Save(directory="runs", name=f"of-{count}", facts=Facts(), files=files)
            ids.append(service.commits.commit(service.reservations.reserve(save).upload.id).checkpoint.id)
        yield service, ids


def test_a_file_takes_one_question_and_no_rows_of_others_however_many_files_there_are(folders):
    service, ids = folders
    asked = []
    event.listen(service.context.catalog._engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for checkpoint_id in ids:
        service.contents.open(checkpoint_id, "001").opened.close()  # the file's directory is recorded
        del asked[:]
        content = service.contents.open(checkpoint_id, "002")
        content.opened.close()
        assert len([one for one in asked if one.startswith("SELECT")]) == 1, asked
        assert [file.path for file in content.checkpoint.files] == ["002"]


def test_many_files_are_synced_together_unless_the_disk_has_lost_something(tmp_path, monkeypatch):
    """The kernel reports lost writes once, to one upload: all open uploads are then synced file by file."""
    told = []

    def sync_file_system(descriptor):
        told.append(descriptor)
        if len(told) == 1:
            raise OSError(5, "lost")

    monkeypatch.setattr(linux, "sync_file_system", sync_file_system)
    monkeypatch.setattr(linux, "tells_of_lost_writes", lambda _: True)
    monkeypatch.setattr(durability, "MANY", 3)
    with closing(open_root(Settings(root=tmp_path / "root"))) as service:
        synced = []
        tree = service.context.storage.tree
        monkeypatch.setattr(tree, "sync", lambda path: synced.append(path[-2]))

        def begin(name, count=3):
            files = tuple(UploadFile(str(number), 0, ()) for number in range(count))
            return service.reservations.reserve(Save(directory="runs", name=name, files=files)).upload.id

        first, second, few = begin("first"), begin("second"), begin("few", 2)
        for upload_id in (first, second, few):
            service.commits.commit(upload_id)
        assert (synced, len(told)) == ([first, second, few], 1)
        service.commits.commit(begin("third"))
        assert (synced, len(told)) == ([first, second, few], 2)


def test_small_files_that_another_checkpoint_holds_are_sent_again_where_they_are_many(server, directory):
    saved(server, directory)
    changed = {**CONTENTS, "part-007.bin": b"changed"}
    upload = reserved(server, directory, changed, name="next")
    (batch,) = upload["batches"]
    assert {part["file"] for part in batch["parts"]} == CONTENTS.keys() - {"empty", "large.bin"}
    assert "large.bin" not in {wanted["file"] for wanted in upload["missing"]}
    send(server, batch, changed).raise_for_status()
    assert server.http.post(f"/v1/uploads/{upload['id']}/commit").status_code == 201
    folder = server.root / directory / "next"
    assert {path: (folder / path).read_bytes() for path in changed} == changed


def test_a_few_small_files_that_another_checkpoint_holds_are_not_sent_again(server, directory):
    few = {path: CONTENTS[path] for path in ("sub/2.bin", "part-001.bin", "empty")}
    saved(server, directory, few)
    assert reserved(server, directory, few, name="next")["missing"] == []


def test_an_upload_makes_no_file_before_its_bytes_come_and_its_empty_files_at_the_commit(server, directory):
    upload = reserved(server, directory)
    files = server.root / ".holdfast" / "incoming" / upload["id"] / "files"
    assert list(files.iterdir()) == []
    (batch,) = upload["batches"]
    send(server, batch).raise_for_status()
    made = {path.relative_to(files / "step").as_posix() for path in files.rglob("*") if path.is_file()}
    assert made == CONTENTS.keys() - {"empty", "large.bin"}
    server.http.delete(f"/v1/uploads/{upload['id']}").raise_for_status()
    assert send(server, batch).status_code == 404
    assert not files.exists()


def test_only_so_many_sources_are_held_open_and_what_others_hold_is_sent_again(tmp_path, monkeypatch):
    monkeypatch.setattr(dedup, "MOST_OPEN", 2)
    sizes = {f"{number}.bin": batches.SMALL_BYTES + number for number in (1, 2, 3)}
    digest = {path: blake3(bytes(size)).hexdigest() for path, size in sizes.items()}
    files = tuple(UploadFile(path, size, (Chunk(size, digest[path]),)) for path, size in sizes.items())
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        first = opened.reservations.reserve(Save(directory="d", name="first", files=files, facts=Facts()))
        for path, size in sizes.items():
            with opened.transfers.receive(first.upload.id, path, Span(0, size)) as receiver:
                feed(receiver, bytes(size))
                receiver.finish()
        opened.commits.commit(first.upload.id)
        second = opened.reservations.reserve(Save(directory="d", name="second", files=files, facts=Facts()))
        assert [missing.path for missing in second.missing.ranges] == ["1.bin"]  # the smallest file
