"""Failed syncs: bytes whose fsync failed are not trusted, as Linux drops them and a second fsync proves nothing."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests.crash.harness.operations import HERE, OPERATIONS, everything_is_in_order, state
from tests.crash.harness.points import SEED, prepared, record, sample
from tests.crash.harness.rounds import rounds
from tests.crash.harness.tracing import Call, Tracer, needs_strace
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer, eventually

pytestmark = needs_strace

DATA = bytes(range(256)) * 20
BODY = {"directory": HERE, "name": "a.pt", "save_id": "the-new-one", "files": [{"size_bytes": len(DATA)}]}


@pytest.fixture
def own_server(tmp_path: Path):
    with LiveServer(tmp_path / "root", janitor_every_s="0.3", copy_catalog_every="0") as live:
        yield live


def reserve(server):
    answer = server.http.post("/v1/uploads", json=BODY)
    assert answer.is_success, answer.text
    return answer.json()


def put(server, upload):
    return server.http.put(upload["missing"][0]["url"], content=DATA)


def commit(server, upload):
    return server.http.post(f"/v1/uploads/{upload['id']}/commit")


def refusal(answer):
    return answer.status_code, answer.json()["code"]


def failing(server: LiveServer, name: str, when: str = "1") -> Tracer:
    return Tracer.failing(server.process_id, server.root.parent, name, "EIO", when)


@pytest.mark.parametrize("number", [1, 2], ids=["the file", "its folder"])
def test_an_upload_that_could_not_be_made_durable_is_sent_again_into_new_files(own_server, number):
    upload = reserve(own_server)
    assert put(own_server, upload).is_success
    file = own_server.root / ".holdfast" / "incoming" / upload["id"] / "files" / "a.pt"
    with file.open("rb") as held:  # or the file system might give the same number to the new file
        with failing(own_server, "fsync", str(number)):
            assert refusal(commit(own_server, upload)) == (503, "disk_failed")
        assert refusal(commit(own_server, upload)) == (409, "ranges_missing")
        assert put(own_server, reserve(own_server)).is_success
        assert commit(own_server, upload).status_code == 201
        assert (own_server.root / HERE / "a.pt").stat().st_ino != os.fstat(held.fileno()).st_ino
    assert state(own_server)["a.pt"] == (False, {"a.pt": DATA})


def test_old_files_are_not_believed_either_where_they_could_not_be_made_anew(own_server):
    upload = reserve(own_server)
    assert put(own_server, upload).is_success
    file = own_server.root / ".holdfast" / "incoming" / upload["id"] / "files" / "a.pt"
    with file.open("rb") as held:
        inject = "inject=fsync,unlinkat:error=EIO:when=1+"
        with Tracer(own_server.process_id, own_server.root.parent, ["trace=fsync,unlinkat", inject]):
            assert refusal(commit(own_server, upload)) == (503, "disk_failed")
            assert refusal(put(own_server, upload)) == (503, "disk_failed")
        assert file.stat().st_ino == os.fstat(held.fileno()).st_ino
        assert put(own_server, upload).is_success
        assert commit(own_server, upload).status_code == 201
        assert (own_server.root / HERE / "a.pt").stat().st_ino != os.fstat(held.fileno()).st_ino
    assert state(own_server)["a.pt"] == (False, {"a.pt": DATA})


def test_a_range_that_was_under_way_into_the_old_files_does_not_count_as_arrived(own_server):
    upload = reserve(own_server)
    assert put(own_server, upload).is_success
    host, port = own_server.url.removeprefix("http://").split(":")
    path = upload["missing"][0]["url"].removeprefix(own_server.url)
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as slow:
        head = f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len(DATA)}\r\n"
        head += "Expect: 100-continue\r\n\r\n"
        slow.sendall(head.encode())
        assert b"100 Continue" in slow.recv(1000)  # its file is open
        slow.sendall(DATA[:100])
        with failing(own_server, "fsync"):
            assert refusal(commit(own_server, upload)) == (503, "disk_failed")
        slow.sendall(DATA[100:])
        assert b"upload_busy" in b"".join(iter(lambda: slow.recv(10_000), b""))
    assert refusal(commit(own_server, upload)) == (409, "ranges_missing")


def test_a_save_in_one_request_that_could_not_be_made_durable_leaves_nothing(own_server):
    params = {"directory": HERE, "name": "a.pt", "save_id": "the-new-one"}
    syncs = [call for call in record(OPERATIONS["first save"]).calls if call.name == "fsync"]
    (file,) = (call.number for call in syncs if re.search(r"incoming/\w+/files/new.pt>", call.line))
    with failing(own_server, "fsync", str(file)):
        assert refusal(own_server.http.post("/v1/checkpoints", params=params, content=DATA)) == (503, "disk_failed")
    assert own_server.incoming() == []
    assert own_server.http.post("/v1/checkpoints", params=params, content=DATA).status_code == 201


def test_bytes_with_which_the_disk_could_not_begin_have_not_arrived(own_server):
    upload = reserve(own_server)
    with failing(own_server, "sync_file_range"):
        assert refusal(put(own_server, upload)) == (503, "disk_failed")
    assert refusal(commit(own_server, upload)) == (409, "ranges_missing")
    assert put(own_server, upload).is_success
    assert commit(own_server, upload).status_code == 201


def test_a_folder_that_cannot_be_looked_into_does_not_pass_for_durable(tmp_path):
    operation = OPERATIONS["upload"]
    found = record(operation).calls
    for number in sorted({call.number for call in found if call.name == "openat" and '"inner"' in call.line})[-3:]:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with LiveServer(folder / "root") as server:
            ready = prepared(server, operation)
            with Tracer.failing(server.process_id, folder, "openat", "EIO", str(number)) as tracer:
                answer = operation.ask(server, ready)
                synced = [path(call) for call in tracer.calls(server.root) if call.name == "fsync"]
            assert answer.status_code == 503 or [one for one in synced if one.endswith("inner/small.bin")]


@pytest.mark.parametrize("name", ["first save", "replace", "delete"])
def test_names_that_could_not_be_made_durable_are_before_it_is_said_that_they_are(tmp_path, name):
    operation = OPERATIONS[name]
    syncs = sorted({call.number for call in record(operation).calls if call.name == "fsync"})
    made_up = 0
    for number in sample(operation, syncs, rounds(3, 100)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with LiveServer(folder / "root", janitor_every_s="0.3", copy_catalog_every="0") as server:
            ready = prepared(server, operation)
            with failing(server, "fsync", str(number)) as tracer:
                if operation.ask(server, ready).status_code == 201:  # it failed for directory.json, which is put right
                    written = server.root / HERE / ".holdfast" / "directory.json"
                    assert eventually(written.exists)
                    continue
                assert operation.ask(server, ready).status_code in {200, 201, 410}
                answered = len(tracer.calls(server.root))
                server.wait_until_freed()
                calls = tracer.calls(server.root)
            made_up += every_folder_was_synced_anew(calls, answered, f"{name}, fsync {number}, seed {SEED}")
            everything_is_in_order(server)
    assert made_up


def every_folder_was_synced_anew(calls: list[Call], answered: int, where: str) -> int:
    """Look that each folder whose fsync failed was changed and then synced with success; how many there were.

    What goes after the answer is synced before it is forgotten.
    """
    failed = [(at, path(call)) for at, call in enumerate(calls) if call.name == "fsync" and "INJECTED" in call.line]
    assert failed, where
    for place, folder in failed:
        if re.search(r"incoming/\w+(/files.*)?$|\.new$", folder):  # the files of this attempt alone were given up
            continue
        end = None if "/trash/" in folder or where.startswith("delete") else answered
        later = [call for call in calls[place + 1 : end] if f"<{folder}>" in call.line and " = -1 " not in call.line]
        changed = [number for number, call in enumerate(later) if call.name not in {"fsync", "openat"}]
        synced = [number for number, call in enumerate(later) if call.name == "fsync"]
        assert changed, (where, folder, later)
        assert synced, (where, folder, later)
        assert changed[0] < synced[-1], (where, folder, later)
    return len(failed)


def path(call: Call) -> str:
    """Return the file that the descriptor of a call is open on."""
    found = re.match(r"\d+<([^>]*)>", call.line)
    assert found is not None, call
    return found[1]
