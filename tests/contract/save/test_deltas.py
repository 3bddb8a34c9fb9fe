"""Deltas: a save does not send what the server has already, in this directory or in a base."""

import json
import re

import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning
from holdfast._torchfile.writer.layout import layout_of
from tests.data.states import assert_same
from tests.support.forwarder import Forwarder

MIB = 1024 * 1024
NEXT_TO_NOTHING = 64 * 1024
PARTS = 20
ONE_PART = MIB + 256 * 1024
"""The bytes of one part, of what is small, and of requests."""


@pytest.fixture
def sent():
    """The pieces that clients have sent."""
    return []


@pytest.fixture
def forwarder(server, sent):
    """The route to the server, on which bytes are counted and recorded."""
    with Forwarder(server.url, watch=lambda up, piece: up and sent.append(piece)) as found:
        yield found


@pytest.fixture
def make_manager(forwarder, directory):
    """Makes managers whose bytes are counted; they keep everything by default."""

    def make(where=directory, **options):
        return CheckpointManager(where, None, None, server=forwarder.url, **options)

    return make


def make_state(seed=0):
    """Make a state of so many parts of 1 MiB each, and some small ones."""
    numbers = torch.Generator().manual_seed(seed)
    parts = {f"part {n}": torch.randn(MIB // 4, generator=numbers) for n in range(PARTS)}
    return {"model": parts, "norm": {f"{n}": torch.randn(64, generator=numbers) for n in range(20)}, "epoch": seed}


def cost(forwarder, save):
    """Save, and return the number of bytes that were sent."""
    forwarder.reset()
    save()
    return forwarder.up_bytes


def file_of(state):
    """Return the bytes that a state's file must have."""
    layout = layout_of(state)
    return b"".join(bytes(layout.read(place)[0]) for place in range(len(layout.extents)))


def assert_stored(server, path, state):
    """Assert that the server has this state and no other."""
    assert (server.root / path).read_bytes() == file_of(state)
    assert_same(torch.load(server.root / path), state)


def were_hashed_first(sent):
    """Tell for each reservation if it declared digests of its chunks."""
    requests = b"".join(sent)
    chunks = re.findall(rb'POST /v1/uploads HTTP/1\.1\r\n.*?"chunks":(\[.*?\])', requests, re.DOTALL)
    return [all(chunk.get("digest") for chunk in json.loads(found)) for found in chunks]


def test_a_tenth_that_changed_costs_a_tenth(forwarder, make_manager, server):
    manager, state = make_manager(), make_state()
    first = cost(forwarder, lambda: manager.save(state, epoch=1))
    assert first > PARTS * MIB
    for n in (3, 11):
        state["model"][f"part {n}"] = state["model"][f"part {n}"] + 1
    count = cost(forwarder, lambda: manager.save(state, epoch=2))
    size = (server.root / manager.checkpoint_dir / "checkpoint_epoch_0002.pt").stat().st_size
    assert 2 * MIB < count <= 0.105 * size
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0002.pt", state)
    assert_same(manager.load_latest(), state)


@pytest.mark.parametrize("epoch", [1, 2], ids=["under the same name", "under another name"])
@pytest.mark.parametrize("is_new", [False, True], ids=["by the same manager", "by another manager"])
def test_the_same_state_again_costs_next_to_nothing(forwarder, make_manager, server, epoch, is_new):
    manager, state = make_manager(), make_state()
    manager.save(state, epoch=1)
    again = make_manager() if is_new else manager
    assert cost(forwarder, lambda: again.save(state, epoch=epoch)) < NEXT_TO_NOTHING
    assert_stored(server, manager.checkpoint_dir / f"checkpoint_epoch_000{epoch}.pt", state)
    assert cost(forwarder, lambda: again.save(state, epoch=3)) < NEXT_TO_NOTHING
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0003.pt", state)


def rename(state):
    state["network"] = {f"renamed {name}": tensor for name, tensor in state.pop("model").items()}


def turn_around(state):
    state["model"] = dict(reversed(state["model"].items()))


def drop_half(state):
    for n in range(PARTS // 2):
        del state["model"][f"part {2 * n}"]


def add_text(state):
    state["log"] = [f"step {n}" for n in range(1000)]


def change_what_is_small(state):
    for tensor in state["norm"].values():
        tensor.add_(1)


def view_again(state):
    state["views"] = [tensor[100:200].view(10, 10) for tensor in state["model"].values()]


@pytest.mark.parametrize(
    "change",
    [rename, turn_around, drop_half, add_text, change_what_is_small, view_again],
    ids=lambda change: change.__name__.replace("_", " "),
)
def test_large_tensors_that_stay_are_never_sent_again(forwarder, make_manager, server, change):
    manager, state = make_manager(), make_state()
    manager.save(state, epoch=1)
    change(state)
    assert cost(forwarder, lambda: manager.save(state, epoch=2)) < 256 * 1024
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0002.pt", state)


def test_a_state_that_came_back_is_known_while_the_one_before_it_stays(forwarder, make_manager, server):
    manager, one, other = make_manager(), make_state(1), make_state(2)
    for epoch, state in enumerate([one, other]):
        manager.save(state, epoch=epoch)
    assert cost(forwarder, lambda: manager.save(other, epoch=2)) < NEXT_TO_NOTHING
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0002.pt", other)


def test_the_first_save_asks_before_it_sends(make_manager, sent):
    make_manager().save(make_state(), epoch=1)
    assert were_hashed_first(sent) == [True]


def test_after_a_save_of_which_nothing_was_known_the_next_is_hashed_while_it_is_sent(make_manager, server, sent):
    manager = make_manager()
    states = [make_state(seed) for seed in range(3)]
    for epoch, state in enumerate(states):
        manager.save(state, epoch=epoch)
    assert were_hashed_first(sent) == [True, False, False]
    for epoch, state in enumerate(states):
        assert_stored(server, manager.checkpoint_dir / f"checkpoint_epoch_{epoch:04d}.pt", state)


def test_the_same_state_is_recognised_even_then(forwarder, make_manager, server, sent):
    manager = make_manager()
    states = [make_state(seed) for seed in range(2)]
    for epoch, state in enumerate(states):
        manager.save(state, epoch=epoch)
    assert were_hashed_first(sent) == [True, False]
    assert cost(forwarder, lambda: manager.save(states[1], epoch=2)) < NEXT_TO_NOTHING
    assert were_hashed_first(sent) == [True, False, True]
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0002.pt", states[1])


def test_one_that_is_much_the_same_is_recognised_even_then(forwarder, make_manager):
    manager, state = make_manager(), make_state()
    for epoch in range(2):
        state = make_state(epoch)
        manager.save(state, epoch=epoch)
    state["model"]["part 5"] = state["model"]["part 5"] + 1
    assert cost(forwarder, lambda: manager.save(state, epoch=2)) < ONE_PART


def test_what_a_base_has_is_not_sent(forwarder, make_manager, server, directory):
    pretrained = make_state()
    base = make_manager(f"{directory}/pretrained").save(pretrained, epoch=1)
    tuned = {**pretrained, "head": torch.randn(MIB // 4)}
    manager = make_manager(f"{directory}/tuned", base=base)
    assert cost(forwarder, lambda: manager.save(tuned, epoch=1)) < ONE_PART
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0001.pt", tuned)
    without = make_manager(f"{directory}/other")
    assert cost(forwarder, lambda: without.save(tuned, epoch=1)) > PARTS * MIB


def test_a_base_that_is_gone_later_takes_nothing_with_it(make_manager, server, directory):
    pretrained = make_state()
    elsewhere = make_manager(f"{directory}/pretrained")
    manager = make_manager(f"{directory}/tuned", base=elsewhere.save(pretrained, epoch=1))
    path = manager.save(pretrained, epoch=1)
    elsewhere.cleanup_all()
    server.wait_until_freed()
    assert_same(manager.load(path), pretrained)
    assert_stored(server, path, pretrained)
    state = make_state(1)
    assert_same(manager.load(manager.save(state, epoch=2)), state)


def test_a_base_that_never_was_costs_a_warning_and_all_of_the_bytes(forwarder, make_manager, directory):
    manager = make_manager(base=f"{directory}/pretrained/missing.pt")
    with pytest.warns(HoldfastWarning, match="missing.pt"):
        assert cost(forwarder, lambda: manager.save(make_state(), epoch=1)) > PARTS * MIB
    manager.save(make_state(), epoch=2)  # and is warned of once


def test_what_was_replaced_or_pruned_is_no_longer_relied_on(server, forwarder, directory):
    manager = CheckpointManager(directory, 1, 0, server=forwarder.url)
    states = [make_state(seed) for seed in range(2)]
    manager.save(states[0], epoch=1)
    manager.save(states[1], epoch=2)
    server.wait_until_freed()
    path = manager.save(states[0], epoch=3)
    assert_stored(server, path, states[0])
    assert_same(manager.load_latest(), states[0])


def test_a_server_that_was_started_again_still_knows(own_server):
    with Forwarder(own_server.url) as forwarder:
        manager, state = CheckpointManager("runs/a", None, None, server=forwarder.url), make_state()
        manager.save(state, epoch=1)
        own_server.restart()
        state["model"]["part 7"] = state["model"]["part 7"] + 1
        assert cost(forwarder, lambda: manager.save(state, epoch=2)) < ONE_PART
        assert_stored(own_server, manager.checkpoint_dir / "checkpoint_epoch_0002.pt", state)


def test_what_changed_on_the_servers_disk_is_not_taken_for_what_was_saved(own_server):
    """The bytes of an altered file are not reused for another checkpoint, which would spread the damage."""
    manager, state = CheckpointManager("runs/a", None, None, server=own_server.url), make_state()
    path = manager.save(state, epoch=1)
    with (own_server.root / path).open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"\xff" * 100)
    again = manager.save(state, epoch=2)
    assert_stored(own_server, again, state)
    assert_same(manager.load(again), state)


def test_saves_in_a_row_each_cost_what_changed(forwarder, make_manager, server):
    manager, state = make_manager(), {f"{n}": torch.randn(MIB // 8) for n in range(10)}
    manager.save(state, epoch=0)
    costs = []
    for epoch in range(1, 11):
        state[f"{epoch % 10}"] = state[f"{epoch % 10}"] + 1
        costs.append(cost(forwarder, lambda epoch=epoch: manager.save(state, epoch=epoch)))
    assert max(costs) < 0.6 * MIB
    assert_stored(server, manager.checkpoint_dir / "checkpoint_epoch_0010.pt", state)
