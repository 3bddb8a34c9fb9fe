"""SharedSave: the interface of one writer, against a real server."""

import io
import threading

import pytest
import torch

from holdfast import (
    AttemptSuperseded,
    CheckpointExists,
    CheckpointManager,
    CheckpointNotFound,
    CommitTimeout,
    IncompleteCheckpoint,
    IntegrityError,
    InvalidRequest,
    ServerUnreachable,
)
from tests.support.forwarder import Forwarder

NAMED = {"save_id": "job-1-step-10", "step": 10}


@pytest.fixture
def manager(server, directory):
    return CheckpointManager(directory, server=server.url, rank=3)


def begun(manager, writer="rank-0", **more):
    return manager.shared_save("step-10", writer=writer, **NAMED | more)


def files_of(server, directory):
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    return {
        file["path"]: server.http.get(f"/v1/checkpoints/{found['id']}/files/{file['path']}").content
        for file in found["files"]
    }


def test_every_way_to_add_a_file(server, directory, manager, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b" * 300_000)
    with begun(manager) as shared:
        shared.add("bytes", b"one")
        shared.add("view", memoryview(b"two"))
        shared.add("open", io.BytesIO(b"three"))
        shared.add("path", tmp_path / "b")
        shared.add_files({"x/1": b"1", "x/2": b"22"})
        shared.add_folder(tmp_path, "folder")
        shared.add_state("state.pt", {"w": torch.ones(1000)})
        shared.ready()
        assert shared.commit(files=["state.pt"]) == shared.path
    found = files_of(server, directory)
    assert torch.load(io.BytesIO(found.pop("state.pt")))["w"].sum() == 1000
    assert found == {
        "bytes": b"one",
        "view": b"two",
        "open": b"three",
        "path": b"b" * 300_000,
        "x/1": b"1",
        "x/2": b"22",
        "folder/inner/a": b"a",
        "folder/b": b"b" * 300_000,
    }
    assert server.names(directory) == ["step-10"]


def test_the_facts_are_those_of_a_save(server, directory, manager):
    shared = begun(manager, epoch=3, tags=["t"], pinned=True, retention="manual", lr=0.1, loss=0.25)
    shared.add("model.pt", b"bytes")
    shared.ready()
    shared.commit()
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    wanted = {"epoch": 3, "step": 10, "metric": 0.25, "tags": ["t"], "pinned": True, "retention": "manual"}
    assert {name: found[name] for name in wanted} == wanted
    assert found["metadata"] == {"lr": 0.1, "loss": 0.25}


def test_tensors_of_the_files_are_indexed(server, manager):
    shared = begun(manager)
    shared.add_state("model.pt", {"w": torch.ones(3)})
    shared.add("raw", bytes(8), tensors=[{"name": "v", "dtype": "float32", "shape": [2]}])
    shared.ready()
    shared.commit()
    found = server.http.get(f"/v1/checkpoints/{shared.upload_id}/tensors").json()
    assert {tensor["name"] for file in found["files"] for tensor in file["tensors"]} == {"w", "v"}


def test_files_are_renamed_and_removed(server, directory, manager):
    shared = begun(manager)
    shared.add_files({"tmp": b"kept", "gone": b"gone"})
    shared.rename("tmp", "final/name")
    shared.remove("gone")
    with pytest.raises(CheckpointNotFound):
        shared.remove("gone")
    shared.ready()
    shared.commit()
    assert files_of(server, directory) == {"final/name": b"kept"}


def test_threads_add_files_at_once(server, directory, manager):
    shared = begun(manager)
    threads = [threading.Thread(target=shared.add, args=(f"{n}", bytes([n]) * 50_000)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.ready()
    shared.commit()
    assert files_of(server, directory) == {f"{n}": bytes([n]) * 50_000 for n in range(12)}


def test_another_writer_has_the_path(manager):
    begun(manager).add("same", b"one")
    with pytest.raises(CheckpointExists, match="rank-0") as refusal:
        begun(manager, "rank-1").add("same", b"one")
    assert refusal.value.code == "path_taken"


def test_writers_that_disagree(manager):
    begun(manager, lr=0.1).add("a", b"a")
    with pytest.raises(InvalidRequest, match="metadata") as refusal, begun(manager, "rank-1", lr=0.2):
        pass
    assert refusal.value.problem["fields"] == ["metadata"]


def test_a_save_that_is_not_complete(manager):
    shared = begun(manager, writers=["rank-0", "rank-1"])
    shared.add("a", b"a")
    with pytest.raises(IncompleteCheckpoint) as refusal:
        shared.commit()
    assert refusal.value.problem["writers"] == ["rank-0", "rank-1"]
    shared.ready()
    begun(manager, "rank-1", writers=["rank-0", "rank-1"]).ready()
    with pytest.raises(IncompleteCheckpoint) as refusal:
        shared.commit(files=["b"])
    assert refusal.value.problem["files"] == ["b"]
    with pytest.raises(CommitTimeout, match="all are ready"):
        shared.wait_committed(0)
    assert shared.status.missing_writers == ()
    assert shared.commit() == shared.wait_committed(0)
    assert shared.status.is_committed


def test_an_earlier_attempt_learns_of_the_later_one_while_it_waits(manager):
    shared = begun(manager)
    shared.add("a", b"a")
    begun(manager, attempt=1).add("a", b"a")
    with pytest.raises(AttemptSuperseded):
        shared.wait_committed(60)
    with pytest.raises(AttemptSuperseded):
        shared.abort()


def test_an_aborted_save_is_gone_for_all_writers(server, manager):
    first, second = begun(manager), begun(manager, "rank-1")
    first.add("a", b"a")
    second.add("b", b"b")
    second.abort()
    second.abort()
    for call in (first.ready, first.commit, lambda: first.add("c", b"c"), lambda: first.wait_committed(60)):
        with pytest.raises(CheckpointNotFound) as refusal:
            call()
        assert refusal.value.code == "upload_not_found"


def test_preconditions(server, directory, manager):
    server.save(directory, name="step-10")
    with pytest.raises(CheckpointExists, match="If-None-Match"), begun(manager, if_none_match="*"):
        pass
    digest = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()["digest"]
    shared = begun(manager, if_match=digest)
    shared.add("a", b"a")
    shared.ready()
    assert shared.commit() == shared.path


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        pytest.param({"save_id": "short"}, ValueError, id="a short save_id"),
        pytest.param({"save_id": 12345678}, TypeError, id="no text"),
        pytest.param({"writer": ""}, ValueError, id="no writer"),
        pytest.param({"writers": "rank-0"}, TypeError, id="one text for the writers"),
        pytest.param({"writers": [0]}, TypeError, id="numbers for the writers"),
        pytest.param({"attempt": -1}, ValueError, id="a negative attempt"),
        pytest.param({"commit_when_ready": True}, ValueError, id="a commit without writers"),
        pytest.param({"metric": "low"}, TypeError, id="a metric"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(wrong, error):
    manager = CheckpointManager("runs/nowhere", server="http://127.0.0.1:9", patience_s=0)
    arguments = {"writer": "rank-0", **NAMED, **wrong}
    with pytest.raises(error):
        manager.shared_save("step-10", **arguments)


def test_names_beyond_the_grammar_are_refused_before_anything_is_sent():
    manager = CheckpointManager("runs/nowhere", server="http://127.0.0.1:9", patience_s=0)
    with pytest.raises(InvalidRequest):
        manager.shared_save("../x", writer="w", **NAMED)
    shared = begun(manager)
    for path in ("../x", "/x", ""):
        with pytest.raises(InvalidRequest):
            shared.add(path, b"x")


def test_a_server_that_is_away_is_an_error_and_no_hang(directory, free_port):
    manager = CheckpointManager(directory, server=f"http://127.0.0.1:{free_port}", patience_s=0.5)
    with pytest.raises(ServerUnreachable), begun(manager):
        pass


def test_a_connection_that_breaks_again_and_again_is_survived(server, directory):
    with Forwarder(server.url, cut_every=7_000_000) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        shared = begun(manager)
        shared.add_files({f"{n}": bytes(range(250)) * 12_000 for n in range(8)})
        shared.ready()
        shared.commit()
        assert forwarder.cuts > 1
    assert files_of(server, directory) == {f"{n}": bytes(range(250)) * 12_000 for n in range(8)}


def test_bytes_that_are_altered_on_their_way_are_sent_again(server, directory):
    def alter(up, piece):
        nonlocal left
        if up and left and b"qqqqqqqqqqqq" in piece:
            left -= 1
            return piece.replace(b"qqqqqqqqqqqq", b"qqqqqqqqqqqx", 1)
        return piece

    left = 1
    with Forwarder(server.url, change=alter) as forwarder:
        shared = begun(CheckpointManager(directory, server=forwarder.url))
        shared.add("a", b"q" * 10_000)
        shared.ready()
        shared.commit()
    assert left == 0
    assert files_of(server, directory) == {"a": b"q" * 10_000}


def test_a_file_that_changes_while_it_is_sent_is_an_error(server, directory):
    data = bytearray(b"q" * 10_000)

    def change(up, piece):
        if up and b"qqqqqqqqqqqq" not in piece and b"/files" in piece:
            data[100] = 0
        return piece

    with Forwarder(server.url, change=change) as forwarder:
        shared = begun(CheckpointManager(directory, server=forwarder.url))
        with pytest.raises(IntegrityError, match="was changed while it was being sent"):
            shared.add("a", data)
