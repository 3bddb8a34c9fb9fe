"""Memory of a file that becomes that of its tensors: allocated on demand, released as they die."""

import gc
import random

import pytest

from holdfast._torchfile.reader.file_memory import FileMemory
from tests.support.memory import resident_bytes

MIB = 1024 * 1024
PAGE = 4096


def test_what_is_written_into_a_view_can_be_read():
    memory = FileMemory(3 * PAGE)
    memory.view(5000, 4)[:] = b"data"
    assert memory.bytes(4998, 8) == b"\0\0data\0\0"
    assert bytes(memory.buffer(5000, 4)) == b"data"


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1])
def test_file_memory_can_have_any_size(size):
    memory = FileMemory(size)
    assert memory.size_bytes == size
    assert memory.bytes(0, size) == bytes(size)


def test_file_memory_takes_no_memory_before_it_is_written():
    before = resident_bytes()
    memory = FileMemory(1024 * MIB)
    assert resident_bytes() - before < 8 * MIB
    memory.view(0, 16 * MIB)[:] = b"\1" * (16 * MIB)
    assert resident_bytes() - before > 12 * MIB


def test_a_buffer_outlives_its_file():
    memory = FileMemory(10 * PAGE)
    memory.view(0, 10 * PAGE)[:] = b"\7" * (10 * PAGE)
    buffer = memory.buffer(PAGE, 100)
    del memory
    gc.collect()
    assert bytes(buffer) == b"\7" * 100


@pytest.mark.parametrize(("start", "length"), [(PAGE, PAGE), (100, 5 * PAGE), (PAGE - 1, PAGE + 2), (7, 100), (0, 1)])
def test_a_buffer_that_dies_takes_only_whole_pages_of_its_own_with_it(start, length):
    data = random.Random(0).randbytes(8 * PAGE)
    memory = FileMemory(len(data))
    memory.view(0, len(data))[:] = data
    before, buffer, after = (
        memory.buffer(0, start or 1),
        memory.buffer(start, length),
        memory.buffer(start + length, 99),
    )
    del buffer
    gc.collect()
    first, last = -(-start // PAGE) * PAGE, (start + length) // PAGE * PAGE
    kept = data[:first] + bytes(max(0, last - first)) + data[max(first, last) :]
    assert memory.bytes(0, len(data)) == kept
    assert bytes(before) == data[: start or 1]
    assert bytes(after) == data[start + length :][:99]


def test_the_memory_of_a_dead_buffer_is_free_while_another_lives():
    memory = FileMemory(64 * MIB)
    first, second = memory.buffer(0, 32 * MIB), memory.buffer(32 * MIB, 32 * MIB)
    memory.view(0, 64 * MIB)[:] = b"\1" * (64 * MIB)
    del memory
    before = resident_bytes()
    del first
    assert before - resident_bytes() > 30 * MIB
    assert second[0] == second[-1] == b"\1"
    del second
    assert before - resident_bytes() > 60 * MIB
