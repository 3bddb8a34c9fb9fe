"""Comparison of two checkpoints of a real model on the server, tensor by tensor."""

import resource
import sqlite3
from pathlib import Path

import httpx
import pytest
import torch

from holdfast import CheckpointManager
from tests.support.tokens import bearer, mint


def state(**changed):
    generator = torch.Generator().manual_seed(0)
    model = {
        "embed.weight": torch.randn(300, 128, generator=generator),
        "a.weight": torch.randn(200, 200, generator=generator),
        "a.bias": torch.randn(200, generator=generator),
        "b.weight": torch.randn(200, 200, generator=generator),
        "b.bias": torch.randn(200, generator=generator),
    }
    return {"model": {name: tensor for name, tensor in (model | changed).items() if tensor is not None}}


@pytest.fixture
def manager(server, directory):
    return CheckpointManager(directory, server=server.url)


def ids(server, directory):
    return [one["id"] for one in listed(server, directory)]


def listed(server, directory):
    params = {"directory": directory, "include_removed": "true"}
    return server.http.get("/v1/checkpoints", params=params).json()["checkpoints"]


def comparison(server, before, after, **params):
    answer = server.http.get(f"/v1/checkpoints/{after}/comparison", params={"against": before, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def two(server, manager, directory):
    """Two checkpoints: a weight and a bias changed, one reshaped, one removed, one added."""
    other = state()["model"]
    manager.save(state(), epoch=1, loss=0.5)
    changed = {
        "a.weight": other["a.weight"] + 1,
        "b.bias": other["b.bias"] * 2,
        "b.weight": torch.zeros(100, 400),
        "embed.weight": None,
        "head.weight": torch.ones(10, 10),
    }
    manager.save(state(**changed), epoch=2, loss=0.25)
    return ids(server, directory)


def test_every_tensor_is_compared_with_certainty(server, two):
    found = comparison(server, *two)
    assert {tensor["name"]: tensor["change"] for tensor in found["tensors"]} == {
        "model.a.weight": "changed",
        "model.a.bias": "same",
        "model.b.weight": "reshaped",
        "model.b.bias": "changed",
        "model.embed.weight": "removed",
        "model.head.weight": "added",
    }
    assert found["counts"] == {"changed": 2, "same": 1, "reshaped": 1, "removed": 1, "added": 1}
    assert [file["change"] for file in found["files"]] == ["changed"]
    assert (found["before"]["epoch"], found["after"]["epoch"]) == (1, 2)
    (reshaped,) = [tensor for tensor in found["tensors"] if tensor["change"] == "reshaped"]
    assert (reshaped["before"]["shape"], reshaped["after"]["shape"]) == ([200, 200], [100, 400])


def test_only_some_changes_are_listed_where_that_is_asked(server, two):
    found = comparison(server, *two, changes=["added", "removed"])
    assert {tensor["change"] for tensor in found["tensors"]} == {"added", "removed"}
    assert sum(found["counts"].values()) == 6
    assert server.http.get(f"/v1/checkpoints/{two[1]}/comparison?against={two[0]}&changes=none").status_code == 422


def test_a_removed_one_is_compared_as_far_as_digests_tell(server, two):
    assert server.http.delete(f"/v1/checkpoints/{two[0]}").status_code == 200
    found = {tensor["name"]: tensor["change"] for tensor in comparison(server, *two)["tensors"]}
    assert found["model.a.weight"] == "changed"
    assert found["model.b.bias"] == "uncertain"


def test_a_checkpoint_is_the_same_as_itself(server, two):
    found = comparison(server, two[1], two[1])
    assert set(found["counts"]) == {"same"}
    assert found["shared_bytes"] == found["after"]["size_bytes"]


def test_files_without_tensors_are_compared_as_files(server, directory):
    one, other = server.save(directory, b"a" * 100, name="a"), server.save(directory, b"b" * 100, name="b")
    found = comparison(server, one["id"], other["id"])
    assert found["tensors"] is None
    assert [file["change"] for file in found["files"]] == ["changed"]


def test_what_was_altered_on_the_disk_is_not_read(make_server):
    live = make_server()
    manager = CheckpointManager("runs/a", server=live.url)
    manager.save(state(), epoch=1)
    path = manager.save(state(**{"b.bias": torch.zeros(200)}), epoch=2)
    found = ids(live, "runs/a")
    (live.root / path).write_bytes(b"something else")
    changes = {tensor["name"]: tensor["change"] for tensor in comparison(live, *found)["tensors"]}
    assert changes["model.b.bias"] == "uncertain"
    assert changes["model.a.weight"] == "same"


def test_tensors_that_lie_nowhere_are_uncertain(server, directory):
    found = []
    for epoch in (1, 2):
        tensors = [{"name": "w", "dtype": "float32", "shape": [2**40], "offset": 2**50, "size_bytes": 2**42}]
        body = {"directory": directory, "epoch": epoch, "files": [{"size_bytes": 0, "chunks": [], "tensors": tensors}]}
        upload = server.http.post("/v1/uploads", json=body).json()
        found.append(server.http.post(f"/v1/uploads/{upload['id']}/commit").json()["id"])
    assert [tensor["change"] for tensor in comparison(server, *found)["tensors"]] == ["uncertain"]


def test_nothing_is_said_of_what_the_token_does_not_reach(make_server):
    live = make_server()
    admin = bearer(mint(live.root, "admin"))
    saved = []
    for directory in ("team/a", "team/ab"):
        answer = live.http.post("/v1/checkpoints", params={"directory": directory}, content=b"x", headers=admin)
        saved.append(answer.json()["id"])
    narrow = bearer(mint(live.root, "read", prefix="team/a"))
    for one, other in (saved, saved[::-1], (saved[0], "unknown")):
        answer = httpx.get(f"{live.url}/v1/checkpoints/{one}/comparison?against={other}", headers=narrow)
        assert (answer.status_code, answer.json()["code"]) == (404, "checkpoint_not_found")


def test_a_policy_is_tried_without_being_set(server, directory):
    for epoch in range(4):
        server.save(directory, epoch=epoch, metric=epoch, mode="min")
    tried = {"directory": directory, "dry_run": True, "policy": {"max_checkpoints": 1, "max_best_checkpoints": 1}}
    (found,) = server.http.post("/v1/prune", json=tried).json()["directories"]
    assert [verdict["stays"] for verdict in found["verdicts"]] == [True, False, False, True]
    assert found["policy"]["max_checkpoints"] == 1
    assert found["freed_bytes"] == 2 * len(b"bytes")
    assert server.http.get(f"/v1/directories/{directory}").json()["policy"]["max_checkpoints"] is None
    for refused in (
        {**tried, "dry_run": False},
        {**tried, "directory": None, "prefix": ""},
        {**tried, "policy": {"x": 1}},
    ):
        assert server.http.post("/v1/prune", json=refused).status_code == 422
    assert len(server.names(directory)) == 4


def test_files_that_are_cut_otherwise_are_read(server, directory, manager):
    path = manager.save(state(), epoch=1)
    same = (server.root / path).read_bytes()
    other = server.save(directory, same, name="curled.pt")
    (found,) = [one for one in listed(server, directory) if one["epoch"] == 1]
    (file,) = comparison(server, found["id"], other["id"])["files"]
    assert file["change"] == "same"


def folder(live, directory, name, data, count):
    """Save a checkpoint of many files of eight bytes; the first four of each are a tensor."""
    tensors = [{"name": "w", "dtype": "float32", "shape": [1], "offset": 0, "size_bytes": 4}]
    wanted = [{"path": f"{place}.bin", "size_bytes": 8, "tensors": tensors} for place in range(count)]
    upload = live.http.post("/v1/uploads", json={"directory": directory, "name": name, "files": wanted}).json()
    for missing in upload["missing"]:
        live.http.put(missing["url"], content=data).raise_for_status()
    return live.http.post(f"/v1/uploads/{upload['id']}/commit").json()["id"]


def test_many_files_are_read_with_few_open_at_once(server, directory):
    found = [folder(server, directory, data[-4:], data.encode(), 40) for data in ("same1111", "same2222")]
    limits = resource.prlimit(server.process_id, resource.RLIMIT_NOFILE)
    spare = len(list(Path(f"/proc/{server.process_id}/fd").iterdir())) + 20
    resource.prlimit(server.process_id, resource.RLIMIT_NOFILE, (spare, limits[1]))
    try:
        answer = comparison(server, *found)
    finally:
        resource.prlimit(server.process_id, resource.RLIMIT_NOFILE, limits)
    assert answer["counts"] == {"same": 40}
    assert {file["change"] for file in answer["files"]} == {"changed"}


def test_a_dry_run_does_not_wait_for_writers(server, directory):
    for epoch in range(3):
        server.save(directory, epoch=epoch)
    other = sqlite3.connect(server.root / ".holdfast" / "catalog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        for asked in ({"directory": directory}, {"prefix": directory}, {"directory": directory, "policy": {}}):
            answer = server.http.post("/v1/prune", json={**asked, "dry_run": True}, timeout=25)  # a writer waits 30 s
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["directories"][0]["verdicts"]) == 3
    finally:
        other.close()
