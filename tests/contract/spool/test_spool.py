"""Checkpoints that wait on this machine while the server is unreachable: delivered in order, each once."""

import errno
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch

from holdfast import (
    CheckpointManager,
    HoldfastWarning,
    IntegrityError,
    OutOfSpace,
    ServerUnreachable,
    save_checkpoint_with_cleanup,
)
from holdfast._api import retry
from holdfast._api.retry import CircuitBreaker
from holdfast._connection.raw_connections import RawConnections
from holdfast._load import Loader
from holdfast._spool.spool import Spool
from holdfast._torchfile.writer.layout import layout_of
from holdfast.cli import formatting
from tests.crash.harness.tracing import needs_strace
from tests.data.pieces import save_of
from tests.data.states import assert_same
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import PROJECT, LiveServer, eventually

MIB = 1024 * 1024
AWAY = "Until that is over, checkpoints are kept"
HOLDFAST = [sys.executable, "-m", "holdfast.cli"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Shorten the back-off between attempts."""
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.2)


@pytest.fixture
def put(spool, server, directory):
    """Puts states into the spool, as a process that has ended since."""

    def put(epoch, state=None, where=directory, url=server.url, **more):
        state = {"epoch": epoch} if state is None else state
        save = {**save_of(epoch, **more), "directory": where}
        return Spool(spool).queue(url, where).put(save, layout_of(state))

    return put


def manager_of(server, directory, **options):
    return CheckpointManager(directory, server=server.url, **{"patience_s": 0, **options})


def sync(*options):
    """Run the command; returns its status, its output and its complaints."""
    done = subprocess.run(
        [*HOLDFAST, "sync", *options], cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S
    )
    return done.returncode, done.stdout, done.stderr


def name(epoch):
    return f"checkpoint_epoch_{epoch:04d}.pt"


def delivered(server, directory):
    """Return the names of all that the server ever committed, in that order; each save counts once."""
    query = {"directory": directory, "include_removed": True, "page_size": 1000}
    found = server.http.get("/v1/checkpoints", params=query).json().get("checkpoints", [])
    sequences = [checkpoint["sequence"] for checkpoint in found]
    assert len(set(sequences)) == len(found), "something was committed twice"
    return [checkpoint["name"] for checkpoint in sorted(found, key=lambda checkpoint: checkpoint["sequence"])]


def is_delivered(spool):
    return not any(queue.has_items() for queue in Spool(spool).queues())


@contextmanager
def held(spool, server, directory):
    """Hold the claim to deliver a queue, so that no courier does."""
    queue = Spool(spool).queue(server.url, directory)
    queue.prepare()
    with queue.claimed() as mine:
        assert mine
        yield queue


# while the server is away


@pytest.mark.parametrize("background", [False, True])
def test_what_the_client_itself_fails_at_is_kept_and_delivered(server, directory, background, monkeypatch, caplog):
    def broken(*_, **__):
        raise AttributeError("a fault of the client")

    manager = manager_of(server, directory, background=background)
    with monkeypatch.context() as broken_client, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        broken_client.setattr(RawConnections, "request", broken)
        manager.save({"epoch": 1}, epoch=1)
        assert manager.wait(DEADLINE_S)
        assert [path.name for path in manager.pending] == [name(1)]
        assert manager.load(name(1)) == {"epoch": 1}
    assert ["AttributeError: a fault of the client" in str(each.message) for each in warned] == [True]
    assert any(
        record.exc_info for record in caplog.records if f"{directory}/{name(1)} could not be sent" in record.message
    )
    manager.close()
    assert delivered(server, directory) == [name(1)]


@pytest.mark.parametrize("background", [False, True])
def test_what_the_client_fails_at_before_it_sends_is_kept_and_delivered(server, directory, background, monkeypatch):
    list_folder, failures = Path.glob, ["a fault of the client"]

    def broken(*arguments, **options):
        if failures:
            raise AttributeError(failures.pop())
        return list_folder(*arguments, **options)

    manager = manager_of(server, directory, background=background)
    manager.save({"epoch": 1}, epoch=1)
    assert manager.wait(DEADLINE_S)
    with monkeypatch.context() as broken_client, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        broken_client.setattr(Path, "glob", broken)
        manager.save({"epoch": 2}, epoch=2)
        assert manager.wait(DEADLINE_S)
    assert ["AttributeError: a fault of the client" in str(each.message) for each in warned] == [True]
    manager.close()
    assert delivered(server, directory) == [name(1), name(2)]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="waiting"),
        pytest.param({"background": True}, id="in the background"),
        pytest.param({"base": name(1)}, id="with a base"),
    ],
)
def test_a_save_lists_the_spool_once(server, directory, spool, options, monkeypatch):
    """The spool may be on a slow disk, and hold the queues of many runs."""
    manager_of(server, directory).save({"epoch": 1}, epoch=1, metric=0.5)
    list_folder, listed = Path.glob, []

    def counted(folder, pattern, **more):
        listed.extend([pattern] if folder == spool else [])
        return list_folder(folder, pattern, **more)

    with manager_of(server, directory, **options) as manager:
        manager.save({"epoch": 2}, epoch=2)
        assert manager.wait(DEADLINE_S)
        with monkeypatch.context() as counting:
            counting.setattr(Path, "glob", counted)
            manager.save({"epoch": 3}, epoch=3)
            assert manager.wait(DEADLINE_S)
            assert len(listed) == 1
            assert manager.save_best_if_improved({"epoch": 4}, 0.1, 4)
            assert manager.wait(DEADLINE_S)
            assert len(listed) == 2
    assert delivered(server, directory) == [name(1), name(2), name(3), "best_epoch_0004.pt"]


def test_what_the_client_itself_fails_at_is_an_error_where_nothing_is_kept(server, directory, monkeypatch):
    def broken(*_, **__):
        raise AttributeError("a fault of the client")

    monkeypatch.setattr(RawConnections, "request", broken)
    with pytest.raises(AttributeError, match="a fault"):
        manager_of(server, directory, on_unreachable="raise").save({}, epoch=1)


def test_a_login_in_the_url_is_stored_and_shown_nowhere(own_server, directory, spool):
    url = own_server.url.replace("http://", "http://user:secret@")
    manager = CheckpointManager(directory, server=url, patience_s=0)
    manager.save({"epoch": 1}, epoch=1)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY) as warned:
        manager.save({"epoch": 2}, epoch=2)
    assert "secret" not in str(warned[0].message)
    assert not [path for path in spool.rglob("*.json") if "secret" in path.read_text()]
    own_server.start()
    manager.close()
    assert delivered(own_server, directory) == [name(1), name(2)]


def test_a_spool_that_cannot_be_written_is_told_of_before_it_is_needed(server, directory, tmp_path):
    (tmp_path / "file").touch()
    manager = manager_of(server, directory, spool_dir=tmp_path / "file" / "spool")
    manager.load_latest()
    with pytest.warns(HoldfastWarning, match="checkpoints cannot be kept in .* should the server be away"):
        manager.save({}, epoch=1)
    manager.save({}, epoch=2)
    assert server.names(directory) == [name(1), name(2)]


def test_a_warning_that_is_made_an_error_is_no_failure_of_a_save_in_the_background(own_server, directory, caplog):
    manager = manager_of(own_server, directory, background=True)
    own_server.kill()
    manager.save({"epoch": 1}, epoch=1)
    assert manager.wait(DEADLINE_S)
    assert [record.levelname for record in caplog.records if AWAY in record.getMessage()] == ["WARNING"]
    own_server.start()
    manager.close()
    assert delivered(own_server, directory) == [name(1)]


def test_a_save_is_kept_named_and_loaded_from_here_with_one_warning(own_server, directory, spool):
    manager = manager_of(own_server, directory, background=False)
    own_server.kill()
    state = {"model": torch.nn.Linear(300, 300).state_dict(), "epoch": 1}
    with pytest.warns(HoldfastWarning, match=AWAY) as warned:
        path = manager.save(state, epoch=1)
    assert [str(spool) in str(warning.message) for warning in warned] == [True]
    other = manager.save({"epoch": 2}, epoch=2)  # warnings are errors here: it is given once
    assert (path, other) == (Path(directory) / name(1), Path(directory) / name(2))
    assert manager.pending == [path, other]
    assert_same(manager.load(path), state)
    assert_same(manager_of(own_server, directory).load(path.name), state)
    assert_same(manager_of(own_server, "elsewhere").load(path), state)
    assert manager_of(own_server, directory).load(path, only=("epoch",)) == {"epoch": 1}


def test_what_is_delivered_while_it_is_being_loaded_is_loaded_from_the_server(server, directory, put, monkeypatch):
    def spooled(loader, item):
        assert sync()[0] == 0
        return real(loader, item)

    real = Loader.spooled
    monkeypatch.setattr(Loader, "spooled", spooled)
    manager = manager_of(server, directory)
    manager._saver.target.begin()
    put(1)
    assert manager.load(name(1)) == {"epoch": 1}


def test_each_outage_is_told_of_once(own_server, directory, spool):
    manager = manager_of(own_server, directory)
    for epoch in (1, 2):
        own_server.kill()
        with pytest.warns(HoldfastWarning, match=AWAY):
            manager.save({}, epoch=epoch)
        manager_of(own_server, directory).save({}, epoch=10 + epoch)
        own_server.start()
        assert eventually(lambda: not manager.pending)
    assert delivered(own_server, directory) == [name(epoch) for epoch in (1, 11, 2, 12)]


def test_an_outage_that_a_delivery_noticed_is_told_of_by_the_next_save(own_server, directory, put):
    put(1, url=own_server.url)
    own_server.kill()
    manager = manager_of(own_server, directory)
    with held(Spool(put(2, url=own_server.url).folder.parent.parent).folder, own_server, directory):
        manager.save({}, epoch=3)  # it waits behind the others, and no process has noticed yet
    assert eventually(lambda: CircuitBreaker.of(own_server.url).is_open)
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save({}, epoch=4)
    manager.save({}, epoch=5)


def test_whoever_wants_an_error_gets_one_and_nothing_is_kept(own_server, directory, spool):
    own_server.kill()
    manager = manager_of(own_server, directory, on_unreachable="raise")
    with pytest.raises(ServerUnreachable):
        manager.save({}, epoch=1)
    assert manager.pending == []
    assert list(spool.rglob("*")) == []


def test_a_base_that_cannot_be_asked_for_costs_no_save(own_server, directory):
    manager = manager_of(own_server, directory, base="runs/base/model.pt")
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save({"n": 1}, epoch=1)
    assert manager.load(name(1)) == {"n": 1}
    own_server.start()
    assert eventually(lambda: not manager.pending)
    assert own_server.names(directory) == [name(1)]


def test_where_it_can_be_kept_nowhere_the_save_says_so(own_server, directory, spool):
    manager = manager_of(own_server, directory, spool_max_bytes=10)
    own_server.kill()
    with pytest.raises(OSError, match="could not be kept on this machine") as caught:
        manager.save({}, epoch=1)
    assert caught.value.code == "spool_failed"
    assert manager.pending == []
    assert not [path for path in spool.rglob("*") if path.name in {"state.pt", "item.json"} or ".new" in path.name]
    own_server.start()
    manager.save({}, epoch=2)
    assert own_server.names(directory) == [name(2)]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"spool_max_bytes": 10}, OutOfSpace), ({"on_unreachable": "raise"}, ServerUnreachable)],
    ids=["as the spool is full", "as there is none"],
)
def test_what_nothing_else_keeps_is_tried_however_long_the_server_has_been_away(own_server, directory, options, error):
    manager = manager_of(own_server, directory, **options)
    own_server.kill()
    for epoch in range(8):  # each time it is known to be away for longer
        with pytest.raises(error):
            manager.save({}, epoch=epoch)
    own_server.start()
    manager.save({}, epoch=8)
    assert own_server.names(directory) == [name(8)]


def test_the_chance_of_the_job_is_its_own(own_server, directory):
    """Retries, on any thread, leave a seeded training run unchanged."""
    before = random.getstate(), torch.get_rng_state()
    manager = manager_of(own_server, directory, patience_s=0.3, background=True)
    own_server.kill()
    for epoch in range(3):
        manager.save({"n": torch.zeros(3)}, epoch=epoch)
    manager.wait()
    assert len(manager.pending) == 3
    own_server.start()
    assert eventually(lambda: not manager.pending)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_function_alone_keeps_it_here_too(own_server, directory, spool):
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY):
        save_checkpoint_with_cleanup({"n": 0}, directory, "0.pt", 2, server=own_server.url)
    for step in (1, 2, 3):
        path = save_checkpoint_with_cleanup({"n": step}, directory, f"{step}.pt", 2, server=own_server.url)
    assert path == Path(directory) / "3.pt"
    own_server.start()
    assert eventually(lambda: is_delivered(spool))
    assert delivered(own_server, directory) == [f"{step}.pt" for step in range(4)]
    assert own_server.names(directory) == ["2.pt", "3.pt"]


def test_the_server_decides_at_delivery_whether_it_was_an_improvement(own_server, directory, spool):
    manager = manager_of(own_server, directory)
    manager.save_best_if_improved({"n": 0}, 0.5, epoch=0)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY):
        paths = [
            manager.save_best_if_improved({"n": n}, metric, epoch=n) for n, metric in enumerate((0.6, 0.4, 0.45), 1)
        ]
    assert paths == [Path(directory) / f"best_epoch_000{n}.pt" for n in (1, 2, 3)]
    own_server.start()
    assert eventually(lambda: not manager.pending)
    assert delivered(own_server, directory) == ["best_epoch_0000.pt", "best_epoch_0002.pt"]
    assert manager.load_best() == {"n": 2}
    assert not list(spool.glob("*/parked/*"))


@pytest.mark.parametrize("background", [False, True])
def test_a_proxy_without_a_server_is_a_server_that_is_away(server, directory, spool, background):
    with _broken(server, b"HTTP/1.1 502 Bad Gateway") as proxy:
        manager = manager_of(proxy, directory, background=background)
        with warnings.catch_warnings(action="ignore"):  # in the background, they may come from another thread
            assert manager.save_best_if_improved({"n": 1}, 0.5, epoch=1) == Path(directory) / "best_epoch_0001.pt"
            assert manager.wait()
        assert len(manager.pending) == 1
        proxy.is_broken = False
        assert eventually(lambda: not manager.pending)
    assert server.names(directory) == ["best_epoch_0001.pt"]


class _broken(Forwarder):
    """A proxy that gives one answer to all requests while it is broken."""

    def __init__(self, server, answer, code=None):
        super().__init__(server.url, watch=self._count, change=self._spoil)
        problem = json.dumps({"type": f"urn:holdfast:problem:{code}", "code": code}).encode() if code else b""
        kind = b"\r\nContent-Type: application/problem+json" if code else b""
        length = f"\r\nContent-Length: {len(problem)}\r\nConnection: close\r\n\r\n".encode()
        self._answer = answer + kind + length + problem
        self.is_broken = True
        self.reservations = 0

    def _count(self, up, piece):
        self.reservations += up and (b"POST /v1/uploads HTTP" in piece or b"POST /v1/saves HTTP" in piece)

    def _spoil(self, up, piece):
        return piece if up or not self.is_broken else self._answer


# the process that delivers


def test_the_process_that_saved_delivers_in_order_and_later_saves_queue_behind(own_server, directory, spool):
    manager = manager_of(own_server, directory, max_checkpoints=None)
    manager.save({"n": 0}, epoch=0)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save({"n": 5}, epoch=5)
    for epoch in (3, 4):
        manager.save({"n": epoch}, epoch=epoch)
    with held(spool, own_server, directory):
        own_server.start()
        manager.save({"n": 6}, epoch=6)
        manager_of(own_server, directory, max_checkpoints=None).save({"n": 7}, epoch=7)
        assert own_server.names(directory) == [name(0)]
        assert manager.pending == [Path(directory) / name(epoch) for epoch in (5, 3, 4, 6, 7)]
    assert eventually(lambda: not manager.pending)
    assert delivered(own_server, directory) == [name(epoch) for epoch in (0, 5, 3, 4, 6, 7)]
    assert own_server.names(directory) == delivered(own_server, directory)
    assert manager.load_latest() == {"n": 7}
    assert [manager.load(name(epoch)) for epoch in (3, 4, 5)] == [{"n": 3}, {"n": 4}, {"n": 5}]
    manager.save({"n": 8}, epoch=8)
    assert own_server.names(directory)[-1] == name(8)


def test_a_manager_that_is_closed_has_delivered(own_server, directory):
    own_server.kill()
    with manager_of(own_server, directory) as manager:
        with pytest.warns(HoldfastWarning, match=AWAY):
            manager.save({}, epoch=1)
        own_server.start()
    assert own_server.names(directory) == [name(1)]


NEXT = """
import sys
from holdfast import CheckpointManager
assert CheckpointManager(sys.argv[2], server=sys.argv[1], patience_s=5).load_latest() is None
"""


@pytest.mark.parametrize("is_other", [False, True], ids=["of the same directory", "of another one"])
def test_the_next_process_that_uses_the_server_delivers(server, directory, put, spool, is_other):
    for epoch in (1, 2):
        put(epoch, where=f"{directory}/waiting" if is_other else directory)
    if is_other:
        subprocess.run([sys.executable, "-c", NEXT, server.url, directory], check=True, timeout=DEADLINE_S, cwd=PROJECT)
    else:
        code = NEXT.replace("load_latest() is None", "save({}, epoch=3)")
        subprocess.run([sys.executable, "-c", code, server.url, directory], check=True, timeout=DEADLINE_S, cwd=PROJECT)
    assert is_delivered(spool)
    wanted = [name(1), name(2)] if is_other else [name(1), name(2), name(3)]
    assert delivered(server, f"{directory}/waiting" if is_other else directory) == wanted


def test_sync_says_what_waits_and_delivers_it(own_server, directory, put, spool):
    assert sync() == (0, f"nothing waits in {spool}\n", "")
    items = [put(epoch, url=own_server.url) for epoch in (1, 2)]
    status, said, complaints = sync("--list")
    assert (status, complaints) == (1, "")
    size = formatting.size(sum(item.size_bytes for item in items))
    assert said.startswith(f"{directory} for {own_server.url}: 2 checkpoints wait, {size}, in {items[0].folder.parent}")
    own_server.kill()
    status, said, complaints = sync("--patience", "0")
    assert status == 1
    assert "still waiting: no answer from" in complaints
    own_server.start()
    status, said, complaints = sync()
    assert (status, complaints) == (0, "")
    assert [line.strip() for line in said.splitlines()[1:]] == [
        f"{directory}/{name(epoch)} is delivered" for epoch in (1, 2)
    ]
    assert sync() == (0, f"nothing waits in {spool}\n", "")
    assert delivered(own_server, directory) == [name(1), name(2)]


def test_sync_can_deliver_to_another_server_and_from_another_folder(
    server, directory, spool, free_port, put, monkeypatch
):
    put(1, url=f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("HOLDFAST_SPOOL", str(spool / "none"))
    assert sync()[0] == 0
    status, _, complaints = sync("--spool", str(spool), "--server", server.url)
    assert (status, complaints) == (0, "")
    assert delivered(server, directory) == [name(1)]


@pytest.mark.parametrize("arguments", [[], ["sink"], ["sync", "--unknown"], ["sync", "--patience", "long"]])
def test_a_misuse_of_the_command_is_told_from_what_is_left_to_do(arguments):
    done = subprocess.run([*HOLDFAST, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"holdfast: .+ See 'holdfast( \w+)? --help'\.\n", done.stderr)


def test_two_processes_at_once_deliver_each_once_and_in_order(server, directory, put, spool):
    for epoch in range(12):
        put(epoch, {"w": torch.randn(MIB // 8)})
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda _: sync(), range(3)))
    assert 0 in {status for status, _, _ in outcomes}
    assert is_delivered(spool)
    assert delivered(server, directory) == [name(epoch) for epoch in range(12)]
    assert sum(said.count("is delivered") for _, said, _ in outcomes) == 12


def test_who_finds_another_process_at_it_says_so(server, directory, put, spool):
    put(1)
    with held(spool, server, directory):
        status, _, complaints = sync()
    assert (status, complaints) == (1, "  another process is delivering these\n")
    assert delivered(server, directory) == []


# exactly once


class _deaf(Forwarder):
    """Pass commits on, and cut all connections in place of their first answer."""

    def __init__(self, url):
        super().__init__(url, watch=self._look)
        self._has_committed = False
        self.lost = 0

    def _look(self, up, piece):
        self._has_committed |= up and (b"/commit HTTP" in piece or b"/saves HTTP" in piece)
        if not up and self._has_committed and not self.lost:
            self.lost += 1
            return True
        return False


def test_a_commit_whose_answer_was_lost_is_delivered_once(server, directory, spool):
    with _deaf(server.url) as forwarder:
        manager = manager_of(forwarder, directory)
        with pytest.warns(HoldfastWarning, match=AWAY):
            path = manager.save({"n": 1}, epoch=1)
        assert eventually(lambda: not manager.pending)
        assert forwarder.lost == 1
        assert delivered(server, directory) == [name(1)]
        assert manager.load(path) == {"n": 1}


def test_a_delivery_whose_answer_was_lost_is_delivered_once(server, directory, put, spool):
    with _deaf(server.url) as forwarder:
        put(1, url=forwarder.url)
        put(2, url=forwarder.url)
        status, _, complaints = sync("--patience", "0")
        assert (status, forwarder.lost) == (1, 1)
        assert "still waiting" in complaints
        assert delivered(server, directory) == [name(1)]
        assert sync()[0] == 0
    assert delivered(server, directory) == [name(1), name(2)]


@needs_strace
@pytest.mark.parametrize("number", [1, 2], ids=["before it is noted", "before it is removed"])
def test_a_process_that_is_killed_after_the_commit_has_delivered_once(server, directory, put, spool, tmp_path, number):
    put(1)
    put(2)
    kill = ["-e", "trace=rename", "-e", f"inject=rename:signal=SIGKILL:when={number}"]
    done = subprocess.run(
        ["strace", "-f", "-o", tmp_path / "log", *kill, *HOLDFAST, "sync"], cwd=PROJECT, timeout=DEADLINE_S
    )
    assert done.returncode == -signal.SIGKILL
    assert delivered(server, directory) == [name(1)]
    assert sync()[0] == 0
    assert delivered(server, directory) == [name(1), name(2)]
    assert is_delivered(spool)


def test_what_the_server_has_already_is_not_sent_again(server, directory, put):
    state = {f"part {n}": torch.randn(MIB // 4) for n in range(20)}
    with Forwarder(server.url) as forwarder:
        manager_of(forwarder, directory).save(state, epoch=1)
        state["part 3"] = state["part 3"] + 1
        put(2, state, url=forwarder.url)
        forwarder.reset()
        assert sync()[0] == 0
        assert MIB < forwarder.up_bytes < 1.25 * MIB
    assert_same(torch.load(server.root / directory / name(2)), state)


# the order


def test_a_late_delivery_is_not_the_latest_after_newer_work(server, directory, put, spool):
    manager = manager_of(server, directory, max_checkpoints=None, max_best_checkpoints=None)
    manager.save({"n": 1}, epoch=1)
    item = put(2)
    assert item.facts()["save"]["saved_after"] == 1
    for epoch in (3, 4):
        server.save(directory, b"of another writer", epoch=epoch)
    status, said, _ = sync()
    assert (status, f"{directory}/{name(2)} is delivered" in said) == (0, True)
    assert server.names(directory, order_by="position")[-1] == name(4)
    assert name(2) in server.names(directory)


def test_a_late_delivery_that_is_pruned_at_once_is_told_of(server, directory, put):
    put(1)
    for epoch in (2, 3):
        server.save(directory, b"of another writer", epoch=epoch, max_checkpoints=1, max_best_checkpoints=0)
    status, said, complaints = sync()
    assert (status, complaints) == (0, "")
    assert f"{directory}/{name(1)} is delivered, and not kept: newer ones are there" in said
    assert server.names(directory) == [name(3)]


def test_a_late_delivery_replaces_no_newer_checkpoint_of_its_name(server, directory, put, spool):
    server.save(directory, b"of another writer", epoch=1)
    item = put(2)
    put(3)
    assert item.facts()["save"]["saved_after"] == 0
    server.save(directory, b"of another writer", epoch=2)
    status, said, complaints = sync()
    assert (status, complaints) == (0, "")
    assert f"{directory}/{name(2)} is not kept: another save of that name is newer" in said
    assert f"{directory}/{name(3)} is delivered" in said
    assert (server.root / directory / name(2)).read_bytes() == b"of another writer"
    assert is_delivered(spool)


def test_a_late_delivery_does_not_undo_the_limits_of_newer_saves(server, directory, put):
    put(1, policy={"max_checkpoints": 1})
    for epoch in (2, 3):
        server.save(directory, b"of another writer", epoch=epoch, max_checkpoints=4)
    assert sync()[0] == 0
    assert server.http.get(f"/v1/directories/{directory}").json()["policy"]["max_checkpoints"] == 4
    assert server.names(directory, order_by="position") == [name(2), name(1), name(3)]


def test_a_save_that_began_directly_and_was_delivered_from_here_comes_late_too(own_server, directory, spool):
    with _broken_off(own_server.url) as forwarder:
        manager = manager_of(forwarder, directory, max_checkpoints=None, max_best_checkpoints=None)
        with held(spool, forwarder, directory):
            with pytest.warns(HoldfastWarning, match=AWAY):
                manager.save({"n": torch.randn(MIB)}, epoch=1)
            assert own_server.incoming() != [], "it had not begun"
            for epoch in (2, 3):
                own_server.save(directory, b"of another writer", epoch=epoch)
        assert eventually(lambda: not manager.pending)
    assert delivered(own_server, directory) == [name(2), name(3), name(1)]
    assert own_server.names(directory, order_by="position")[-1] == name(3)


class _broken_off(Forwarder):
    """Cut all connections when the first bytes of a range pass."""

    def __init__(self, url):
        super().__init__(url, watch=lambda up, piece: up and piece.startswith(b"PUT ") and not self.cuts)


def test_what_a_process_has_delivered_it_knows_of_at_its_next_save(own_server, directory, spool):
    manager = manager_of(own_server, directory, max_checkpoints=None, max_best_checkpoints=None)
    for epoch in (1, 5):
        own_server.kill()
        with held(spool, own_server, directory):
            with pytest.warns(HoldfastWarning, match=AWAY):
                manager.save({"n": epoch}, epoch=epoch)
            own_server.start()
            if epoch == 1:
                for other in (2, 3):
                    own_server.save(directory, b"of another writer", epoch=other)
        assert eventually(lambda: not manager.pending)
    assert delivered(own_server, directory) == [name(epoch) for epoch in (2, 3, 1, 5)]
    assert manager.load_latest() == {"n": 5}


# failures that hold up a delivery


def pin(server, directory, which):
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory, "name": which}).json()["checkpoints"]
    server.http.patch(f"/v1/checkpoints/{found['id']}", json={"pinned": True}).raise_for_status()
    return found["id"]


def make_pinned(server, directory):
    server.save(directory, b"other content", name=name(1))
    pin(server, directory, name(1))
    return {}


def make_other_mode(server, directory):
    server.save(directory, b"x", epoch=9, metric=1.0, mode="max")
    return {"metric": 0.5}


@pytest.mark.parametrize(
    ("prepare", "code"),
    [pytest.param(make_pinned, "pinned", id="pinned"), pytest.param(make_other_mode, "mode_conflict", id="mode")],
)
@pytest.mark.parametrize("is_command", [False, True], ids=["by a thread", "by the command"])
def test_what_is_refused_is_parked_and_named_and_the_next_follows(
    server, directory, put, caplog, prepare, code, is_command
):
    facts = prepare(server, directory)
    item = put(1, **facts)
    put(2, policy={})
    if is_command:
        status, _, complaints = sync()
        assert status == 1
        assert f"refused: {name(1)}, " in complaints
    else:
        manager_of(server, "runs/elsewhere").load_latest()
        assert eventually(lambda: name(2) in server.names(directory))
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"{name(1)} of '{directory}' cannot be delivered" in record.getMessage()
    parked = item.folder.parent / "parked" / item.folder.name
    refusal = json.loads((parked / "refusal.json").read_text())
    assert refusal["code"] == code
    assert_same(torch.load(parked / "state.pt"), {"epoch": 1})
    assert name(2) in server.names(directory)
    assert eventually(lambda: manager_of(server, directory).pending == [])
    status, said, _ = sync("--list")
    assert status == 1
    assert f"refused: {name(1)}, {refusal['detail']}" in said
    assert str(parked) in said


def test_what_was_refused_is_tried_again_when_that_is_asked_for(server, directory, put):
    make_pinned(server, directory)
    put(1)
    assert sync()[0] == 1
    assert sync("--retry-refused")[0] == 1
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    server.http.patch(f"/v1/checkpoints/{found['id']}", json={"pinned": False}).raise_for_status()
    assert sync()[0] == 1
    assert sync("--retry-refused")[0] == 0
    assert torch.load(server.root / directory / name(1)) == {"epoch": 1}


@pytest.mark.parametrize(
    ("answer", "code"), [(b"HTTP/1.1 401 Unauthorized", "unauthorized"), (b"HTTP/1.1 403 Forbidden", "forbidden")]
)
def test_what_is_about_us_is_said_once_and_delivered_when_it_is_put_right(server, directory, put, caplog, answer, code):
    with _broken(server, answer, code) as proxy:
        for epoch in (1, 2):
            put(epoch, url=proxy.url)
        manager = manager_of(proxy, directory)
        manager.save({"epoch": 3}, epoch=3)
        assert eventually(lambda: proxy.reservations > 8)
        said = [record.getMessage() for record in caplog.records]  # also about queues of earlier tests
        (one,) = [each for each in said if directory in each]
        assert f"checkpoints of '{directory}' wait in" in one
        assert len(manager.pending) == 3
        status, _, complaints = sync("--patience", "0")
        assert status == 1
        assert "still waiting" in complaints or "another process" in complaints
        proxy.is_broken = False
        assert eventually(lambda: not manager.pending)
    assert delivered(server, directory) == [name(epoch) for epoch in (1, 2, 3)]


def test_what_is_too_large_for_the_server_is_put_aside_and_holds_up_nothing(server, directory, put, spool):
    with _broken(server, b"HTTP/1.1 413 Content Too Large", "too_large") as proxy:
        for epoch in (1, 2):
            put(epoch, url=proxy.url)
        status, _, complaints = sync()
        assert (status, proxy.reservations) == (1, 4)  # each is tried again once: the refusal may have been altered
        assert f"refused: {name(1)}" in complaints
        assert f"refused: {name(2)}" in complaints
        assert "[too_large]" in complaints
        proxy.is_broken = False
        assert sync("--retry-refused")[0] == 0
    assert delivered(server, directory) == [name(1), name(2)]


def port_of(server):
    return server.url.rpartition(":")[2]


def test_a_server_that_wants_a_token_now_is_delivered_to_by_who_has_it(tmp_path, directory, put, make_server):
    free = make_server(tmp_path / "root")
    put(1, url=free.url)
    port = port_of(free)
    free.kill()
    with LiveServer(tmp_path / "root", port=port, admin_token="a-long-secret-that-nobody-guesses") as closed:
        assert closed.url == free.url
        status, _, complaints = sync()
        assert status == 1
        assert "still waiting" in complaints
        assert sync("--token", "a-long-secret-that-nobody-guesses")[0] == 0
        closed.http.headers["Authorization"] = "Bearer a-long-secret-that-nobody-guesses"
        assert delivered(closed, directory) == [name(1)]
    free.start()


def test_a_full_disk_is_waited_out(tmp_path, directory, make_server, spool):
    full = make_server(tmp_path / "root", reserve_bytes=str(2**60))
    manager = manager_of(full, directory)
    with pytest.warns(HoldfastWarning, match=AWAY):
        manager.save({"n": 1}, epoch=1)
    manager.save({"n": 2}, epoch=2)
    assert delivered(full, directory) == []
    port = port_of(full)
    full.kill()
    with LiveServer(tmp_path / "root", port=port) as roomy:
        assert eventually(lambda: not manager.pending)
        assert delivered(roomy, directory) == [name(1), name(2)]
    full.start()


def test_an_upload_that_the_server_lost_is_no_refusal(server, directory, put, spool):
    def lose(up, piece):
        if up and piece.startswith(b"PUT ") and not lost:
            lost.append(piece.split(b"/")[3].decode())
            server.http.delete(f"/v1/uploads/{lost[0]}").raise_for_status()

    lost = []
    with Forwarder(server.url, watch=lose) as forwarder:
        put(1, {"bulk": torch.zeros(MIB)}, url=forwarder.url)
        status, _, complaints = sync("--patience", "0")
        assert (status, len(lost)) == (1, 1)
        assert "still waiting" in complaints
        assert not list(spool.glob("*/parked/*"))
        assert sync()[0] == 0
    assert delivered(server, directory) == [name(1)]


def test_a_server_that_loses_every_upload_does_not_hold_up_the_job(server, directory):
    """This happens with a load balancer before servers that share no state."""

    def lose(up, piece):
        if up and b"/commit HTTP/" in piece:
            lost.append(piece.split(b"/")[3].decode())
            server.http.delete(f"/v1/uploads/{lost[-1]}").raise_for_status()

    lost = []
    with Forwarder(server.url, watch=lose) as forwarder:
        manager = manager_of(forwarder, directory, patience_s=1)
        began = time.monotonic()
        with pytest.warns(HoldfastWarning, match=AWAY):
            manager.save({"weights": torch.rand(2 * MIB)}, epoch=1)
        assert time.monotonic() - began < DEADLINE_S
        assert lost
        assert manager.pending
    assert eventually(lambda: sync("--server", server.url)[0] == 0), "the thread of this process still tries"
    assert delivered(server, directory) == [name(1)]


# corrupt files


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def make_later_version(folder):
    facts = json.loads((folder / "item.json").read_text())
    (folder / "item.json").write_text(json.dumps({**facts, "version": 2}))


DAMAGES = [
    pytest.param(lambda folder: flip(folder / "item.json", 100), id="a flipped byte in what is said of it"),
    pytest.param(lambda folder: flip(folder / "state.pt", 100), id="a flipped byte in the file"),
    pytest.param(lambda folder: os.truncate(folder / "state.pt", 100), id="a truncated file"),
    pytest.param(lambda folder: (folder / "state.pt").unlink(), id="no file"),
    pytest.param(lambda folder: (folder / "item.json").unlink(), id="nothing said of it"),
    pytest.param(make_later_version, id="a later version"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_parked_and_named_and_the_rest_is_delivered(server, directory, put, damage):
    damaged = [put(1), put(2), put(3)][1]
    damage(damaged.folder)
    left = sorted(path.name for path in damaged.folder.iterdir())
    status, _, complaints = sync()
    assert status == 1
    assert re.search(rf"refused: ({name(2)}|{damaged.save_id}), ", complaints)
    assert delivered(server, directory) == [name(1), name(3)]
    parked = damaged.folder.parent / "parked" / damaged.folder.name
    assert sorted(path.name for path in parked.iterdir()) == sorted([*left, "refusal.json"])


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_never_loaded(server, directory, put, spool, damage):
    item = put(2)
    with held(spool, server, directory):
        damage(item.folder)
        with pytest.raises((IntegrityError, FileNotFoundError)):
            manager_of(server, directory).load(name(2))


def test_a_disk_that_cannot_be_read_is_no_outage_and_no_damage(server, directory, put, spool, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    put(1, {"weights": torch.rand(1000)})
    manager = manager_of(server, directory)
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", fail)
        manager.save({"epoch": 2}, epoch=2)
        assert eventually(lambda: "Input/output error" in caplog.text)
        assert not manager._saver.target.server.circuit.is_open
        assert len(manager.pending) == 2
    assert eventually(lambda: not manager.pending)
    assert delivered(server, directory) == [name(1), name(2)]


def test_what_can_never_be_sent_is_parked(server, directory, put):
    put(1, metadata={"note": "\ud800"})
    put(2)
    assert sync()[0] == 1
    assert delivered(server, directory) == [name(2)]


def test_what_cannot_be_removed_is_not_sent_again_and_again(server, directory, put):
    item = put(1)
    if subprocess.run(["mount", "--bind", item.folder, item.folder], capture_output=True).returncode:
        pytest.skip("only root may mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", item.folder], check=True)
        status, said, complaints = sync()
        assert status == 1
        assert said.count(" is delivered") == 1
        assert "cannot be read or moved" in complaints
    finally:
        subprocess.run(["umount", item.folder], check=True)
    assert sync()[0] == 0
    assert delivered(server, directory) == [name(1)]


# giving up


def test_cleanup_drops_what_waits_and_what_was_refused(own_server, directory, put, spool):
    manager = manager_of(own_server, directory)
    manager.save({}, epoch=1)
    queue = put(2, url=own_server.url).folder.parent
    Spool(spool).queue(own_server.url, directory).park(put(3, url=own_server.url), ValueError("no"))
    put(4, where=f"{directory}/other", url=own_server.url)
    manager.cleanup_all()
    assert manager.pending == []
    assert own_server.names(directory) == []
    assert not list(queue.glob("*-*-*")) + list(queue.glob("parked/*"))
    manager.save({}, epoch=5)
    assert own_server.names(directory) == [name(5)]
    manager_of(own_server, directory).load_latest()
    assert eventually(lambda: is_delivered(spool))
    assert own_server.names(f"{directory}/other") == [name(4)]


def test_cleanup_waits_for_a_delivery_that_is_under_way(server, directory, put, spool):
    started, go_on = threading.Event(), threading.Event()

    def hold(up, piece):
        if up and b"POST /v1/saves HTTP" in piece and not started.is_set():
            started.set()
            go_on.wait(DEADLINE_S)

    with Forwarder(server.url, watch=hold) as forwarder, ExitStack() as stack:
        put(1, url=forwarder.url)
        syncing = subprocess.Popen([*HOLDFAST, "sync"], cwd=PROJECT, stdout=subprocess.DEVNULL)
        stack.callback(syncing.communicate)
        stack.callback(syncing.kill)
        assert started.wait(DEADLINE_S)
        manager = manager_of(forwarder, directory)
        threading.Timer(0.5, go_on.set).start()
        begun = time.monotonic()
        manager.cleanup_all()
        assert time.monotonic() - begun > 0.4
        assert syncing.wait(DEADLINE_S) == 0
    assert server.names(directory) == []
    assert delivered(server, directory) == [name(1)]
