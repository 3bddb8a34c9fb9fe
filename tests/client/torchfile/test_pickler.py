"""The pickle of a state has the bytes that torch writes, for plain and other tensors."""

import copyreg
import gc
import io
import os
import threading
import zipfile
from collections import OrderedDict

import pytest
import torch

from holdfast._runtime import gc_pause
from holdfast._torchfile.writer import pickler
from holdfast._torchfile.writer.layout import layout_of
from holdfast._torchfile.writer.records import records_of
from tests.support.deadlines import DEADLINE_S


def torchs_pickle(state):
    file = io.BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file) as opened:
        return opened.read("archive/data.pkl")


def described(state):
    """Return the number of tensors that were reduced without torch."""
    records = records_of(state)
    assert records.pickled == torchs_pickle(state)
    return len(records.described)


def marked(value):
    value.note = "mine"
    return value


def with_hook():
    value = torch.ones(3, requires_grad=True)
    value.register_hook(lambda gradient: gradient)
    return value


SHARED = torch.zeros(10)
PLAIN = {
    "of no dimension": torch.ones(()),
    "empty": torch.ones(0, 3),
    "transposed": torch.ones(2, 3).t(),
    "part": torch.arange(10)[3:5],
    "expanded": torch.ones(1).expand(5),
    "with a gradient": torch.ones(2, requires_grad=True),
    "a parameter": torch.nn.Parameter(torch.ones(2)),
    "a frozen parameter": torch.nn.Parameter(torch.ones(2), requires_grad=False),
    "shared": [SHARED, SHARED[2:], torch.nn.Parameter(SHARED)],
    "among texts": OrderedDict(cpu="cpu", storage="storage", tensor=torch.ones(1), empty=OrderedDict()),
}
OTHERS = {
    "negated": torch.ones(2, dtype=torch.complex64).conj().imag,
    "complex": torch.ones(2, dtype=torch.complex64),
    "with attributes": marked(torch.ones(2)),
    "of a new type": torch.ones(2).to(torch.float8_e5m2),
    "sparse": torch.ones(2, 2).to_sparse(),
    "in a module": torch.nn.ParameterDict({"a": torch.ones(2)}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_tensors_have_torchs_pickle_without_torch(name):
    assert described({"state": PLAIN[name]}) >= 1


@pytest.mark.parametrize("name", OTHERS)
def test_other_tensors_have_torchs_pickle_too(name):
    described({"state": OTHERS[name], "plain": torch.ones(1)})


def test_a_parameter_with_attributes_is_left_to_torch():
    state = {"a": marked(torch.nn.Parameter(torch.ones(2)))}
    assert records_of(state).pickled == torchs_pickle(state)
    assert [entry["name"] for entry in layout_of(state).tensors] == ["a"]


def test_torch_warns_of_hooks_as_ever():
    with pytest.warns(UserWarning, match="hook"):
        records_of({"a": with_hook()})


def test_what_a_user_registered_for_tensors_is_asked(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, torch.Tensor, lambda tensor: (list, (tensor.tolist(),)))
    assert described({"a": torch.ones(2)}) == 0


def test_a_torch_that_reduces_otherwise_is_asked(monkeypatch):
    own = torch.Tensor._reduce_ex_internal

    def other(self, protocol):
        function, arguments = own(self, protocol)
        return function, (*arguments, {})

    assert described({"a": torch.ones(2)}) == 1
    monkeypatch.setattr(torch.Tensor, "_reduce_ex_internal", other)
    assert described({"a": torch.ones(2)}) == 0


def test_a_mode_is_asked():
    with torch.device("cpu"):
        assert not pickler._can_be_quick()
        assert described({"a": torch.ones(2)}) == 0


def test_tensors_of_two_types_over_one_memory_are_refused_as_torch_does():
    one = torch.zeros(4)
    with pytest.raises(RuntimeError, match="view the same memory"):
        layout_of({"a": one, "b": one.view(torch.int32)})


def test_full_collections_are_put_off_and_the_thresholds_are_as_before():
    before, inside = gc.get_threshold(), []
    gc_pause.deferred(lambda: inside.append(gc.get_threshold()))
    assert inside[0][:2] == before[:2]
    assert inside[0][2] > before[2]
    assert gc.get_threshold() == before
    assert gc.isenabled()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_thresholds_are_as_before_after_an_interruption(error):
    before = gc.get_threshold()

    def fail():
        raise error

    with pytest.raises(error):
        gc_pause.deferred(fail)
    assert gc.get_threshold() == before
    gc_pause.deferred(lambda: None)
    assert gc.get_threshold() == before


def test_thresholds_that_other_code_sets_during_a_save_stay():
    before = gc.get_threshold()
    try:
        gc_pause.deferred(lambda: gc.set_threshold(500, 5, 5))
        assert gc.get_threshold() == (500, 5, 5)
    finally:
        gc.set_threshold(*before)


def test_two_threads_leave_the_thresholds_as_they_were():
    before, inside, leave = gc.get_threshold(), threading.Event(), threading.Event()

    def wait():
        inside.set()
        assert leave.wait(DEADLINE_S)

    thread = threading.Thread(target=lambda: gc_pause.deferred(wait))
    thread.start()
    assert inside.wait(DEADLINE_S)
    assert gc_pause.deferred(lambda: 5) == 5
    leave.set()
    thread.join()
    assert gc.get_threshold() == before


def test_a_child_that_is_forked_during_a_save_has_the_former_thresholds():
    before, exits = gc.get_threshold(), []

    def fork():
        child = os.fork()
        if child == 0:
            is_right = gc.get_threshold() == before
            inside = gc_pause.deferred(gc.get_threshold)
            os._exit(0 if is_right and inside != before and gc.get_threshold() == before else 1)
        exits.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    gc_pause.deferred(fork)
    assert exits == [0]
