"""Differences between two checkpoints by their digests alone."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.diff import FileSlice, MappedCheckpoint, compare
from app.core.models import Chunk, File, FileMap, Tensor
from tests.data.samples import checkpoint

SMALL, BIG = 10, 100


def side(files, sequence=1):
    """A checkpoint of files, each as (chunks, tensors): chunks as (length, digest), tensors as (name, offset, size)."""
    maps = {
        path: FileMap(
            tuple(Chunk(length, digest) for length, digest in chunks),
            None
            if tensors is None
            else tuple(Tensor(name, "float32", (size,), at, size) for name, at, size in tensors),
        )
        for path, (chunks, tensors) in files.items()
    }
    sizes = {path: sum(chunk.length for chunk in found.chunks) for path, found in maps.items()}
    digests = {path: str(found.chunks) for path, found in maps.items()}
    found = replace(checkpoint(sequence), files=tuple(File(path, sizes[path], digests[path], "0") for path in maps))
    return MappedCheckpoint(found, maps)


def nobody_knows(_, __):
    return None


def changes(before, after, settle=nobody_knows):
    found = compare(side(before), side(after, 2), settle)
    return {tensor.name: tensor.change for tensor in found.tensors}


def one(chunks, tensors):
    return {"a.pt": (chunks, tensors)}


W, B = ("w", SMALL, BIG), ("b", SMALL + BIG, SMALL)
HEAD, WEIGHT, TAIL = (SMALL, "head"), (BIG, "w1"), (2 * SMALL, "tail1")


AS_IT_WAS = [HEAD, WEIGHT, TAIL]
MOVED = [("w", 50, BIG), ("b", 50 + BIG, SMALL)]
NOWHERE = ("b", 10**9, SMALL)


@pytest.mark.parametrize(
    ("chunks", "tensors", "said"),
    [
        pytest.param(AS_IT_WAS, [W, B], "w same, b same", id="nothing"),
        pytest.param([HEAD, (BIG, "w2"), TAIL], [W, B], "w changed, b same", id="a chunk of its own"),
        pytest.param([HEAD, WEIGHT, (20, "tail2")], [W, B], "w same, b uncertain", id="a shared chunk"),
        pytest.param([HEAD, WEIGHT], [W], "w same, b removed", id="one is gone"),
        pytest.param(AS_IT_WAS, [W, B, ("c", 0, 4)], "w same, b same, c added", id="one is new"),
        pytest.param(AS_IT_WAS, [("w", SMALL, BIG - 4), B], "w reshaped, b same", id="another shape"),
        pytest.param([(50, "head2"), WEIGHT, TAIL], MOVED, "w same, b same", id="all moved"),
        pytest.param([(130, "all")], [W, B], "w uncertain, b uncertain", id="cut otherwise"),
        pytest.param(AS_IT_WAS, [W, NOWHERE], "w same, b uncertain", id="said to lie beyond the file"),
    ],
)
def test_each_tensor_is_judged(chunks, tensors, said):
    found = changes(one(AS_IT_WAS, [W, B]), one(chunks, tensors))
    assert ", ".join(f"{name} {change}" for name, change in found.items()) == said


def test_large_tensors_are_told_by_any_chunk_within():
    before = one([(SMALL, "h"), (BIG, "1"), (BIG, "2"), (50, "rest1")], [("w", SMALL, 2 * BIG + 20)])
    after = one([(SMALL, "h"), (BIG, "1"), (BIG, "x"), (50, "rest2")], [("w", SMALL, 2 * BIG + 20)])
    assert changes(before, after) == {"w": "changed"}


def test_nothing_is_the_same_as_nothing():
    before, after = one([(SMALL, "h")], [("w", 5, 0)]), one([(SMALL, "x")], [("w", 7, 0)])
    assert changes(before, after) == {"w": "same"}


@pytest.mark.parametrize(("answer", "said"), [(True, "same"), (False, "changed"), (None, "uncertain")])
def test_what_is_uncertain_is_asked(answer, said):
    asked = []
    before = one([HEAD, WEIGHT, TAIL], [W, B])
    after = one([HEAD, WEIGHT, (2 * SMALL, "tail2")], [W, B])
    found = changes(before, after, lambda one, other: asked.append((one, other)) or answer)
    assert found == {"w": "same", "b": said}
    assert asked[-1] == (FileSlice("a.pt", SMALL + BIG, SMALL), FileSlice("a.pt", SMALL + BIG, SMALL))


def test_single_files_are_compared_whatever_they_are_called():
    found = compare(side({"epoch_1.pt": ([HEAD], [])}), side({"epoch_2.pt": ([HEAD], [])}, 2), nobody_knows)
    assert [(file.path, file.change) for file in found.files] == [("epoch_2.pt", "same")]


def test_files_of_several_are_paired_by_path():
    before = side({"a": ([HEAD], [("x", 0, 4)]), "b": ([HEAD], None), "c": ([HEAD], [("x", 0, 4)])})
    after = side({"a": ([(SMALL, "other")], [("x", 0, SMALL)]), "c": ([HEAD], [("x", 0, 4)]), "d": ([HEAD], None)}, 2)
    found = compare(before, after, nobody_knows)
    assert {file.path: file.change for file in found.files} == {
        "a": "changed",
        "b": "removed",
        "c": "same",
        "d": "added",
    }
    assert [(tensor.file, tensor.change) for tensor in found.tensors] == [("a", "reshaped"), ("c", "same")]
    assert found.counts == {"reshaped": 1, "same": 1}


def test_without_declared_tensors_there_are_none():
    found = compare(side(one([HEAD], None)), side(one([HEAD], None), 2), nobody_knows)
    assert found.tensors is None
    assert found.counts == {}
    assert found.shared_bytes == SMALL


@pytest.mark.parametrize("is_turned", [False, True])
def test_where_one_file_declared_no_tensors_nothing_is_new_or_gone(is_turned):
    declared, undeclared = one([HEAD, WEIGHT], [W]), one([HEAD, WEIGHT], None)
    pair = (undeclared, declared) if is_turned else (declared, undeclared)
    assert changes(*pair) == {"w": "uncertain"}


def test_shared_bytes_are_counted_by_chunk():
    before = side(one([HEAD, WEIGHT], None))
    after = side(one([WEIGHT, (7, "new"), WEIGHT], None), 2)
    assert compare(before, after, nobody_knows).shared_bytes == 2 * BIG


def test_what_may_be_looked_at_is_bounded():
    chunks = [(10, f"{place}") for place in range(20)]
    other = [*chunks[:-1], (10, "other")]
    tensors = [(f"w{place}", 0, 200) for place in range(5)]
    before, after = side(one(chunks, tensors)), side(one(other, tensors), 2)
    found = compare(before, after, nobody_knows, max_chunks=2 * 2 * 20)
    assert [tensor.change for tensor in found.tensors] == ["changed"] * 2 + ["uncertain"] * 3
    assert [file.change for file in found.files] == ["uncertain"]


def test_tensors_are_asked_before_files():
    asked = []
    before, after = side(one([(130, "a")], [W])), side(one([(60, "b"), (70, "c")], [W]), 2)
    compare(before, after, lambda lay, _: asked.append(lay.size_bytes))
    assert asked == [BIG, 130]


@st.composite
def cut(draw, data):
    """Chunks of these bytes, cut anywhere, with their digests."""
    places = draw(st.sets(st.integers(1, len(data) - 1), max_size=4))
    edges = [0, *sorted(places), len(data)]
    return [(end - start, data[start:end].hex()) for start, end in pairwise(edges)]


@given(st.data(), st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_what_is_said_is_true_however_bytes_are_cut(data, lay, noise):
    lies = bytes(b if data.draw(st.booleans()) else n for b, n in zip(lay, noise, strict=True))
    starts = data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7)))
    size = data.draw(st.integers(0, 8 - max(starts)))
    before, after = (
        one(data.draw(cut(held)), [("w", start, size)]) for held, start in zip((lay, lies), starts, strict=True)
    )
    is_same = lay[starts[0] : starts[0] + size] == lies[starts[1] : starts[1] + size]
    assert changes(before, after)["w"] in {"same" if is_same else "changed", "uncertain"}
    answer = changes(before, after, lambda *_: is_same)["w"]
    assert answer == ("same" if is_same else "changed")
