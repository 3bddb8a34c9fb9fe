"""Small checkpoints: a load takes them with their facts in one round trip, and verifies every byte all the same."""

import re

import pytest
import torch

from holdfast import CheckpointManager, ServerUnreachable
from tests.support.forwarder import Forwarder

STATE = {"weights": torch.arange(1000.0), "epoch": 1}
KIND = b"application/vnd.holdfast.checkpoint"


class Log:
    """The paths of the requests that pass, and a change of the bytes."""

    def __init__(self, change=lambda up, piece: piece):
        self.asked = []
        self._change = change

    def __call__(self, up, piece):
        if up:
            self.asked += [
                found.decode() for found in re.findall(rb"GET (?:/v1/checkpoints)?(\S*) HTTP/1.1\r\n", piece)
            ]
        return self._change(up, piece)

    @property
    def kinds(self):
        """The last part of each path, without ids and queries."""
        return [re.sub(r"[0-9a-f]{32}", "ID", path.partition("?")[0]) for path in self.asked]


@pytest.fixture
def saved(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    return manager.save(STATE, epoch=1, metric=0.5)


def is_state(found):
    return torch.equal(found["weights"], STATE["weights"]) and found["epoch"] == 1


LOADS = {
    "latest": (lambda manager, path: manager.load_latest(), ["/latest"]),
    "best": (lambda manager, path: manager.load_best(), ["/best"]),
    "by its path": (lambda manager, path: manager.load(path), ["", "/ID"]),
}


@pytest.mark.parametrize("load", LOADS)
def test_a_load_takes_one_round_trip_after_the_checkpoint_is_known(server, directory, saved, load):
    act, paths = LOADS[load]
    log = Log()
    with Forwarder(server.url, change=log) as forwarder:
        assert is_state(act(CheckpointManager(directory, server=forwarder.url), saved))
    assert log.kinds == paths


@pytest.mark.parametrize("load", LOADS)
def test_a_server_that_sends_facts_alone_is_asked_for_the_bytes(server, directory, saved, load):
    act, paths = LOADS[load]
    log = Log(lambda up, piece: piece.replace(KIND, b"application/vnd.example.othercheckpt") if up else piece)
    with Forwarder(server.url, change=log) as forwarder:
        assert is_state(act(CheckpointManager(directory, server=forwarder.url), saved))
    assert log.kinds == [*paths, "/ID/chunks", f"/ID/files/{saved.name}"]


def test_a_part_of_a_small_checkpoint_is_fetched_alone(server, directory, saved):
    log = Log()
    with Forwarder(server.url, change=log) as forwarder:
        assert CheckpointManager(directory, server=forwarder.url).load_latest(only=("epoch",)) == {"epoch": 1}
    assert log.kinds[:2] == ["/latest", "/ID/chunks"]


def test_a_large_checkpoint_comes_after_its_facts(server, directory):
    state = {"weights": torch.rand(2**20)}
    CheckpointManager(directory, server=server.url).save(state, epoch=1)
    log = Log()
    with Forwarder(server.url, change=log) as forwarder:
        found = CheckpointManager(directory, server=forwarder.url).load_latest()
    assert torch.equal(found["weights"], state["weights"])
    assert log.kinds[:2] == ["/latest", "/ID/chunks"]


def test_with_a_cache_a_second_load_brings_no_bytes(server, directory, saved, tmp_path):
    for count in (1, 0):
        log = Log()
        with Forwarder(server.url, change=log) as forwarder:
            manager = CheckpointManager(directory, server=forwarder.url, cache_dir=tmp_path / "cache")
            assert is_state(manager.load_latest())
        assert sum("/files/" in path for path in log.asked) == count
        assert log.kinds[:2] == ["/latest", "/ID/chunks"]


def test_altered_bytes_are_fetched_again(server, directory, saved):
    """The bytes of a tensor are altered in the first answer alone."""
    old, new = STATE["weights"].numpy().tobytes()[400:416], b"altered on a way"
    seen = []

    def alter(up, piece):
        if up or seen or old not in piece:
            return piece
        seen.append(piece)
        return piece.replace(old, new)

    log = Log(alter)
    with Forwarder(server.url, change=log) as forwarder:
        assert is_state(CheckpointManager(directory, server=forwarder.url).load_latest())
    assert seen
    assert log.kinds == ["/latest", f"/ID/files/{saved.name}"]


def test_altered_facts_are_asked_for_again(server, directory, saved):
    seen = []

    def alter(up, piece):
        if up or b'"sequence":1' not in piece or len(seen) == seen_at_most:
            return piece
        seen.append(piece)
        return piece.replace(b'"sequence":1', b'"sequence":7')

    with Forwarder(server.url, change=alter) as forwarder:
        seen_at_most = 1
        assert is_state(CheckpointManager(directory, server=forwarder.url).load_latest())
        assert len(seen) == 1
        seen_at_most = 1000
        with pytest.raises(ServerUnreachable, match="altered on their way"):
            CheckpointManager(directory, server=forwarder.url, patience_s=0).load_latest()
