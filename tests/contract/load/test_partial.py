"""Loading some keys of a state fetches only their bytes, whichever tool wrote the file."""

import io
import os
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from holdfast import CheckpointManager, IntegrityError
from tests.data.states import STATES, assert_same
from tests.support.forwarder import Forwarder
from tests.support.memory import resident_bytes

MIB = 1024 * 1024
NEXT_TO_NOTHING = 64 * 1024

pytestmark = [
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation"),
]


@pytest.fixture(scope="module")
def forwarder(server):
    """A forwarder to the server that counts bytes."""
    with Forwarder(server.url) as found:
        yield found


@pytest.fixture(scope="module")
def manager(forwarder):
    """A manager whose bytes are counted."""
    return CheckpointManager("runs/in/part", server=forwarder.url)


def training_state(width=512, layers=8):
    """A model of some MiB and an AdamW state of twice the size."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, width)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}


def fetched(forwarder, load):
    """Return the number of bytes that a load fetched, and its result."""
    forwarder.reset()
    state = load()
    return forwarder.down_bytes, state


def torchs_file(state, **how):
    """Return the file of a state as torch writes it."""
    file = io.BytesIO()
    torch.save(state, file, **how)
    return file.getvalue()


def test_the_model_without_its_optimizer_is_a_third_of_the_bytes(manager, forwarder, server):
    state = training_state()
    path = manager.save(state, epoch=7)
    count, found = fetched(forwarder, lambda: manager.load(path, only=("model",)))
    assert_same(found, {"model": state["model"]})
    assert count <= 0.34 * (server.root / path).stat().st_size


def test_the_best_and_the_latest_can_be_loaded_in_part_too(manager, forwarder):
    state = training_state(width=256)
    manager.save(state, epoch=1, metric=0.5)
    for load in (manager.load_best, manager.load_latest):
        count, found = fetched(forwarder, lambda load=load: load(only=["epoch"]))
        assert found == {"epoch": 7}
        assert count < 2 * NEXT_TO_NOTHING
    assert CheckpointManager("runs/nothing/here", server=forwarder.url).load_latest(only=("model",)) is None


@pytest.mark.parametrize("keys", [["optimizer", "model"], {"epoch"}, ("epoch", "epoch"), (), {"model": 1}.keys()])
def test_the_keys_may_be_any_collection(manager, keys):
    state = training_state(width=64, layers=2)
    path = manager.save(state, epoch=7)
    found = manager.load(path, only=keys)
    assert set(found) == set(keys)
    assert_same({name: found[name] for name in sorted(found)}, {name: state[name] for name in sorted(set(keys))})


@pytest.mark.parametrize("make", STATES)
def test_every_key_of_every_state_can_be_loaded_alone(manager, make):
    state = make()
    path = manager.save(state, epoch=1)
    if not isinstance(state, dict):
        with pytest.raises(KeyError, match="no keys"):
            manager.load(path, only=("a",))
        return
    for name in list(state)[:3]:
        assert_same(manager.load(path, only=(name,)), {name: state[name]})


@pytest.mark.filterwarnings("ignore:what was saved to")
@pytest.mark.parametrize("kind", [dict, OrderedDict])
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(torch.float16, id="a dtype"),
        pytest.param(torch.Size([1, 2]), id="a size"),
        pytest.param(torch.device("cpu"), id="a device"),
        pytest.param((torch.float16, 1), id="a tuple"),
        pytest.param(frozenset([1]), id="a frozen set"),
        pytest.param(np.int64(5), id="a number of numpy"),
        pytest.param(np.str_("model"), id="a text of numpy"),
        pytest.param((1, "a", None, b"b", 2.5), id="plain values"),
    ],
)
def test_a_key_may_be_any_object(manager, key, kind):
    path = manager.save(kind({key: torch.ones(70_000), "other": torch.zeros(70_000)}), epoch=1)
    is_trusted_only = type(key).__module__ == "numpy" or isinstance(key, frozenset)  # as torch has it
    for is_untrusted in [False] if is_trusted_only else [False, True]:
        found = manager.load(path, only=(key,), weights_only=is_untrusted)
        assert list(found) == [key]
        assert torch.equal(found[key], torch.ones(70_000))


@pytest.mark.filterwarnings("ignore:what was saved to")
def test_a_state_that_makes_its_values_itself_is_loaded_as_it_would(manager):
    path = manager.save(Crossed({"a": torch.ones(70_000), "b": torch.full((70_000,), 2.0)}), epoch=1)
    assert torch.equal(manager.load(path, only=("a",), weights_only=False)["a"], torch.full((70_000,), 2.0))


def test_a_key_that_is_not_there_is_named_beside_those_that_are(manager):
    path = manager.save({"model": torch.ones(100_000), "epoch": 1}, epoch=1)
    with pytest.raises(KeyError, match="no 'modle'; it has 'model', 'epoch'"):
        manager.load(path, only=("modle",))
    with pytest.raises(KeyError, match="no 'modle'"):
        manager.load(path, only=("model", "modle"))


def test_a_key_that_is_not_there_costs_next_to_nothing(manager, forwarder):
    path = manager.save({"model": torch.ones(MIB)}, epoch=1)
    forwarder.reset()
    with pytest.raises(KeyError):
        manager.load(path, only=("modle",))
    assert forwarder.down_bytes < NEXT_TO_NOTHING


@pytest.mark.parametrize("load", ["load", "load_best", "load_latest"])
def test_a_bare_string_is_no_collection_of_keys(manager, load):
    path = manager.save({"model": 1, "m": 2}, epoch=1, metric=0.1)
    arguments = [path] if load == "load" else []
    with pytest.raises(TypeError, match=r"\('model',\)"):
        getattr(manager, load)(*arguments, only="model")


@pytest.mark.parametrize(
    "state", [torch.ones(100_000), [torch.ones(100_000)], (1, 2), 5, None], ids=lambda state: type(state).__name__
)
def test_a_state_without_keys_has_none_to_choose(manager, state):
    path = manager.save(state, epoch=1)
    with pytest.raises(KeyError, match=f"is a {type(state).__name__} and has no keys"):
        manager.load(path, only=("model",))


def test_a_file_that_came_by_curl_is_loaded_in_part_too(manager, forwarder, server):
    state = {"model": torch.randn(MIB // 4), "optimizer": torch.randn(44 * MIB // 4), "note": {"lr": 0.1}}
    data = torchs_file(state)
    server.save("runs/in/part", data, epoch=1)
    count, found = fetched(forwarder, lambda: manager.load("checkpoint_epoch_0001.pt", only=("model",)))
    assert_same(found, {"model": state["model"]})
    assert count < 0.3 * len(data)
    count, found = fetched(forwarder, lambda: manager.load("checkpoint_epoch_0001.pt", only=("note",)))
    assert found == {"note": {"lr": 0.1}}
    assert count < 0.3 * len(data)
    assert_same(manager.load("checkpoint_epoch_0001.pt"), state)


@pytest.mark.parametrize("make", STATES)
def test_whatever_torch_writes_can_be_loaded_whole_and_in_part(manager, server, make):
    state = make()
    server.save("runs/in/part", torchs_file(state), epoch=1)
    assert_same(manager.load("checkpoint_epoch_0001.pt"), state)
    if isinstance(state, dict) and state:
        (name, *_) = state
        assert_same(manager.load("checkpoint_epoch_0001.pt", only=(name,)), {name: state[name]})


@pytest.mark.parametrize("make", [training_state, lambda: {"model": torch.ones(3), "epoch": 7}])
def test_files_of_torchs_older_format_can_be_loaded_whole_and_in_part(manager, server, make):
    state = make()
    server.save("runs/in/part", torchs_file(state, _use_new_zipfile_serialization=False), epoch=1)
    assert_same(manager.load("checkpoint_epoch_0001.pt"), state)
    assert_same(manager.load("checkpoint_epoch_0001.pt", only=("model",)), {"model": state["model"]})


def test_a_protocol_that_torch_does_not_use_by_itself_is_read_too(manager, server):
    state = training_state(width=64, layers=2)
    server.save("runs/in/part", torchs_file(state, pickle_protocol=4), epoch=1)
    assert_same(manager.load("checkpoint_epoch_0001.pt", weights_only=False), state)
    assert_same(
        manager.load("checkpoint_epoch_0001.pt", only=("model",), weights_only=False), {"model": state["model"]}
    )


def test_a_storage_that_other_keys_share_comes_once_and_is_the_same(manager, forwarder, server):
    base = torch.randn(2 * MIB // 4)
    state = {"a": base, "b": base[100:200], "c": torch.randn(8 * MIB // 4), "d": {"again": [base.view(4, -1)]}}
    path = manager.save(state, epoch=1)
    count, found = fetched(forwarder, lambda: manager.load(path, only=("d", "b")))
    assert_same(found, {"d": state["d"], "b": state["b"]})
    assert count < 2 * MIB + NEXT_TO_NOTHING
    assert_same(manager.load(path, only=("b",)), {"b": state["b"]})


def test_objects_that_several_keys_share_are_found_from_each(manager):
    """The pickle holds such an object at its first occurrence, and references everywhere else."""
    inner = {"weights": torch.randn(70_000), "list": [torch.ones(5)]}
    inner["self"] = inner["list"]
    state = {"first": inner, "second": {"same": inner}, "third": torch.randn(90_000)}
    path = manager.save(state, epoch=1)
    assert_same(manager.load(path, only=("second",)), {"second": state["second"]})


Pair = namedtuple("Pair", "one other")


class Bare:
    """An object whose pickle holds only its class."""

    __slots__ = ()


class Slotted:
    """An object with only slots."""

    __slots__ = ("weights",)

    def __init__(self, weights):
        self.weights = weights


class Listed(list):
    """A list of a class of its own."""


class Crossed(dict):
    """A mapping that returns for each of two keys what was stored under the other."""

    def __getitem__(self, key):
        return super().__getitem__({"a": "b", "b": "a"}[key])


class Keyed(dict):
    """A dict of a class of its own."""


@pytest.mark.filterwarnings("ignore:what was saved to")
@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        pytest.param(lambda w: Pair(1, w), lambda found: found.other, id="a namedtuple"),
        pytest.param(lambda w: [Bare(), w], lambda found: found[1], id="beside an object without anything"),
        pytest.param(Slotted, lambda found: found.weights, id="an object's slot"),
        pytest.param(lambda w: SimpleNamespace(w=w), lambda found: found.w, id="an object's attribute"),
        pytest.param(lambda w: Listed([w]), lambda found: found[0], id="a class of lists"),
        pytest.param(lambda w: Keyed(w=w), lambda found: found["w"], id="a class of dicts"),
        pytest.param(lambda w: {(1, "a"): (w, {2})}, lambda found: found[1, "a"][0], id="a tuple in a dict"),
        pytest.param(lambda w: partial(print, w, end=w), lambda found: found.keywords["end"], id="a call to come"),
        pytest.param(lambda w: defaultdict(list, w=[w]), lambda found: found["w"][0], id="a dict with a default"),
        pytest.param(lambda w: deque([w]), lambda found: found[0], id="a queue"),
    ],
)
def test_tensors_within_any_object_are_found(manager, forwarder, wrap, unwrap):
    weights = torch.randn(70_000)
    path = manager.save({"wanted": wrap(weights), "other": torch.randn(4 * MIB // 4)}, epoch=1)
    count, found = fetched(forwarder, lambda: manager.load(path, only=("wanted",), weights_only=False))
    assert torch.equal(unwrap(found["wanted"]), weights)
    assert count < MIB


@pytest.mark.parametrize("kind", [OrderedDict, Keyed, UserDict, partial(defaultdict, list)])
def test_a_state_may_be_any_kind_of_mapping(manager, kind):
    state = kind({"model": torch.randn(70_000), "other": torch.randn(70_000)})
    path = manager.save(state, epoch=1)
    found = manager.load(path, only=("model",), weights_only=False)
    assert list(found) == ["model"]
    assert torch.equal(found["model"], state["model"])
    with pytest.raises(KeyError, match="it has 'model', 'other'"):
        manager.load(path, only=("more",), weights_only=False)


def kept_as_it_is(storage, location):
    assert location == "cpu"
    return storage


@pytest.mark.parametrize(
    "map_location",
    [
        pytest.param("cpu", id="a device's name"),
        pytest.param(torch.device("cpu"), id="a device"),
        pytest.param({"cpu": "cpu"}, id="a dict"),
        pytest.param({"cuda:0": "cpu"}, id="a dict that says nothing of these"),
        pytest.param(kept_as_it_is, id="a function"),
        pytest.param(lambda storage, location: None, id="a function that leaves it to torch"),
    ],
)
@pytest.mark.parametrize("only", [None, ("model",)], ids=["all", "in part"])
def test_tensors_go_where_they_are_wanted(manager, map_location, only):
    state = training_state(width=128, layers=3)
    path = manager.save(state, epoch=1)
    found = manager.load(path, map_location=map_location, only=only)
    assert_same(found, state if only is None else {"model": state["model"]})


@pytest.mark.parametrize("only", [None, ("model",)], ids=["all", "in part"])
@pytest.mark.parametrize("meta", ["meta", torch.device("meta")], ids=["name", "device"])
def test_tensors_can_be_had_without_their_values(manager, meta, only):
    state = training_state(width=128, layers=3)
    path = manager.save(state, epoch=1)
    found = manager.load(path, map_location=meta, only=only)
    assert set(found) == set(only or state)
    for name, tensor in state["model"].items():
        assert found["model"][name].device.type == "meta"
        assert found["model"][name].shape == tensor.shape


def test_a_function_is_asked_for_every_storage_as_torch_would(manager, server):
    state = {"a": torch.ones(70_000), "b": torch.ones(3), "c": torch.ones(70_000)[5:], "d": torch.zeros(0)}
    path = manager.save(state, epoch=1)
    asked, torchs = [], []
    manager.load(path, map_location=lambda storage, location: asked.append((storage.nbytes(), location)))
    torch.load(server.root / path, map_location=lambda s, location: torchs.append((s.nbytes(), location)))
    assert asked == torchs


def test_bytes_that_were_altered_are_no_state_not_even_in_part(manager, server):
    state = {"a": torch.zeros(MIB), "b": torch.zeros(MIB)}
    path = manager.save(state, epoch=1)
    (entry,) = (entry for entry in manager.checkpoints if entry["path"].name == path.name)
    (file,) = server.http.get(f"/v1/checkpoints/{entry['id']}/tensors").json()["files"]
    (lies,) = [tensor for tensor in file["tensors"] if tensor["name"] == "b"]
    times = (server.root / path).stat()
    with (server.root / path).open("r+b") as opened:
        opened.seek(lies["offset"] + 12345)
        opened.write(b"\1")
    os.utime(server.root / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert_same(manager.load(path, only=("a",)), {"a": state["a"]})
    with pytest.raises(IntegrityError):
        manager.load(path, only=("b",))
    with pytest.raises(IntegrityError):
        manager.load(path)


def test_a_load_in_part_takes_no_memory_for_the_rest(manager):
    path = manager.save({"a": torch.ones(MIB), "b": torch.ones(12 * MIB)}, epoch=1)
    before = resident_bytes()
    found = manager.load(path, only=("a",))
    assert resident_bytes() - before < 16 * MIB
    assert found["a"].sum() == MIB
