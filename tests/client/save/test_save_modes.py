"""Saves and loads under modes and defaults that a job may set in torch: the results are the same as without."""

import contextlib
import signal

import pytest
import torch
from torch.utils.serialization import config

from holdfast import CheckpointManager
from holdfast._torchfile.writer import layout, pickler, records
from holdfast._torchfile.writer.layout import layout_of
from holdfast.errors import InvalidRequest
from tests.data.states import assert_same, trained
from tests.support.deadlines import DEADLINE_S
from tests.support.interruptions import EXCEPTIONS, lines, outcomes


@contextlib.contextmanager
def set_to(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES = [
    pytest.param(contextlib.nullcontext, id="as usual"),
    pytest.param(lambda: set_to(torch.set_default_device, "meta", None), id="another default device"),
    pytest.param(lambda: torch.device("meta"), id="a block on another device"),
    pytest.param(lambda: set_to(torch.set_default_dtype, torch.float64, torch.float32), id="another default dtype"),
    pytest.param(torch.inference_mode, id="inference mode"),
    pytest.param(torch.no_grad, id="no gradients"),
    pytest.param(deterministic, id="deterministic, with memory filled"),
    pytest.param(lambda: config.patch("save.storage_alignment", 4096), id="another alignment"),
    pytest.param(lambda: config.patch("save.use_pinned_memory_for_d2h", True), id="pinned memory"),
    pytest.param(lambda: config.patch("load.mmap", True), id="files mapped"),
    pytest.param(lambda: config.patch("load.calculate_storage_offsets", True), id="offsets computed"),
    pytest.param(lambda: set_to(torch.serialization.set_crc32_options, False, True), id="no checksums"),
]


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_saved_under_a_mode_is_what_the_state_was(server, directory, mode, background):
    state = {**trained(), "w": torch.randn(70_000)}
    with CheckpointManager(directory, server=server.url, background=background) as manager:
        with mode():
            manager.save(state, epoch=1)
            manager.wait(DEADLINE_S)
        assert_same(manager.load_latest(), state)


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_real_tensors_are_saved_amid_fake_ones(server, directory, background):
    from torch._subclasses.fake_tensor import FakeTensorMode

    state = {**trained(), "w": torch.randn(70_000)}
    with CheckpointManager(directory, server=server.url, background=background) as manager:
        with FakeTensorMode(allow_non_fake_inputs=True):
            manager.save(state, epoch=1)
            manager.wait(DEADLINE_S)
        assert_same(manager.load_latest(), state)


def freed(see=lambda tensor: tensor):
    tensor = torch.ones(100_000)
    seen = see(tensor)
    tensor.untyped_storage().resize_(0)
    return seen


def fake():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(3)


def view_of_a_shortened_storage():
    tensor = torch.ones(1000)
    view = tensor[500:]
    tensor.untyped_storage().resize_(100)
    return view


WITHOUT_DATA = [
    pytest.param(freed, id="freed"),
    pytest.param(lambda: torch.nn.Parameter(freed()), id="a freed parameter"),
    pytest.param(lambda: [{"deep": freed(lambda tensor: tensor[3:])}], id="deep in the state"),
    pytest.param(view_of_a_shortened_storage, id="a view beyond its storage"),
    pytest.param(lambda: freed(lambda tensor: tensor.view(100, 1000).t()), id="another shape"),
    pytest.param(fake, id="fake"),
    pytest.param(lambda: torch.empty(3, device="meta").untyped_storage(), id="a storage on meta"),
]


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
@pytest.mark.parametrize("make", WITHOUT_DATA)
def test_what_has_no_data_is_refused_before_a_byte_is_sent(server, directory, make, background):
    state = {"good": torch.ones(3), "model": make()}
    with CheckpointManager(directory, server=server.url, background=background) as manager:
        with pytest.raises((InvalidRequest, NotImplementedError, RuntimeError)):
            manager.save(state, epoch=1)
        assert manager.pending == []
    assert server.http.get("/v1/checkpoints", params={"directory": directory}).status_code == 404


def test_a_freed_tensor_is_named(server, directory):
    with pytest.raises(InvalidRequest, match=r"the tensor 'model\.weight' cannot be saved: its memory was freed"):
        CheckpointManager(directory, server=server.url).save({"model": {"weight": freed()}}, epoch=1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_freed_nested_tensor_is_named(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    whole = torch.nested.nested_tensor([torch.ones(2), torch.ones(0), torch.ones(3)])
    manager.save({"empty": torch.nested.nested_tensor([])}, epoch=0)  # torch saves this, and cannot load it, either
    manager.save({"w": whole}, epoch=1)
    assert_same(list(manager.load_latest()["w"].unbind()), list(whole.unbind()))
    for see in (lambda nested: nested, torch.Tensor.detach):
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
        seen = see(nested)
        nested.values().untyped_storage().resize_(0)
        with pytest.raises(InvalidRequest, match="the tensor 'w' cannot be saved: its memory was freed"):
            manager.save({"w": seen}, epoch=2)


def test_memory_that_is_freed_while_it_is_saved_is_not_read():
    tensor = torch.ones(100_000)
    layout = layout_of({"w": tensor})
    tensor.untyped_storage().resize_(0)
    with pytest.raises(OSError, match="changed while it was being saved"):
        layout.chunks()


def test_tensors_on_meta_alone_are_saved_as_torch_saves_them(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    manager.save({"shape": torch.empty(3, 4, device="meta")}, epoch=1)
    found = manager.load_latest()["shape"]
    assert (found.device.type, found.shape) == ("meta", (3, 4))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_one_odd_tensor_costs_the_index_no_other():
    with_nested = {
        "before": torch.ones(3),
        "jagged": torch.nested.nested_tensor([torch.ones(2), torch.ones(5)], layout=torch.jagged),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(5)]),
        "sparse": torch.eye(3).to_sparse(),
        "after": torch.ones(4),
    }
    index = {entry["name"]: entry for entry in layout_of(with_nested).tensors}
    assert {"before", "after"} <= set(index)
    assert all(index[name]["offset"] is not None for name in ("before", "after"))


def test_a_state_that_holds_itself_is_refused_as_torch_refuses_it_or_saved():
    state = {"w": torch.ones(3)}
    state["self"] = state
    layout = layout_of(state)
    assert layout.tensors is None
    assert layout.chunks()


@pytest.mark.parametrize("interruption", EXCEPTIONS)
def test_an_interruption_at_any_line_comes_out_as_itself(interruption):
    state, files = (
        {f"layer{number}": torch.zeros(8) for number in range(3)},
        {records.__file__, pickler.__file__, layout.__file__},
    )
    assert lines(lambda: layout_of(state), files) > 50
    assert outcomes(lambda: layout_of(state), files, interruption) == {interruption}


def test_a_signal_amid_a_large_state_ends_as_ctrl_c():
    state = {f"{number}": torch.zeros(8) for number in range(20_000)}

    def interrupt(*_):
        raise KeyboardInterrupt

    def save_until_interrupted():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        while True:
            layout_of(state)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            save_until_interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
