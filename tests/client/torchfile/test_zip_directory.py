"""The directory of a zip file agrees with Python's own reader, and a damaged one is refused."""

import io
import os
import struct
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast._torchfile.reader import zip_directory
from holdfast._torchfile.writer.layout import layout_of

GIB = 2**30
END_BYTES = 22


class Unseekable(io.RawIOBase):
    """A pipe: a zip file written to it has the sizes behind the data."""

    def __init__(self):
        self.written = bytearray()

    def writable(self):
        return True

    def write(self, data, /):
        self.written += data
        return len(data)


def zip_of(records, *, seekable=True, compression=zipfile.ZIP_STORED):
    """Return a zip file with records."""
    sink = io.BytesIO() if seekable else Unseekable()
    with zipfile.ZipFile(sink, "w", compression) as opened:
        for name, data in records.items():
            opened.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return sink.getvalue() if seekable else bytes(sink.written)


def found_in(file, tail_bytes=zip_directory.TAIL_BYTES):
    """Return the records of a zip file, found from its last bytes."""
    offset, length = zip_directory.directory_extent(file[-tail_bytes:], len(file))
    return list(zip_directory.entries(file[offset : offset + length]))


records = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\\"), min_size=1, max_size=20).filter(
        lambda name: os.sep not in name
    ),
    st.binary(min_size=1, max_size=500),
    max_size=10,
)


@given(records, st.booleans())
def test_every_record_is_found_as_pythons_own_reader_finds_it(records, seekable):
    file = zip_of(records, seekable=seekable)
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        infos = opened.infolist()
    found = found_in(file)
    assert len(found) == len(infos)
    for entry, info in zip(found, infos, strict=True):
        assert (entry.name, entry.header_offset, entry.size_bytes) == (
            info.filename,
            info.header_offset,
            info.file_size,
        )
        assert entry.is_stored
        assert entry.has_descriptor != seekable
        assert (entry.stored_bytes, entry.method) == (info.compress_size, info.compress_type)
        start = zip_directory.data_offset(entry, file[entry.header_offset :])
        assert file[start : start + entry.size_bytes] == records[info.filename]


@given(records, st.booleans())
def test_each_record_ends_where_the_next_begins(records, seekable):
    file = zip_of(records, seekable=seekable)
    found = found_in(file)
    ends = [
        zip_directory.data_offset(entry, file[entry.header_offset :]) + entry.size_bytes + entry.descriptor_bytes
        for entry in found
    ]
    begins = [entry.header_offset for entry in found]
    assert [*begins, zip_directory.directory_extent(file, len(file))[0]] == [0, *ends]


def test_compressed_records_are_not_stored():
    (found,) = found_in(zip_of({"a": b"a" * 1000}, compression=zipfile.ZIP_DEFLATED))
    assert not found.is_stored


def torchs_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.mark.parametrize("count", [0, 1, 40])
def test_what_torch_writes_is_found_within_the_last_bytes(count):
    file = torchs_file({str(n): torch.ones(n % 3) for n in range(count)})
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        names = opened.namelist()
    assert [entry.name for entry in found_in(file)] == names


@pytest.mark.parametrize("cut", range(1, END_BYTES + 1))
def test_a_file_that_lost_its_last_bytes_is_no_zip_file(cut):
    file = zip_of({"a": b"data"})
    with pytest.raises(zip_directory.NotAZip):
        found_in(file[:-cut])


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"\x80\x02." * 200, bytes(5000)], ids=len)
def test_what_never_was_a_zip_file_is_none(data):
    with pytest.raises(zip_directory.NotAZip):
        found_in(data)


def test_a_directory_that_would_lie_beyond_the_file_is_none():
    tail = zip_of({"a": b"data"})[-END_BYTES:]
    with pytest.raises(zip_directory.NotAZip, match="beyond"):
        zip_directory.directory_extent(tail, len(tail))


@pytest.mark.parametrize("cut", [1, 10, 45, 46, 47, 60])
def test_a_directory_that_ends_in_the_middle_of_a_record_is_damaged(cut):
    file = zip_of({"first": b"1", "second" * 5: b"2"})
    offset, length = zip_directory.directory_extent(file, len(file))
    with pytest.raises(zip_directory.NotAZip):
        list(zip_directory.entries(file[offset : offset + length - cut]))


def test_a_directory_that_begins_elsewhere_is_damaged():
    file = zip_of({"a": b"data"})
    offset, length = zip_directory.directory_extent(file, len(file))
    with pytest.raises(zip_directory.NotAZip, match="damaged"):
        list(zip_directory.entries(file[offset - 1 : offset + length]))


@pytest.mark.parametrize("header", [b"", b"PK\x03\x04", b"PK\x01\x02" + bytes(26)], ids=len)
def test_a_record_without_its_header_is_none(header):
    (entry,) = found_in(zip_of({"a": b"data"}))
    with pytest.raises(zip_directory.NotAZip, match="local header"):
        zip_directory.data_offset(entry, header)


@given(st.data())
def test_whatever_is_altered_in_a_directory_is_an_entry_or_damage_and_nothing_else(data):
    file = bytearray(torchs_file({"a": torch.ones(3)}))
    offset, _ = zip_directory.directory_extent(bytes(file), len(file))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(offset, len(file) - 1))
        file[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF]))
    try:
        offset, length = zip_directory.directory_extent(bytes(file), len(file))
        found = list(zip_directory.entries(bytes(file[offset : offset + length])))
    except zip_directory.NotAZip:
        return
    assert 0 <= offset <= offset + length <= len(file)
    assert all(entry.header_offset >= 0 and entry.stored_bytes >= 0 for entry in found)


def central(name, *, size, header, extra):
    """Return a record of a directory."""
    numbers = (size, size, len(name), len(extra), 0, 0, 0, 0, header)
    return struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 0, 0, 8, 0, 0, 0, 0, *numbers) + name + extra


def large(*numbers):
    """Return an extra field with 64-bit numbers, behind an irrelevant one."""
    padding = struct.pack("<HH3s", 0x4246, 3, b"ZZZ")
    return padding + struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


NONE = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("size", "header", "extra", "found"),
    [
        pytest.param(5, 7, b"", (5, 7, 16), id="nothing is large"),
        pytest.param(NONE, 7, large(5 * GIB, 5 * GIB), (5 * GIB, 7, 24), id="the data is"),
        pytest.param(5, NONE, large(6 * GIB), (5, 6 * GIB, 24), id="the offset is"),
        pytest.param(NONE, NONE, large(5 * GIB, 5 * GIB, 6 * GIB), (5 * GIB, 6 * GIB, 24), id="both are"),
    ],
)
def test_large_numbers_stand_in_the_extra_field(size, header, extra, found):
    (entry,) = zip_directory.entries(central(b"archive/data/0", size=size, header=header, extra=extra))
    assert (entry.size_bytes, entry.header_offset, entry.descriptor_bytes) == found
    assert entry.is_stored
    assert entry.name == "archive/data/0"


@pytest.mark.parametrize("extra", [b"\1", b"\1\0\x10", struct.pack("<HHI", 1, 16, 3), struct.pack("<HH", 9, 500)])
def test_an_extra_field_that_ends_early_says_nothing(extra):
    (entry,) = zip_directory.entries(central(b"a", size=5, header=7, extra=extra))
    assert (entry.size_bytes, entry.header_offset) == (5, 7)


def ending(length, offset, *, end64_at, moved=0):
    """Return the end of a large file: a zip64 end, its locator and the old end."""
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 0, 0, 0, 0, 1, 1, length, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end64_at + moved, 1)
    return end64 + locator + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, NONE, NONE, 0)


def test_a_directory_beyond_four_gibibytes_is_found():
    size, rest = 9 * GIB + 98, b"x" * 40
    assert zip_directory.directory_extent(rest + ending(300, 8 * GIB, end64_at=9 * GIB), size) == (8 * GIB, 300)


@pytest.mark.parametrize("moved", [-1000, -1, 1, 1000, 2**60])
def test_a_directorys_large_end_must_be_where_it_is_said_to_be(moved):
    with pytest.raises(zip_directory.NotAZip, match="zip64"):
        zip_directory.directory_extent(ending(300, 8 * GIB, end64_at=9 * GIB, moved=moved), 9 * GIB + 98)


def test_the_directory_of_a_file_larger_than_four_gibibytes_is_read_as_python_reads_it(tmp_path):
    """The file's large tensor is untouched memory and a hole in the file."""
    state = {"a": torch.empty(5 * GIB, dtype=torch.uint8), "b": torch.ones(3), "c": torch.ones(20_000)}
    layout = layout_of(state)
    file = tmp_path / "large.pt"
    with file.open("wb") as opened:
        for offset, data in zip(layout._parts._starts, layout._parts._parts, strict=True):
            opened.seek(offset)
            if isinstance(data, bytes):
                opened.write(data)
        opened.truncate(layout.size_bytes)
    with file.open("rb") as opened, zipfile.ZipFile(opened) as known:
        infos = known.infolist()
        opened.seek(-zip_directory.TAIL_BYTES, os.SEEK_END)
        offset, length = zip_directory.directory_extent(opened.read(), layout.size_bytes)
        opened.seek(offset)
        found = list(zip_directory.entries(opened.read(length)))
        for entry, info in zip(found, infos, strict=True):
            assert (entry.name, entry.header_offset) == (info.filename, info.header_offset)
            assert (entry.size_bytes, entry.has_descriptor) == (info.file_size, bool(info.flag_bits & 8))
        ordered = sorted(found, key=lambda entry: entry.header_offset)
        for entry, end in zip(ordered, [*(entry.header_offset for entry in ordered[1:]), offset], strict=True):
            opened.seek(entry.header_offset)
            start = zip_directory.data_offset(entry, opened.read(zip_directory.LOCAL_BYTES))
            assert start + entry.size_bytes + entry.descriptor_bytes == end
    sizes = {entry["name"]: (entry["offset"] % 4096, entry["size_bytes"]) for entry in layout.tensors}
    assert sizes == {"a": (0, 5 * GIB), "b": (64, 12), "c": (0, 80_000)}
