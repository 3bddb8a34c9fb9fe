"""System calls on real files: space is allocated, blocks are shared, holes are told from bytes."""

import errno
import os

import pytest

from app.core.spans import Span, covers, intersect, merged
from app.storage.local.disk import linux
from tests.support.mounts import small_disk

BLOCK = 4096
NO_SPACE = os.strerror(errno.ENOSPC)


@pytest.fixture
def file(tmp_path):
    """The descriptor of an empty file."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def other(tmp_path):
    """The descriptor of another empty file beside it."""
    descriptor = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def small():
    """A file on a file system of 1 MiB."""
    with small_disk("1m") as place:
        descriptor = os.open(place / "file", os.O_RDWR | os.O_CREAT)
        yield descriptor
        os.close(descriptor)


def written(descriptor):
    return merged(linux.written(descriptor))


def knows_what_is_written(descriptor):
    """Tell if the file system distinguishes allocated space from bytes, by a part that nothing else uses."""
    linux.allocate(descriptor, Span(0, BLOCK))
    return not written(descriptor)


# taking space


def test_space_is_taken_and_reads_as_zeros(file):
    linux.allocate(file, Span(BLOCK, 10 * BLOCK))
    assert os.fstat(file).st_size == 10 * BLOCK
    assert os.fstat(file).st_blocks * 512 >= 9 * BLOCK
    assert os.pread(file, 20 * BLOCK, 0) == bytes(10 * BLOCK)


@pytest.mark.parametrize("span", [Span(0, 3 * BLOCK), Span(100, 200), Span(BLOCK - 1, 2 * BLOCK + 1), Span(0, 0)])
def test_taking_space_changes_no_bytes_and_shortens_nothing(file, span):
    data = os.urandom(3 * BLOCK)
    os.pwrite(file, data, 0)
    linux.allocate(file, span)
    assert os.pread(file, 10 * BLOCK, 0) == data


def test_no_space_shows_when_it_is_taken(small):
    with pytest.raises(OSError, match=NO_SPACE):
        linux.allocate(small, Span(0, 2 << 20))
    linux.allocate(small, Span(0, 1 << 19))
    os.pwrite(small, bytes(1 << 19), 0)


def test_space_once_taken_is_there_when_the_disk_is_full(small):
    linux.allocate(small, Span(0, 1 << 19))
    with pytest.raises(OSError, match=NO_SPACE):
        linux.allocate(small, Span(1 << 19, 2 << 20))
    assert os.pwrite(small, b"x" * (1 << 19), 0) == 1 << 19


def test_a_descriptor_that_cannot_be_written_to_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"bytes")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        linux.allocate(descriptor, Span(0, BLOCK))
    os.close(descriptor)


def test_beginning_to_write_back_does_no_harm(file):
    os.pwrite(file, b"bytes", 0)
    for span in (Span(0, 5), Span(0, 0), Span(3, 1 << 40)):
        linux.start_writeback(file, span)
    linux.start_writeback(-1, Span(0, 5))
    assert os.pread(file, 10, 0) == b"bytes"


# what is written


def test_an_empty_file_has_nothing_written(file):
    assert written(file) == ()


def test_a_file_that_is_nothing_but_a_hole_has_nothing_written(file):
    os.ftruncate(file, 100 * BLOCK)
    assert written(file) == ()


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param([Span(0, 10 * BLOCK)], id="all"),
        pytest.param([Span(3 * BLOCK, 5 * BLOCK)], id="the middle"),
        pytest.param([Span(0, BLOCK), Span(64 * BLOCK, 65 * BLOCK)], id="both ends"),
        pytest.param([Span(100, 200), Span(200, 300)], id="less than a block"),
    ],
)
def test_all_that_was_written_is_found(file, spans):
    for span in spans:
        os.pwrite(file, b"x" * (span.stop - span.start), span.start)
    found = written(file)
    assert all(covers(found, span) for span in spans)
    os.fsync(file)
    assert written(file) == found
    assert found[-1].stop == os.fstat(file).st_size


def test_holes_are_left_out(file):
    os.pwrite(file, b"x" * BLOCK, 0)
    os.pwrite(file, b"x" * BLOCK, 1000 * BLOCK)
    assert not intersect(written(file), Span(500 * BLOCK, 501 * BLOCK))


def test_space_that_was_only_taken_is_left_out(file):
    if not knows_what_is_written(file):
        pytest.skip("this file system does not tell space from bytes")
    linux.allocate(file, Span(0, 100 * BLOCK))
    os.pwrite(file, b"x" * BLOCK, 50 * BLOCK)
    for _ in range(2):
        found = written(file)
        assert covers(found, Span(50 * BLOCK, 51 * BLOCK))
        assert not intersect(found, Span(10 * BLOCK, 11 * BLOCK))
        assert not intersect(found, Span(90 * BLOCK, 91 * BLOCK))
        os.fsync(file)


# sharing


def shares(source, target):
    """Tell if the file system shares blocks, by a block that nothing else uses."""
    os.pwrite(source, b"x" * BLOCK, 0)
    return linux.share(source, 0, target, Span(0, BLOCK))


def test_where_blocks_cannot_be_shared_nothing_is_changed(file, other):
    if shares(other, file):
        pytest.skip("this file system shares blocks; tests/app/storage/test_shared_blocks.py looks at that")
    assert os.fstat(file).st_size == 0
    os.pwrite(file, b"bytes", 0)
    assert not linux.share(other, 0, file, Span(0, BLOCK))
    assert os.pread(file, 10, 0) == b"bytes"


def test_blocks_of_another_file_system_cannot_be_shared(file, small):
    os.pwrite(small, b"x" * BLOCK, 0)
    assert not linux.share(small, 0, file, Span(0, BLOCK))
    assert not linux.share(file, 0, small, Span(BLOCK, 2 * BLOCK))
    assert os.fstat(file).st_size == 0


def test_blocks_beyond_the_end_cannot_be_shared(file, other):
    os.pwrite(other, b"x" * 100, 0)
    assert not linux.share(other, 0, file, Span(0, BLOCK))
    assert os.fstat(file).st_size == 0
