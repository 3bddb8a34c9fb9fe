"""The tensor index of a torch file without torch: equal to the client's, bounded, and without running its code."""

import random
import struct
import sys
import tracemalloc

import pytest
import torch
from safetensors.torch import save

from app.formats import tensor_index
from app.formats.read_budget import Budget
from holdfast._torchfile.reader import tensor_index as _tensor_index
from tests.data import exploits, zoo

STATE = {
    "model": {"w": torch.ones(30), "b": torch.ones(3)},
    "list": [torch.nn.Parameter(torch.ones(2))],
    (1, "a"): torch.arange(4),
    "epoch": 3,
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
MORE = {
    "keys of all kinds": lambda: {
        key: torch.ones(2) for key in ("", "a.b", 1, -1.5, None, True, (1, "x"), ("a",), "x" * 2000, "é")
    },
    "keys that are objects": lambda: {zoo.Colour.RED: torch.ones(2), frozenset({1}): 2, "w": torch.ones(3)},
    "deep": lambda: [[[[[[{"w": torch.ones(3)}]]]]]],
    "too deep": lambda: nested(120),
    "the same list twice": lambda: [[one := torch.ones(3), one]] * 2,
    "views": lambda: {"base": (base := torch.arange(12.0)), "tail": base[4:], "none": base[:0], "all": base.view(3, 4)},
}


def nested(depth):
    value = torch.ones(1)
    for _ in range(depth):
        value = [value]
    return value


def found(data, budget=None):
    tensors = tensor_index.read(lambda offset, length: data[offset : offset + length], len(data), budget)
    if tensors is None:
        return None
    names = ("name", "dtype", "shape", "offset", "size_bytes")
    return [{name: getattr(each, name) for name in names} | {"shape": list(each.shape)} for each in tensors]


@pytest.fixture
def by_the_client(tmp_path):
    def index(data):
        (tmp_path / "file.pt").write_bytes(data)
        return _tensor_index.index_file(tmp_path / "file.pt")

    return index


@pytest.mark.parametrize("make", [*zoo.STATES.values(), *MORE.values()], ids=[*zoo.STATES, *MORE])
def test_server_and_client_find_the_same_tensors(make, by_the_client):
    state = make()
    for protocol in (2, 4):
        data = zoo.saved(state, pickle_protocol=protocol)
        assert found(data) == by_the_client(data)


def test_they_do_in_files_of_other_formats(by_the_client):
    for name, data in zoo.archives().items():
        assert found(data) == by_the_client(data), name
    data = save({"w": torch.ones(3), "b": torch.ones(2, 2).half(), "e": torch.zeros(0)}, {"format": "pt"})
    assert found(data) == by_the_client(data)
    assert len(found(data)) == 3


def test_offsets_lead_to_the_bytes():
    data = zoo.saved(STATE)
    assert [each["name"] for each in found(data)] == ["model.w", "model.b", "list.0", "(1, 'a')"]
    for each, tensor in zip(found(data), zoo.tensors(STATE), strict=True):
        assert each["dtype"] == str(tensor.dtype).removeprefix("torch.")
        expected = bytes(tensor.detach().numpy())
        assert data[each["offset"] :][: each["size_bytes"]] == expected


def test_hostile_files_are_read_as_the_client_reads_them_and_run_nothing(tmp_path, by_the_client):
    modules = set(sys.modules)
    pickles = exploits.calls(tmp_path / "mark") | exploits.claims() | exploits.oddities()
    for name, pickled in pickles.items():
        data = exploits.archive(pickled)
        assert found(data, Budget(1 << 21, 100_000)) in (None, by_the_client(data)), name
    assert not (tmp_path / "mark").exists()
    assert {"antigravity", "this"}.isdisjoint(set(sys.modules) - modules)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_have_an_index_or_none(seed, by_the_client):
    numbers = random.Random(seed)
    whole = [zoo.saved(STATE), zoo.saved(STATE, pickle_protocol=4), save(STATE["model"])]
    read = 0
    for _ in range(400):
        data = bytearray(numbers.choice(whole))
        first = numbers.choice([0, 60, max(0, bytes(data).find(b"PK\x01\x02"))])
        for _ in range(numbers.randrange(1, 6)):
            place = numbers.randrange(first, min(len(data), first + 700))
            data[place] = numbers.choice([numbers.randrange(256), *b"](}.)tRQ\x85\x87hqrsue02bc\x93\x81o"])
        damaged = bytes(data[: numbers.choice([len(data), len(data), numbers.randrange(len(data))])])
        if (index := found(damaged)) is None:
            continue
        read += 1
        assert by_the_client(damaged) in (None, index)
        for each in index:
            assert each["offset"] is None or 0 <= each["offset"] <= len(damaged)
            assert each["name"].encode() or not each["name"]
    assert read


def text(length):
    return b"X" + struct.pack("<I", length) + b"a" * length


MANY = 1 << 18
ENDLESS = {
    "lists": b"]" * MANY,
    "lists in lists": b"]" + b"]a" * MANY,
    "marks": b"(" * MANY,
    "numbers": b"(" + b"M\xff\xff" * MANY + b"t",
    "a memo": b"\x80\x04N" + b"\x94" * MANY,
    "many arguments, often": b"ccollections\nOrderedDict\nq\x01(" + b"N" * MANY + b"tq\x02" + b"h\x01h\x02R0" * MANY,
    "a long name, often": text(MANY) + b"q\x01\x80\x04" + b"h\x01h\x01\x930" * MANY,
    "a long key, often": text(MANY) + b"\x85q\x01}q\x020" + b"h\x02h\x01Ns0" * MANY,
    "a long reference, often": b"(" + b"N" * MANY + b"tq\x01" + b"h\x01Q0" * MANY,
    "keys that collide": b"}("
    + b"".join(b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"N" for n in range(MANY // 8))
    + b"u",
    "lists that hold themselves twice": b"]" + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(1, 9)) + b"0" * 8,
    "long names of many tensors": b"}" + text(900) + b"](" + b"]" * MANY + b"es",
}


@pytest.mark.parametrize("pickled", ENDLESS.values(), ids=ENDLESS)
def test_a_pickle_takes_no_more_than_its_budget(pickled):
    data = exploits.archive(b"\x80\x02" + pickled + b".")
    tracemalloc.start()
    try:
        assert not found(data, budget := Budget(1 << 21, 20_000))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert budget.steps < 20_000


def test_two_records_of_one_name_are_no_index(by_the_client):
    good = exploits.tensor()
    for more in (("data.pkl", good), ("data/0", bytes(16))):
        data = exploits.archive(good, more)
        assert (found(data), by_the_client(data)) == (None, None)


def test_a_tensor_beyond_all_numbers_is_no_index(by_the_client):
    data = exploits.archive(exploits.tensor(size=(1 << 62, 1 << 62), stride=(0, 0)))
    assert (found(data), by_the_client(data)) == (None, None)


def test_a_budget_that_is_spent_is_spent_for_the_next_file_too():
    data = zoo.saved(STATE)
    budget = Budget(1 << 20, 700)
    assert [found(data, budget) is not None for _ in range(9)][::8] == [True, False]
