"""Every state that can be saved loads as torch loads its file, by each way of loading."""

import itertools
import warnings

import pytest
import torch
import torch.distributed

from holdfast import CheckpointManager, HoldfastWarning
from tests.data import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # torch, torchao and the spool warn


def quantised_by_torchao():
    """Return weights of a network and the state of an optimizer, both of 8 bits."""
    from torchao.optim.subclass_8bit import OptimState8bit
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 8))
    quantize_(network, Int8WeightOnlyConfig())
    moment = OptimState8bit.zeros((256, 256))
    moment.copy_(torch.randn(256, 256))
    return {"model": network.state_dict(), "optimizer": {"state": {0: {"exp_avg": moment}}}, "plain": torch.ones(3)}


@pytest.fixture(scope="module")
def group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


STATES = {
    "distributed": zoo.distributed,
    "torchao": quantised_by_torchao,
    **{name: zoo.STATES[name] for name in ("an estimator", "quantised", "nested", "jagged", "meta", "a dataclass")},
}


MAPS = (None, {"cpu": "cpu"}, "meta")


@pytest.mark.parametrize("name", STATES)
def test_by_every_way_a_state_is_what_torch_makes_of_its_file(server, directory, group, tmp_path, free_port, name):
    torch.manual_seed(0)
    state = STATES[name]()
    cached = {"server": server.url, "cache_dir": tmp_path / "cache"}
    with CheckpointManager(directory, server=server.url) as manager:
        path = manager.save(state, epoch=1, metric=0.5)
    with CheckpointManager(f"{directory}/later", server=server.url, background=True) as later:
        later.save(state, epoch=1, metric=0.5)
    away = CheckpointManager(f"{directory}/away", server=f"http://127.0.0.1:{free_port}", patience_s=0.1)
    with pytest.warns(HoldfastWarning, match="are kept in"):
        waiting = away.save(state, epoch=1)
    (spooled,) = away._saver.target.queue.spool.folder.glob("*/*/state.pt")
    loads = {
        "load": lambda **how: manager.load(path, **how),
        "load_best": lambda **how: manager.load_best(**how),
        "load_latest": lambda **how: later.load_latest(**how),
        "resume": lambda **how: later.resume(**how),
        "into the cache": lambda **how: CheckpointManager(directory, **cached).load_latest(**how),
        "from the cache": lambda **how: CheckpointManager(directory, **cached).load_latest(**how),
        "from the spool": lambda **how: away.load(waiting, **how),
        "resumed from the spool": lambda **how: away.resume(**how),
    }
    files = [manager.download(path, tmp_path / "state.pt"), spooled]
    for (way, load), map_location in itertools.product(loads.items(), MAPS):
        if map_location == "meta" and name in ("quantised", "nested"):  # torch cannot, either
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            how = {"map_location": map_location, "weights_only": name not in ("an estimator", "a dataclass")}
            wanted = torch.load(files["spool" in way], **how)
            assert zoo.differences(load(**how), wanted) == [], (way, map_location)
    if name in ("distributed", "torchao"):
        assert list(manager.load(path, only=("plain",))) == ["plain"]


def test_what_an_object_saves_within_a_state_is_saved_whole(server, directory):
    """None of its storages is left out, unlike those of the state itself."""
    manager = CheckpointManager(directory, server=server.url)
    manager.save({"estimator": zoo.Nested(), "w": torch.ones(70_000)}, epoch=1)
    found = manager.load_latest(weights_only=False)
    assert torch.equal(found["estimator"].weight, torch.arange(50_000.0))


def test_only_may_be_any_iterable_of_keys(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    path = manager.save({"model": 1, "epoch": 2, 3: "three"}, epoch=1, metric=1.0)
    wanted = {"model": 1, "epoch": 2}
    keys = ("model", "epoch")
    for only in (keys, list(keys), set(keys), dict(wanted), dict(wanted).keys(), frozenset(keys)):
        assert manager.load(path, only=only) == wanted
    for make in (lambda: iter(keys), lambda: (key for key in keys), lambda: map(str, keys)):
        assert manager.load(path, only=make()) == wanted
        assert manager.load_best(only=make()) == wanted
        assert manager.load_latest(only=make()) == wanted
    assert manager.load(path, only=[3]) == {3: "three"}
    assert manager.load(path, only=()) == {}
    for only in ("model", b"model", 3, True, object(), [["model"]], 1.5):
        with pytest.raises(TypeError, match="only is a collection of keys"):
            manager.load(path, only=only)
    for only in (("modle",), iter(["model", "modle"])):
        with pytest.raises(KeyError, match="no 'modle'; it has 'model', 'epoch'"):
            manager.load(path, only=only)
    many = {f"layer.{n}": n for n in range(100)}
    path = manager.save(many, epoch=2)
    with pytest.raises(KeyError, match=r"no 'layer\.1OO'; it has .layer\.1., .*and \d+ more") as missing:
        manager.load(path, only=("layer.1OO",))
    assert len(str(missing.value)) < 500
