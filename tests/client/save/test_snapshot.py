"""Snapshots of states: later changes never reach the file, and a snapshot costs no new memory."""

import gc
import os
import signal
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from holdfast._save.snapshot import Staging
from holdfast._torchfile.writer.layout import layout_of
from tests.data.states import MIB, STATES, TRUSTED_STATES, strided

every_state = pytest.mark.parametrize("make", [*STATES, *TRUSTED_STATES])
pytestmark = [
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation"),
]


def file_of(layout) -> bytes:
    """Assemble the file of a layout."""
    return b"".join(bytes(layout.read(place)[0]) for place in range(len(layout.spans)))


def storages(state: Any) -> list[torch.UntypedStorage]:
    """Collect the storages of a state, each once."""
    return list({tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in strided(state)}.values())


def overwrite(state: Any) -> None:
    """Invert every bit of every storage and array, in place."""
    for storage in storages(state):
        if storage.nbytes():
            torch.empty(0, dtype=torch.uint8).set_(storage).bitwise_not_()
    for value in state.values() if isinstance(state, dict) else []:
        if isinstance(value, np.ndarray):
            np.invert(value, out=value)


def resize(state: Any) -> None:
    """Free the memory of every storage."""
    overwrite(state)
    for storage in storages(state):
        storage.resize_(0)


def delete(state: Any) -> None:
    """Drop all references that a state holds."""
    overwrite(state)
    if isinstance(state, dict | list):
        state.clear()
    gc.collect()


def grow(state: Any) -> None:
    """Change the Python objects, at any depth."""
    if isinstance(state, dict):
        for value in list(state.values()):
            grow(value)
        state["more"] = torch.ones(100_000)
    elif isinstance(state, list):
        for value in state:
            grow(value)
        state.append("more")
    elif isinstance(state, nn.Module):
        state.more = nn.Linear(3, 3)


@every_state
@pytest.mark.parametrize("change", [overwrite, resize, delete, grow])
def test_what_becomes_of_a_state_after_its_snapshot_does_not_reach_the_file(make, change):
    state = make()
    wanted = file_of(layout_of(state))
    with torch.no_grad():
        layout = layout_of(state, Staging().snapshot().copied)
        change(state)
    assert file_of(layout) == wanted


def test_changing_a_state_without_a_snapshot_does_reach_the_file():
    """This proves that the tests above can fail."""
    state = {"w": torch.ones(100_000)}
    wanted = file_of(layout_of(state))
    layout = layout_of(state)
    overwrite(state)
    assert file_of(layout) != wanted


@every_state
def test_a_snapshot_says_the_same_of_tensors_and_chunks_as_the_state(make):
    state = make()
    plain, staged = layout_of(state), layout_of(state, Staging().snapshot().copied)
    assert staged.tensors == plain.tensors
    assert staged.chunks() == plain.chunks()


def snapshot_at(staging: Staging, state: Any) -> tuple[int, Any]:
    """Take a snapshot; returns the address of its memory, and the snapshot."""
    snapshot = staging.snapshot()
    layout_of(state, snapshot.copied)
    return snapshot._buffer.address, snapshot


def test_the_memory_of_a_snapshot_serves_the_next_one_and_smaller_ones():
    staging = Staging()
    addresses = []
    for size in (300_000, 300_000, 1_000, 300_000):
        address, snapshot = snapshot_at(staging, {"w": torch.ones(size)})
        addresses.append(address)
        snapshot.close()
    assert len(set(addresses)) == 1


def test_two_snapshots_at_a_time_have_memory_of_their_own():
    staging = Staging()
    state = {"w": torch.ones(300_000)}
    (first, one), (second, other) = snapshot_at(staging, state), snapshot_at(staging, state)
    assert first != second
    one.close()
    third, _ = snapshot_at(staging, state)
    assert third == first
    other.close()


def test_a_forked_child_does_not_write_into_the_snapshot_of_its_parent():
    staging = Staging()
    state, childs = {"w": torch.full((300_000,), 2.0)}, {"w": torch.ones(300_000)}
    _, snapshot = snapshot_at(staging, childs)
    snapshot.close()
    (parent_reads, child_writes), (child_reads, parent_writes) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(child_reads, 1)
        layout_of(childs, staging.snapshot().copied)
        os.write(child_writes, b".")
        os._exit(0)
    layout = layout_of(state, staging.snapshot().copied)
    os.write(parent_writes, b".")
    assert os.read(parent_reads, 1) == b"."
    os.waitpid(child, 0)
    for descriptor in (parent_reads, child_writes, child_reads, parent_writes):
        os.close(descriptor)
    assert file_of(layout) == file_of(layout_of(state))


def test_a_child_that_was_forked_while_memory_is_taken_takes_its_own():
    staging, state = Staging(), {"w": torch.ones(1000)}
    with staging._guard:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            layout_of(state, staging.snapshot().copied)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_memory_that_is_too_small_is_let_go_where_more_is_needed():
    staging = Staging()
    _, snapshot = snapshot_at(staging, {"w": torch.ones(1000)})
    small = weakref.ref(snapshot._buffer)
    snapshot.close()
    assert small() is not None
    _, snapshot = snapshot_at(staging, {"w": torch.ones(300_000)})
    assert snapshot._buffer.size_bytes >= 1_200_000
    gc.collect()
    assert small() is None


def test_the_best_fitting_memory_is_used():
    staging = Staging()
    (large, one), (small, other) = (snapshot_at(staging, {"w": torch.ones(size)}) for size in (900_000, 90_000))
    one.close()
    other.close()
    assert snapshot_at(staging, {"w": torch.ones(90_000)})[0] == small
    assert snapshot_at(staging, {"w": torch.ones(90_000)})[0] == large


def test_closing_twice_gives_memory_back_once():
    staging = Staging()
    first, snapshot = snapshot_at(staging, {"w": torch.ones(1000)})
    snapshot.close()
    snapshot.close()
    (second, _one), (third, _other) = (snapshot_at(staging, {"w": torch.ones(1000)}) for _ in range(2))
    assert second == first
    assert third != first


def test_storages_in_a_snapshot_begin_at_whole_cache_lines():
    state = {f"{size}": torch.ones(size, dtype=torch.uint8) for size in (1, 63, 64, 65, 70_001)}
    copies = []
    snapshot = Staging().snapshot()

    def copied(storages):
        copies.extend(snapshot.copied(storages))
        return copies

    layout_of(state, copied)
    begin = copies[0].address
    assert [(copy.address - begin) % 64 for copy in copies] == [0] * len(state)


def test_a_snapshot_does_not_keep_the_state_in_memory():
    memory = np.ones(MIB)
    state = {"w": torch.from_numpy(memory)}
    original = weakref.ref(memory)
    layout = layout_of(state, Staging().snapshot().copied)
    del state, memory
    gc.collect()
    assert original() is None
    assert layout.size_bytes > 8 * MIB
