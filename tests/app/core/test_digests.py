"""Digests of content. The literal digests are a promise: saved bytes must keep the same digest for ever."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from app.core import digests
from app.core.models import Chunk, Save, UploadFile

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
CHUNK_LISTS = st.lists(st.builds(Chunk, st.integers(1, 2**40), HEX), max_size=5)
FILES = st.dictionaries(st.text("ab/é", min_size=1, max_size=4), HEX, max_size=5).map(lambda files: [*files.items()])


def test_these_names_never_change():
    abc = digests.of_chunk(b"abc")
    file = digests.of_file([Chunk(3, abc), Chunk(3, abc)])
    assert digests.of_chunk(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert abc == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    assert file == "2fb0fb56cbfe6a346e5d1eb9a72dcd06fcce600daf52c1120c9fec83018215d1"
    checkpoint = digests.of_checkpoint([("ä.pt", file), ("a/b", abc)])
    assert checkpoint == "fdbeefcdccbd0e8c070cce61072f90e37f9c08f10fe2ad5bc241a9e7055f532c"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_chunk_is_named_by_its_bytes_whatever_holds_them(kind):
    assert digests.of_chunk(kind(b"abc")) == blake3(b"abc").hexdigest()


def test_a_file_of_no_chunks_has_a_name():
    assert digests.of_file([]) == blake3(b"").hexdigest()


@given(CHUNK_LISTS)
def test_a_file_is_named_by_the_length_and_digest_of_each_chunk(chunks):
    text = b"".join(chunk.length.to_bytes(8, "little") + bytes.fromhex(chunk.digest) for chunk in chunks)
    assert digests.of_file(chunks) == blake3(text).hexdigest()


@given(CHUNK_LISTS, CHUNK_LISTS)
def test_files_of_different_chunks_have_different_names(chunks, others):
    assert (digests.of_file(chunks) == digests.of_file(others)) == (chunks == others)


@given(FILES)
def test_a_checkpoint_is_named_by_the_path_and_digest_of_each_file(files):
    text = b""
    for path, digest in sorted(files, key=lambda file: file[0].encode()):
        text += len(path.encode()).to_bytes(4, "little") + path.encode() + bytes.fromhex(digest)
    assert digests.of_checkpoint(files) == blake3(text).hexdigest()


@given(FILES, st.randoms())
def test_the_order_of_files_does_not_matter(files, random):
    assert digests.of_checkpoint(random.sample(files, len(files))) == digests.of_checkpoint(files)


@given(FILES, FILES)
def test_checkpoints_of_different_files_have_different_names(files, others):
    assert (digests.of_checkpoint(files) == digests.of_checkpoint(others)) == (sorted(files) == sorted(others))


def test_a_save_has_the_name_that_its_checkpoint_will_have():
    chunks = (Chunk(3, digests.of_chunk(b"abc")),)
    save = Save(directory="a", files=(UploadFile("y", 3, chunks), UploadFile("x", 0, ())))
    expected = digests.of_checkpoint([("x", digests.of_file([])), ("y", digests.of_file(chunks))])
    assert digests.of_save(save) == expected


def test_a_save_has_no_name_while_the_chunks_of_a_file_are_unknown():
    save = Save(directory="a", files=(UploadFile("x", 0, ()), UploadFile("y", 3)))
    assert digests.of_save(save) is None
