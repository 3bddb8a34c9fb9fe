"""Background saves: their bytes, their order, their number, and the errors that callers are given."""

import ctypes
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning, ModeConflict
from tests.data.states import MIB, STATES, TRUSTED_STATES, strided
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import LiveServer, eventually

every_state = pytest.mark.parametrize("make", [*STATES, *TRUSTED_STATES])
quiet_states = [
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation"),
]
pytestmark = quiet_states


class Gate:
    """A gate that holds back what clients send while it is shut."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.held = threading.Event()
        self.open()

    def shut(self) -> None:
        self.held.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def watch(self, up: bool, piece: bytes) -> bool:
        if up and not self._open.is_set():
            self.held.set()
            self._open.wait(DEADLINE_S)
        return False


@pytest.fixture
def gate(server: LiveServer) -> Iterator[Gate]:
    """The route to the server of `held_manager`."""
    gate = Gate()
    with Forwarder(server.url, watch=gate.watch) as forwarder:
        gate.url = forwarder.url
        yield gate
        gate.open()


@pytest.fixture
def held_manager(gate: Gate, directory: str) -> Iterator[Callable[..., CheckpointManager]]:
    """Makes managers of the test's own directory, whose messages the gate may hold."""
    made = []

    def make(**options):
        manager = CheckpointManager(directory, None, server=gate.url, background=True, **options)
        made.append(manager)
        return manager

    yield make
    gate.open()
    for manager in made:
        manager._saver.background.wait(DEADLINE_S)


def stored(server, directory, path) -> bytes:
    return (server.root / directory / path.name).read_bytes()


def epochs(manager) -> list[int]:
    return [found["epoch"] for found in manager.checkpoints]


def wreck(state) -> None:
    """Overwrite, shrink and drop all that a state holds."""
    for storage in {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in strided(state)}.values():
        if storage.nbytes():
            torch.empty(0, dtype=torch.uint8).set_(storage).bitwise_not_()
        storage.resize_(0)
    if isinstance(state, dict | list):
        for array in state.values() if isinstance(state, dict) else []:
            array.fill(0) if isinstance(array, np.ndarray) else None
        state.clear()


@pytest.mark.filterwarnings("ignore:what was saved to")
@every_state
def test_the_file_is_that_of_a_save_in_the_foreground_whatever_becomes_of_the_state(
    server, directory, gate, held_manager, make
):
    manager, state = held_manager(), make()
    wanted = stored(server, directory, manager.save(state, epoch=1, wait=True))
    gate.shut()
    path = manager.save(state, epoch=2)
    assert gate.held.wait(DEADLINE_S)
    with torch.no_grad():
        wreck(state)
    gate.open()
    assert manager.wait(DEADLINE_S)
    assert stored(server, directory, path) == wanted


def test_nested_python_objects_may_change_too(server, directory, gate, held_manager):
    manager = held_manager()
    state = {"log": [{"at": [1, 2]}], "bytes": bytearray(b"abc")}
    gate.shut()
    path = manager.save(state, epoch=1)
    state["log"][0]["at"].append(3)
    state["bytes"][0] = 0
    gate.open()
    assert manager.wait(DEADLINE_S)
    assert manager.load(path, weights_only=False) == {"log": [{"at": [1, 2]}], "bytes": bytearray(b"abc")}


def test_one_save_may_be_in_the_background_and_another_in_the_foreground(server, directory, gate, held_manager):
    manager = CheckpointManager(directory, None, server=gate.url)
    gate.shut()
    manager.save({"n": 1}, epoch=1, wait=False)
    assert manager.pending == [Path(directory) / "checkpoint_epoch_0001.pt"]
    gate.open()
    manager.save({"n": 2}, epoch=2)
    assert manager.pending == []
    assert server.names(directory, order_by="position") == [f"checkpoint_epoch_000{n}.pt" for n in (1, 2)]


def test_what_is_under_way_is_named_and_waiting_says_whether_it_has_ended(directory, gate, held_manager):
    manager = held_manager()
    gate.shut()
    paths = [manager.save({"n": n}, epoch=n) for n in (1, 2)]
    assert manager.pending == paths
    assert manager.wait(timeout_s=0.05) is False
    gate.open()
    assert manager.wait(timeout_s=30) is True
    assert manager.pending == []
    assert epochs(manager) == [1, 2]


def test_the_order_of_saves_is_the_order_of_commits(server, directory, held_manager):
    manager = held_manager(max_pending=4)
    for epoch in range(12):
        manager.save({"w": torch.ones((12 - epoch) * 50_000)}, epoch=epoch)
    assert manager.wait(DEADLINE_S)
    found = server.http.get("/v1/checkpoints", params={"directory": directory, "order_by": "position"}).json()
    assert [checkpoint["epoch"] for checkpoint in found["checkpoints"]] == list(range(12))
    assert [c["sequence"] for c in found["checkpoints"]] == sorted(c["sequence"] for c in found["checkpoints"])


def test_a_save_in_the_foreground_comes_after_those_in_the_background(server, directory, gate, held_manager):
    manager = held_manager()
    gate.shut()
    manager.save({"w": torch.ones(MIB)}, epoch=1)
    opening = threading.Thread(target=lambda: (gate.held.wait(DEADLINE_S), gate.open()))
    opening.start()
    manager.save({"n": 2}, epoch=2, wait=True)
    opening.join()
    assert server.names(directory, order_by="position") == [f"checkpoint_epoch_000{n}.pt" for n in (1, 2)]


# the number of saves that wait


def test_one_save_more_than_may_be_pending_waits_until_one_has_ended(server, directory, gate, held_manager):
    manager, seen = held_manager(max_pending=2), []
    manager.save({}, epoch=0, wait=True)
    gate.shut()
    for epoch in (1, 2):
        manager.save({"n": torch.ones(MIB)}, epoch=epoch)

    def third():
        manager.save({"n": torch.ones(MIB)}, epoch=3)
        seen.append(server.names(directory))

    saving = threading.Thread(target=third, daemon=True)
    saving.start()
    saving.join(0.5)
    assert saving.is_alive()
    assert len(manager.pending) == 2
    gate.open()
    saving.join(DEADLINE_S)
    assert "checkpoint_epoch_0001.pt" in seen[0]
    assert manager.wait(DEADLINE_S)
    assert len(manager._saver._staging._free) <= 2
    assert epochs(manager) == [0, 1, 2, 3]


def test_threads_that_save_at_once_lose_and_mix_nothing_and_keep_to_the_limit(server, directory, gate, held_manager):
    manager, paths, most = held_manager(max_pending=2), {}, []
    gate.shut()

    def save(number):
        state = {"w": torch.full((100_000,), float(number)), "n": number}
        paths[number] = manager.save(state, epoch=number, metric=float(number))
        wreck(state)

    threads = [threading.Thread(target=save, args=(number,), daemon=True) for number in range(12)]
    for thread in threads:
        thread.start()
    assert not eventually(lambda: most.append(len(manager.pending)) or most[-1] > 2, 0.5)
    gate.open()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert manager.wait(DEADLINE_S)
    assert max(most) == 2
    assert len(manager._saver._staging._free) <= 2
    assert sorted(epochs(manager)) == list(range(12))
    for number, path in paths.items():
        found = manager.load(path)
        assert found["n"] == number
        assert torch.equal(found["w"], torch.full((100_000,), float(number)))
    assert {found["epoch"]: found["metric"] for found in manager.checkpoints} == {n: float(n) for n in range(12)}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_does_not_grow_over_many_saves(directory, server):
    manager = CheckpointManager(directory, 1, 0, server=server.url, background=True, max_pending=2)
    state = {"w": torch.zeros(8 * MIB), "v": torch.zeros(8 * MIB)}
    for epoch in range(6):
        manager.save(state, epoch=epoch)
    assert manager.wait(DEADLINE_S)
    before = resident_bytes()
    for epoch in range(50):
        state["w"][epoch] = epoch
        manager.save(state, epoch=epoch)
    assert manager.wait(DEADLINE_S)
    assert resident_bytes() - before < 64 * MIB
    assert len(manager._saver._staging._free) <= 2


# failures


def test_a_refusal_is_raised_by_wait_once_and_names_the_checkpoint(server, directory, make_manager):
    make_manager(mode="max").save({}, epoch=1, metric=1.0)
    manager = make_manager(mode="min", background=True)
    manager.save({}, epoch=2, metric=1.0)
    with pytest.raises(ModeConflict) as caught:
        manager.wait(DEADLINE_S)
    assert any("checkpoint_epoch_0002.pt" in note for note in caught.value.__notes__)
    assert manager.wait(DEADLINE_S)
    manager.close()
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


def test_a_refusal_is_raised_by_the_next_save_which_may_be_tried_again(server, directory):
    server.save(directory, mode="max")
    manager = CheckpointManager(directory, server=server.url, background=True)
    manager.save({}, epoch=1)
    assert eventually(lambda: not manager.pending)
    with pytest.raises(ModeConflict) as caught:
        manager.save({}, epoch=2)
    assert any("checkpoint_epoch_0001.pt" in note for note in caught.value.__notes__)
    manager.save({}, epoch=2)
    with pytest.raises(ModeConflict) as caught:
        manager.close()
    assert any("checkpoint_epoch_0002.pt" in note for note in caught.value.__notes__)
    manager.close()


def test_after_a_refusal_other_saves_go_on(directory, make_manager, server):
    manager = make_manager(background=True)
    path = manager.save({"n": 1}, epoch=1, wait=True)
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory, "name": path.name}).json()[
        "checkpoints"
    ]
    server.http.patch(f"/v1/checkpoints/{found['id']}", json={"pinned": True}).raise_for_status()
    manager.save({"n": 2}, epoch=1)
    manager._saver.background.wait()
    with pytest.raises(FileExistsError):
        manager.save({}, epoch=2)
    manager.save({"n": 3}, epoch=2)
    assert manager.wait(DEADLINE_S)
    assert manager.load_latest() == {"n": 3}
    assert manager.load(path) == {"n": 1}


def test_the_end_of_a_block_waits(directory, make_manager):
    with make_manager(background=True) as manager:
        path = manager.save({"w": torch.ones(MIB)}, epoch=1)
    assert manager.pending == []
    assert torch.equal(make_manager().load(path)["w"], torch.ones(MIB))


def test_the_end_of_a_block_raises_and_names_all_that_was_refused(make_manager, gate):
    make_manager(mode="max").save({}, epoch=1, metric=1.0)
    manager = CheckpointManager(make_manager().checkpoint_dir, server=gate.url, background=True)

    def block():
        with manager:
            gate.shut()
            for epoch in (2, 3):
                manager.save({}, epoch=epoch, metric=1.0)
            gate.open()

    with pytest.raises(ModeConflict) as caught:
        block()
    told = " ".join(caught.value.__notes__)
    assert "checkpoint_epoch_0002.pt" in told
    assert "checkpoint_epoch_0003.pt" in told
    manager.close()


@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt])
def test_the_end_of_a_block_does_not_hide_the_blocks_own_exception(make_manager, raised):
    make_manager(mode="max").save({}, epoch=1, metric=1.0)

    def block():
        with make_manager(background=True) as manager:
            manager.save({}, epoch=2, metric=1.0)
            raise raised("the block's own")

    with (
        pytest.warns(HoldfastWarning, match=r"mode='max'.*checkpoint_epoch_0002\.pt"),
        pytest.raises(raised, match="own"),
    ):
        block()


def test_an_error_of_another_kind_does_not_hide_the_blocks_own_exception_either(make_manager, tmp_path):
    """A defect of the client raises such an error."""

    def block():
        with make_manager(background=True) as manager:
            manager._saver.background.do("one", lambda: (tmp_path / "none" / "file").read_bytes())
            raise RuntimeError("the block's own")

    with pytest.warns(HoldfastWarning, match="No such file"), pytest.raises(RuntimeError, match="own"):
        block()


def test_close_tells_of_what_is_under_way_and_cannot_be_kept_on_this_machine(directory, gate, held_manager):
    manager = held_manager(on_unreachable="raise")
    gate.shut()
    manager.save({}, epoch=1)
    with pytest.warns(HoldfastWarning, match=r"checkpoint_epoch_0001\.pt is not saved yet"):
        manager.close(timeout_s=0.1)
    gate.open()
    assert manager.wait(DEADLINE_S)
    assert epochs(manager) == [1]


def test_close_brings_what_is_under_way_into_the_spool_where_it_takes_too_long(
    directory, gate, held_manager, caplog, spool
):
    manager = held_manager()
    gate.shut()
    manager.save({"n": 1}, epoch=1)
    assert gate.held.wait(DEADLINE_S)
    with caplog.at_level(logging.WARNING, "holdfast"):
        manager.close(timeout_s=0.1)
    assert "1 checkpoint" in caplog.text
    assert len(list(spool.glob("*/0*/state.pt"))) == 1
    gate.open()
    assert manager.wait(DEADLINE_S)
    assert eventually(lambda: not manager.pending)
    assert epochs(manager) == [1]


@pytest.mark.parametrize("first", ["torch", "holdfast.manager"])
def test_the_end_of_the_process_waits_and_names_what_was_refused(server, directory, make_manager, gate, first):
    make_manager(mode="max").save({}, epoch=1, metric=1.0)
    script = (
        f"import sys, {first}, torch, holdfast\n"
        "good = holdfast.CheckpointManager(sys.argv[2] + '/good', server=sys.argv[1], background=True)\n"
        "bad = holdfast.CheckpointManager(sys.argv[2], server=sys.argv[1], background=True)\n"
        "sys.stdin.readline()\n"
        "for epoch in (1, 2): good.save({'w': torch.full((3_000_000,), epoch)}, epoch=epoch)\n"
        "bad.save({}, epoch=2, metric=1.0)\n"
        "del good, bad\n"
        "sys.stdin.readline()\n"
        "print('the end', flush=True)\n"
    )
    command = [sys.executable, "-c", script, gate.url, directory]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        gate.shut()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert gate.held.wait(DEADLINE_S)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "the end\n"
        opening = threading.Timer(0.5, gate.open)  # by then, the process ends
        opening.start()
        errors = process.stderr.read()
    opening.join()
    assert process.returncode == 0, errors
    assert "checkpoint_epoch_0002.pt" in errors
    assert "mode='max'" in errors
    assert "Traceback" not in errors
    assert server.names(f"{directory}/good") == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"]


def test_a_state_that_cannot_be_serialised_raises_at_once_and_costs_nothing(directory, make_manager):
    manager = make_manager(background=True, max_pending=1)
    manager.save({"w": torch.ones(MIB)}, epoch=1)
    assert manager.wait(DEADLINE_S)
    (buffer,) = manager._saver._staging._free
    for _ in range(3):
        with pytest.raises((AttributeError, TypeError), match=r"pickle|lambda"):
            manager.save({"w": torch.ones(MIB), "f": lambda: None, "lock": threading.Lock()}, epoch=2)
    assert manager.pending == []
    assert manager._saver.target.jobs == []
    manager.save({"w": torch.zeros(MIB)}, epoch=3)
    assert manager.wait(DEADLINE_S)
    assert manager._saver._staging._free == [buffer]
    assert epochs(manager) == [1, 3]


def test_memory_for_a_snapshot_is_not_lost_where_copying_fails(directory, make_manager, monkeypatch):
    manager = make_manager(background=True, max_pending=1)
    manager.save({"w": torch.ones(MIB)}, epoch=1)
    assert manager.wait(DEADLINE_S)
    (buffer,) = manager._saver._staging._free

    def fail(*_):
        raise MemoryError("no copies")

    state = {"w": torch.ones(MIB)}
    monkeypatch.setattr(ctypes, "memmove", fail)
    with pytest.raises(MemoryError, match="no copies"):
        manager.save(state, epoch=2)
    monkeypatch.undo()
    assert manager._saver._staging._free == [buffer]


# only if improved


def test_the_best_in_the_background_is_guessed_from_the_servers_and_decided_there(directory, make_manager, gate):
    make_manager().save({"n": 0}, epoch=1, metric=0.5)
    manager = CheckpointManager(directory, server=gate.url, background=True)
    assert manager.save_best_if_improved({}, 0.5, epoch=2) is None
    assert manager.save_best_if_improved({}, 0.6, epoch=2) is None
    path = manager.save_best_if_improved({"n": 3}, 0.4, epoch=3)
    assert path.name == "best_epoch_0003.pt"
    assert manager.wait(DEADLINE_S)
    assert manager.load_best() == {"n": 3}


def test_a_guess_that_the_server_does_not_share_is_no_error(server, directory, make_manager, gate, held_manager):
    make_manager().save({"n": 0}, epoch=1, metric=0.5)
    manager = held_manager()
    going = threading.Event()
    manager._saver.background.do("what comes first", lambda: going.wait(DEADLINE_S))
    assert manager.save_best_if_improved({"n": 2}, 0.4, epoch=2) is not None
    make_manager().save({"n": "better"}, epoch=7, metric=0.1)
    going.set()
    assert manager.wait(DEADLINE_S)
    manager.close()
    assert "best_epoch_0002.pt" not in server.names(directory)
    assert manager.load_best() == {"n": "better"}


def test_a_guess_does_not_wait_for_a_server_that_is_away(own_server):
    manager = CheckpointManager("runs/a", server=own_server.url, background=True, patience_s=30)
    own_server.kill()
    start = time.monotonic()
    path = manager.save_best_if_improved({"n": 1}, 0.5, epoch=1)
    assert time.monotonic() - start < 5
    assert path.name == "best_epoch_0001.pt"
    own_server.start()
    assert manager.wait(DEADLINE_S)
    assert manager.load_best() == {"n": 1}


# the time that a save takes


@pytest.mark.alone
def test_a_save_stalls_training_hardly_longer_than_cloning_the_state_would(server, directory):
    manager = CheckpointManager(directory, 1, 0, server=server.url, background=True)
    state = {f"{n}": torch.randn(64 * MIB // 4) for n in range(8)}

    def cloning_s():
        start = time.perf_counter()
        clones = {name: tensor.clone() for name, tensor in state.items()}
        return time.perf_counter() - start, clones

    def saving_s():
        start = time.perf_counter()
        manager.save(state, epoch=1)
        stall_s = time.perf_counter() - start
        assert manager.wait(DEADLINE_S)
        return stall_s

    def ratio():
        pairs = [(saving_s(), cloning_s()[0]) for _ in range(3)]
        return statistics.median(s for s, _ in pairs) / statistics.median(c for _, c in pairs)

    saving_s()
    cloning_s()
    ratios = []
    assert eventually(lambda: min(ratios, default=9.0) <= 1.2 or ratios.append(ratio()), 240), ratios
