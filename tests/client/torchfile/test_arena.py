"""Memory of a file that becomes that of its tensors: allocated on demand, released as they die."""

import gc
import random

import pytest

from holdfast._torchfile.reader.arena import Arena
from tests.support.memory import resident_bytes

MIB = 1024 * 1024
PAGE = 4096


def test_what_is_written_into_a_view_can_be_read():
    arena = Arena(3 * PAGE)
    arena.view(5000, 4)[:] = b"data"
    assert arena.bytes(4998, 8) == b"\0\0data\0\0"
    assert bytes(arena.buffer(5000, 4)) == b"data"


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1])
def test_an_arena_can_have_any_size(size):
    arena = Arena(size)
    assert arena.size_bytes == size
    assert arena.bytes(0, size) == bytes(size)


def test_an_arena_takes_no_memory_before_it_is_written():
    before = resident_bytes()
    arena = Arena(1024 * MIB)
    assert resident_bytes() - before < 8 * MIB
    arena.view(0, 16 * MIB)[:] = b"\1" * (16 * MIB)
    assert resident_bytes() - before > 12 * MIB


def test_a_buffer_outlives_its_arena():
    arena = Arena(10 * PAGE)
    arena.view(0, 10 * PAGE)[:] = b"\7" * (10 * PAGE)
    buffer = arena.buffer(PAGE, 100)
    del arena
    gc.collect()
    assert bytes(buffer) == b"\7" * 100


@pytest.mark.parametrize(("start", "length"), [(PAGE, PAGE), (100, 5 * PAGE), (PAGE - 1, PAGE + 2), (7, 100), (0, 1)])
def test_a_buffer_that_dies_takes_only_whole_pages_of_its_own_with_it(start, length):
    data = random.Random(0).randbytes(8 * PAGE)
    arena = Arena(len(data))
    arena.view(0, len(data))[:] = data
    before, buffer, after = arena.buffer(0, start or 1), arena.buffer(start, length), arena.buffer(start + length, 99)
    del buffer
    gc.collect()
    first, last = -(-start // PAGE) * PAGE, (start + length) // PAGE * PAGE
    kept = data[:first] + bytes(max(0, last - first)) + data[max(first, last) :]
    assert arena.bytes(0, len(data)) == kept
    assert bytes(before) == data[: start or 1]
    assert bytes(after) == data[start + length :][:99]


def test_the_memory_of_a_dead_buffer_is_free_while_another_lives():
    arena = Arena(64 * MIB)
    first, second = arena.buffer(0, 32 * MIB), arena.buffer(32 * MIB, 32 * MIB)
    arena.view(0, 64 * MIB)[:] = b"\1" * (64 * MIB)
    del arena
    before = resident_bytes()
    del first
    assert before - resident_bytes() > 30 * MIB
    assert second[0] == second[-1] == b"\1"
    del second
    assert before - resident_bytes() > 60 * MIB
