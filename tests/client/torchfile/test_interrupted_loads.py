"""Interruptions at each line of a load are raised unchanged."""

import gc
import io
import json
import pickle
import tarfile
import zipfile
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from holdfast._arguments import state_keys
from holdfast._torchfile.reader import (
    archive,
    file_memory,
    formats,
    legacy,
    load_state,
    safetensors,
    safety,
    stub_unpickler,
    zip_directory,
)
from tests.support.interruptions import EXCEPTIONS, lines, outcomes

READERS = (
    archive,
    stub_unpickler,
    formats,
    legacy,
    file_memory,
    load_state,
    safetensors,
    state_keys,
    safety,
    zip_directory,
)
OF_PYTHON = (json.decoder, pickle, tarfile, zipfile)
FILES = {module.__file__ for module in (*READERS, *OF_PYTHON)}


def saved(**how):
    file = io.BytesIO()
    torch.save({f"layer{number}": torch.zeros(8) for number in range(2)}, file, **how)
    return file.getvalue()


def compressed():
    """Return a file that only torch's own reader accepts."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def tarred():
    """Return a file that is refused only after it is inspected."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def safetensors_file():
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def load(content, **how):
    memory = file_memory.FileMemory(len(content))
    memory.view(0, len(content))[:] = content
    return load_state.load_state(memory, lambda spans: None, **how)


def load_fake(content):
    with FakeTensorMode():
        return load(content)


def load_refused(content):
    with pytest.raises(load_state.UnreadableCheckpoint):
        load(content)


LOADS = {
    "as it lies": partial(load, saved()),
    "some keys": partial(load, saved(), only=["layer0"]),
    "trusted": partial(load, saved(), weights_only=False),
    "on meta": partial(load, saved(), map_location="meta"),
    "fake": partial(load_fake, saved()),
    "compressed": partial(load, compressed()),
    "older": partial(load, saved(_use_new_zipfile_serialization=False)),
    "oldest": partial(load_refused, tarred()),
    "damaged": partial(load_refused, saved().replace(b"torch._utils", b"torch.\xff\xff\xff\xff\xff\xff")),
    "safetensors": partial(load, safetensors_file()),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # between its opening and its `with`
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("interruption", EXCEPTIONS)
@pytest.mark.parametrize("run", LOADS.values(), ids=LOADS)
def test_what_interrupts_a_load_at_any_line_comes_out_as_itself(run, interruption):
    assert lines(run, FILES) > 30
    came_out = outcomes(run, FILES, interruption)
    gc.collect()  # opened files are released here, not within another test
    assert came_out == {interruption}
