"""Transfers over breaking connections and killed servers: they succeed, and little is sent twice."""

import io
import threading
import time
import zipfile
from contextlib import suppress

import pytest
import torch

from holdfast import CheckpointManager, IntegrityError, ServerUnreachable
from holdfast._api import retry
from holdfast._api.digests import CHUNK_BYTES
from holdfast._runtime.parallel import CONNECTIONS
from holdfast._torchfile.writer.layout import layout_of
from tests.data.states import assert_same
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import PIECE_BYTES, Forwarder

MIB = 1024 * 1024
SOON = {"patience_s": 0.5, "on_unreachable": "raise"}
IN_FLIGHT = CONNECTIONS * (CHUNK_BYTES + 3 * MIB)
"""The cost of a cut: for each connection the chunk under way, and the buffers of the kernel and the forwarder."""
REQUESTS = 256 * 1024
ON_THE_WAY = CONNECTIONS * 4 * PIECE_BYTES
"""The bytes that a forwarder may still accept for a server that has just been killed."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Shorten the waits between attempts."""
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.2)


def make_state(size_bytes=40 * MIB):
    numbers = torch.Generator().manual_seed(0)
    return {f"{n}": torch.randn(size_bytes // 16, generator=numbers) for n in range(4)}


def assert_stored(server, path, state):
    """Check that the server has this state and no other."""
    layout = layout_of(state)
    file = b"".join(bytes(layout.read(place)[0]) for place in range(len(layout.extents)))
    assert (server.root / path).read_bytes() == file


def test_a_save_goes_on_where_its_connections_were_cut(server, directory):
    state = make_state()
    with Forwarder(server.url, cut_every=9 * MIB) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        path = manager.save(state, epoch=1)
        assert forwarder.cuts >= 2
        size = (server.root / path).stat().st_size
        assert forwarder.up_bytes <= size + forwarder.cuts * (IN_FLIGHT + REQUESTS)
    assert_stored(server, path, state)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


def test_a_save_that_is_hashed_while_it_is_sent_goes_on_too(server, directory):
    first, state = {"0": torch.randn(MIB)}, make_state()
    with Forwarder(server.url, cut_every=11 * MIB) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        manager.save(first, epoch=1)
        forwarder.reset()
        path = manager.save(state, epoch=2)
        assert forwarder.cuts >= 2
        size = (server.root / path).stat().st_size
        assert forwarder.up_bytes <= size + forwarder.cuts * (IN_FLIGHT + REQUESTS)
    assert_stored(server, path, state)


def test_a_load_goes_on_where_its_connections_were_cut(server, directory):
    state = make_state()
    path = CheckpointManager(directory, server=server.url).save(state, epoch=1)
    with Forwarder(server.url, cut_every=9 * MIB) as forwarder:
        found = CheckpointManager(directory, server=forwarder.url).load(path)
        assert forwarder.cuts >= 2
        size = (server.root / path).stat().st_size
        assert forwarder.down_bytes <= size + forwarder.cuts * (IN_FLIGHT + REQUESTS)
    assert_same(found, state)


def test_a_download_goes_on_where_its_connections_were_cut(server, directory, tmp_path):
    path = CheckpointManager(directory, server=server.url).save(make_state(), epoch=1)
    with Forwarder(server.url, cut_every=9 * MIB) as forwarder:
        CheckpointManager(directory, server=forwarder.url).download(path, tmp_path / "a.pt")
        assert forwarder.cuts >= 2
    assert (tmp_path / "a.pt").read_bytes() == (server.root / path).read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


class Kill:
    """Kill a server, start it again, and note the bytes that passed and those of the state on its disk by then."""

    def __init__(self, server, forwarder, state):
        layout = layout_of(state)
        chunks = [bytes(layout.read(place)[0]) for place in range(len(layout.extents))]
        self._chunks = [(extent.offset, data) for extent, data in zip(layout.extents, chunks, strict=True)]
        self._server, self._forwarder = server, forwarder
        self.size_bytes = layout.size_bytes
        self.passed_bytes, self.held_bytes = [], []

    def __call__(self):
        self._server.kill()
        self.passed_bytes.append(self._forwarder.up_bytes)
        files = (self._server.root / ".holdfast" / "incoming").glob("*/files/*")
        arrived = next((file.read_bytes() for file in files), b"")
        held = sum(len(data) for offset, data in self._chunks if arrived[offset : offset + len(data)] == data)
        self.held_bytes.append(held)
        self._server.start()

    @property
    def enough_bytes(self):
        """Return the bytes that a client must send in all if it repeats nothing that the server has."""
        return self.passed_bytes[-1] + self.size_bytes - self.held_bytes[-1] + ON_THE_WAY + REQUESTS


@pytest.mark.parametrize("is_known", [False, True], ids=["hashed before", "hashed while sending"])
def test_a_server_that_is_killed_in_the_middle_of_a_save_is_sent_only_the_rest(own_server, is_known):
    state = make_state()
    with Forwarder(own_server.url) as forwarder:
        manager = CheckpointManager("runs/a", server=forwarder.url)
        if is_known:
            manager.save({"other": torch.randn(MIB)}, epoch=1)
        forwarder.reset()
        kill = Kill(own_server, forwarder, state)
        forwarder.when_passed(25 * MIB, kill)
        path = manager.save(state, epoch=2)
        assert kill.held_bytes[0] > 0
        assert kill.size_bytes <= forwarder.up_bytes <= kill.enough_bytes
    assert_stored(own_server, path, state)
    assert_same(manager_of(own_server).load(path), state)
    assert own_server.incoming() == []


def manager_of(server):
    return CheckpointManager("runs/a", server=server.url)


def test_a_server_that_is_killed_again_and_again_gets_it_all_in_the_end(own_server):
    state = make_state()
    with Forwarder(own_server.url) as forwarder:
        kill = Kill(own_server, forwarder, state)
        for count in (10, 28):
            forwarder.when_passed(count * MIB, kill)
        path = CheckpointManager("runs/a", server=forwarder.url).save(state, epoch=2)
        assert kill.held_bytes == sorted(kill.held_bytes)
        assert forwarder.up_bytes <= kill.enough_bytes
    assert_stored(own_server, path, state)


def test_a_server_that_is_killed_in_the_middle_of_a_load_sends_only_the_rest(own_server):
    state = make_state()
    path = manager_of(own_server).save(state, epoch=1)
    with Forwarder(own_server.url) as forwarder:
        forwarder.when_passed(25 * MIB, own_server.restart)
        found = CheckpointManager("runs/a", server=forwarder.url).load(path)
        assert forwarder.down_bytes <= 40 * MIB + IN_FLIGHT + REQUESTS
    assert_same(found, state)


class Once:
    """Cut the connections instead of the first response after a certain request."""

    def __init__(self, request):
        self._request = request
        self._is_due = False
        self.done = 0

    def __call__(self, up, piece):
        if up and not self.done and self._request in piece:
            self._is_due = True
        elif not up and self._is_due:
            self._is_due, self.done = False, self.done + 1
            return True
        return False


def test_a_commit_whose_answer_was_lost_is_one_checkpoint(server, directory):
    state = make_state(4 * MIB)
    cut = Once(b"/commit")
    with Forwarder(server.url, watch=cut) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        path = manager.save(state, epoch=1)
        assert cut.done == 1
        assert forwarder.up_bytes < 4 * MIB + REQUESTS
        assert [entry["path"] for entry in manager.checkpoints] == [path]
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    assert found["sequence"] == 1
    assert_stored(server, path, state)


def test_a_range_whose_answer_was_lost_is_not_sent_twice(server, directory):
    state = make_state(20 * MIB)
    cut = Once(b"PUT ")
    with Forwarder(server.url, watch=cut) as forwarder:
        path = CheckpointManager(directory, server=forwarder.url).save(state, epoch=1)
        assert cut.done == 1
        assert forwarder.up_bytes < 20 * MIB + IN_FLIGHT + REQUESTS
    assert_stored(server, path, state)


@pytest.mark.parametrize("what", ["save", "load"])
def test_a_server_that_does_not_come_back_is_unreachable_once_patience_is_at_its_end(own_server, monkeypatch, what):
    state = make_state(20 * MIB)
    path = manager_of(own_server).save(state, epoch=1)
    with Forwarder(own_server.url) as forwarder:
        manager = CheckpointManager("runs/a", server=forwarder.url, **SOON)
        forwarder.when_passed(10 * MIB, own_server.kill)
        started = time.monotonic()
        with pytest.raises(ServerUnreachable):
            manager.load(path) if what == "load" else manager.save({"0": torch.randn(5 * MIB)}, epoch=2)
        assert time.monotonic() - started < 10
    own_server.start()
    assert own_server.names("runs/a") == ["checkpoint_epoch_0001.pt"]
    assert_same(manager_of(own_server).load(path), state)


def test_a_server_that_was_never_there_is_waited_for_no_longer_than_patience(free_port, monkeypatch):
    manager = CheckpointManager("runs/a", server=f"http://127.0.0.1:{free_port}", **SOON)
    started = time.monotonic()
    for ask in (lambda: manager.save({"a": 1}, epoch=1), manager.load_latest, lambda: manager.checkpoints):
        with pytest.raises(ServerUnreachable):
            ask()
    assert time.monotonic() - started < 10


def test_no_thread_and_no_half_file_stays_behind(own_server, tmp_path, monkeypatch):
    path = manager_of(own_server).save(make_state(20 * MIB), epoch=1)
    with Forwarder(own_server.url) as forwarder:
        forwarder.when_passed(10 * MIB, own_server.kill)
        manager = CheckpointManager("runs/a", server=forwarder.url, cache_dir=tmp_path / "cache", **SOON)
        with pytest.raises(ServerUnreachable):
            manager.download(path, tmp_path / "a.pt")
    assert not [thread for thread in threading.enumerate() if thread.name == "holdfast-transfer"]
    assert [file for file in tmp_path.rglob("*.pt*") if own_server.root not in file.parents] == []
    assert list((tmp_path / "cache").iterdir()) == []
    own_server.start()


@pytest.mark.parametrize("turn", range(2))
def test_a_state_that_changes_while_it_is_saved_is_an_error_or_saved_soundly(server, directory, turn):
    """Each turn saves in both ways: hashed before sending, and hashed while sending."""
    state = {f"{n}": torch.zeros(MIB, dtype=torch.int32) for n in range(4)}
    manager = CheckpointManager(directory, None, None, server=server.url)
    stop, changing = threading.Event(), threading.Event()

    def change():
        while not stop.is_set():
            for tensor in state.values():
                tensor.add_(1)
            changing.set()

    thread = threading.Thread(target=change)
    thread.start()
    assert changing.wait(DEADLINE_S)
    try:
        for epoch in range(3):
            with suppress(IntegrityError):
                manager.save(state, epoch=epoch)
    finally:
        stop.set()
        thread.join()
    for entry in manager.checkpoints:
        file = (server.root / entry["path"]).read_bytes()
        with zipfile.ZipFile(io.BytesIO(file)) as opened:
            assert opened.testzip() is None
        assert_same(manager.load(entry["path"]), torch.load(io.BytesIO(file)))
    path = manager.save(state, epoch=100)
    assert_stored(server, path, state)
