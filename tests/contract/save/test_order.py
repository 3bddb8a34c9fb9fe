"""The order of saves: a save keeps the place that it had when it began, even if it ends much later."""

import warnings
from pathlib import Path

import httpx
import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning
from tests.support.forwarder import Forwarder
from tests.support.live import eventually


@pytest.fixture(autouse=True)
def _quiet():
    """Silence the warning of another writer, as these tests have two."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "another process")
        yield


@pytest.fixture
def overtaken(server, directory):
    """Runs a save of epoch 5, and amid its bytes the actions of other writers; returns the manager that saved."""

    def run(meanwhile, *, cut=False, state=None, **options):
        left = [meanwhile]

        def watch(up, piece):
            if up and b"/files/" in piece.partition(b"\r\n")[0] and left:
                left.pop()()
                return cut
            return False

        with Forwarder(server.url, watch=watch) as forwarder:
            manager = CheckpointManager(directory, server=forwarder.url, patience_s=5.0, **options)
            bulk = {"bulk": torch.zeros(3 * 2**18)}  # a small save is a single request
            manager.save({"epoch": 5, "who": "first", **bulk} if state is None else {**state, **bulk}, epoch=5)
        assert not left
        return CheckpointManager(directory, server=server.url)

    return run


def saves(server, directory, epochs, **query):
    for epoch in epochs:
        server.save(directory, b"of another writer", epoch=epoch, **query)


@pytest.mark.parametrize("cut", [False, True], ids=["goes on", "resumes after a cut"])
def test_a_save_that_others_overtake_is_not_the_latest(server, directory, overtaken, cut):
    server.save(directory, epoch=4)
    overtaken(lambda: saves(server, directory, [6, 7]), cut=cut, max_checkpoints=None, max_best_checkpoints=None)
    assert server.names(directory, order_by="position") == [f"checkpoint_epoch_000{epoch}.pt" for epoch in (4, 5, 6, 7)]
    found = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert found["epoch"] == 7


def test_a_save_that_others_overtake_takes_no_newer_ones_place(server, directory, overtaken):
    """The limits count by position, so the overtaken one is pruned, and the writer is warned."""
    with pytest.warns(HoldfastWarning, match="is not kept: later saves of other processes"):
        overtaken(lambda: saves(server, directory, [6, 7, 8], max_checkpoints=2, max_best_checkpoints=0))
    assert server.names(directory) == ["checkpoint_epoch_0007.pt", "checkpoint_epoch_0008.pt"]


def test_a_save_that_others_overtake_replaces_no_newer_checkpoint_of_its_name(server, directory, overtaken):
    with pytest.warns(HoldfastWarning, match=r"checkpoint_epoch_0005\.pt is not kept: another process began"):
        overtaken(lambda: saves(server, directory, [4, 5]))
    assert (server.root / directory / "checkpoint_epoch_0005.pt").read_bytes() == b"of another writer"


@pytest.mark.parametrize("order", ["abc", "cba", "bca", "cab"])
def test_saves_stand_in_the_order_in_which_they_began(server, directory, order):
    """The order of their ends does not matter, and the numbers have no gap."""
    uploads = {}
    for name in "abc":
        body = {"directory": directory, "name": name, "files": [{"size_bytes": 5}]}
        uploads[name] = server.http.post("/v1/uploads", json=body).raise_for_status().json()
        server.http.put(uploads[name]["missing"][0]["url"], content=b"bytes").raise_for_status()
    told = {name: server.http.post(f"/v1/uploads/{uploads[name]['id']}/commit").json() for name in order}
    assert server.names(directory, order_by="position") == ["a", "b", "c"]
    assert server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()["name"] == "c"
    if order == "abc":
        assert [(told[name]["saved_after"], told[name]["sequence"]) for name in order] == [(0, 1), (1, 2), (2, 3)]


def test_of_two_saves_of_a_name_the_one_that_began_last_stands(server, directory, overtaken):
    with pytest.warns(HoldfastWarning, match=r"checkpoint_epoch_0005\.pt is not kept: another process began"):
        overtaken(lambda: saves(server, directory, [5]))
    assert (server.root / directory / "checkpoint_epoch_0005.pt").read_bytes() == b"of another writer"


def test_an_abandoned_upload_costs_at_most_one_number(server, directory):
    server.http.post("/v1/uploads", json={"directory": directory, "files": [{"size_bytes": 5}]}).raise_for_status()
    assert [server.save(directory, epoch=epoch)["sequence"] for epoch in range(3)] == [2, 3, 4]


def test_an_upload_that_was_given_up_meanwhile_keeps_its_place(server, directory, overtaken):
    """This happens if the lease expires while the job is suspended."""

    def meanwhile():
        saves(server, directory, [6, 7])
        for upload_id in server.incoming():
            server.http.delete(f"/v1/uploads/{upload_id}").raise_for_status()

    server.save(directory, epoch=4)
    overtaken(meanwhile, max_checkpoints=None, max_best_checkpoints=None)
    assert server.names(directory, order_by="position")[1] == "checkpoint_epoch_0005.pt"


def test_an_overtaken_save_keeps_its_place_in_the_spool(own_server, directory, spool):
    """This also holds if another job of this machine has noted a later sequence in the spool."""
    own_server.save(directory, epoch=4)
    left = [own_server.kill]

    def watch(up, piece):
        if up and b"/files/" in piece.partition(b"\r\n")[0] and left:
            second = CheckpointManager(directory, server=url)
            for epoch in (6, 7):
                second.save({"epoch": epoch}, epoch=epoch)
            left.pop()()
            return True
        return False

    url = own_server.url
    with Forwarder(own_server.url, watch=watch) as forwarder:
        first = CheckpointManager(directory, server=forwarder.url, patience_s=0.0, drain_s=0.0)
        with pytest.warns(HoldfastWarning, match="checkpoints are kept"):
            first.save({"epoch": 5, "w": torch.zeros(3 * 2**18)}, epoch=5)
        (item,) = first._saver.target.queue.items()
        assert item.facts()["save"]["saved_after"] == 1
        own_server.start()
    assert CheckpointManager(directory, server=own_server.url).load_latest() == {"epoch": 7}


def test_a_small_save_whose_request_was_cut_keeps_its_place(server, directory):
    """The server has nothing of it: its place is what the job knew when it began."""
    others = []

    def watch(up, piece):
        if up and b"POST /v1/saves HTTP" in piece and others:
            saves(server, directory, others)
            others.clear()
            return True
        return False

    with Forwarder(server.url, watch=watch) as forwarder:
        manager = CheckpointManager(directory, None, None, server=forwarder.url, patience_s=5.0)
        manager.save({"epoch": 4}, epoch=4)
        others += [6, 7]
        manager.save({"epoch": 5}, epoch=5)
    assert not others
    assert server.names(directory, order_by="position") == [f"checkpoint_epoch_000{epoch}.pt" for epoch in (4, 5, 6, 7)]


def test_a_single_shot_keeps_the_place_at_which_it_began(server, directory):
    server.save(directory, name="first.pt")
    before = len(server.incoming())

    def body():
        yield b"some bytes"
        assert eventually(lambda: len(server.incoming()) > before)
        saves(server, directory, [1])
        yield b" and the rest"

    with httpx.Client(base_url=server.url) as own:
        query = {"directory": directory, "name": "slow.pt"}
        answer = own.post("/v1/checkpoints", params=query, content=body()).raise_for_status().json()
    assert answer["saved_after"] == 1
    assert server.names(directory, order_by="position")[-1] == "checkpoint_epoch_0001.pt"


def test_a_place_outlives_a_restart_of_the_server(own_server, directory):
    body = {"directory": directory, "name": "a.pt", "files": [{"size_bytes": 5}]}
    upload = own_server.http.post("/v1/uploads", json=body).raise_for_status().json()
    newer = own_server.save(directory, name="b.pt")
    own_server.restart()
    (missing,) = own_server.http.get(f"/v1/uploads/{upload['id']}").json()["missing"]
    own_server.http.put(missing["url"], content=b"bytes").raise_for_status()
    answer = own_server.http.post(f"/v1/uploads/{upload['id']}/commit").json()
    assert (answer["saved_after"], answer["sequence"]) == (0, 3)
    latest = own_server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert latest["id"] == newer["id"]
    assert Path(own_server.root / directory / "a.pt").read_bytes() == b"bytes"
