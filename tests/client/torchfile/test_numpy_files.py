"""NumPy's files are loaded by NumPy, whole or in part; pickled objects only if their writer is trusted."""

import io
import zipfile

import numpy as np
import pytest

from holdfast import UnreadableCheckpoint, UnsafeCheckpoint
from tests.client.torchfile.test_formats import ours
from tests.support.memory import peak_growth

ARRAYS = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.ones((2, 3))),
    "names": np.array(["a", "bcd"]),
    "step": np.int64(7),
    "nothing": np.zeros((0, 3)),
}


def written(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_an_archive_is_a_dict_of_arrays(save):
    expected = {name: np.asarray(array) for name, array in ARRAYS.items()}
    assert_equal(ours(written(save, **ARRAYS)), expected)


def test_an_array_is_itself():
    np.testing.assert_array_equal(ours(written(np.save, ARRAYS["weights"])), ARRAYS["weights"], strict=True)


def test_some_arrays_of_an_archive_are_loaded():
    data = written(np.savez, **ARRAYS)
    assert_equal(ours(data, only=("names", "weights")), {name: ARRAYS[name] for name in ("names", "weights")})
    with pytest.raises(KeyError, match="no 'other'; it has"):
        ours(data, only=("other",))
    with pytest.raises(KeyError, match="no keys to choose from"):
        ours(written(np.save, ARRAYS["weights"]), only=("weights",))


@pytest.mark.parametrize("save", [np.save, lambda file, array: np.savez(file, a=array)], ids=["array", "archive"])
def test_objects_are_loaded_if_their_writer_is_trusted(save):
    data = written(save, np.array([{"lr": 0.1}], dtype=object))
    with pytest.raises(UnsafeCheckpoint, match="weights_only=False"):
        ours(data)
    found = ours(data, weights_only=False)
    assert (found["a"] if isinstance(found, dict) else found)[0] == {"lr": 0.1}


@pytest.mark.parametrize("save", [np.save, lambda file, array: np.savez(file, a=array)], ids=["array", "archive"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_part_of_a_file_is_called_damaged(save, share):
    data = written(save, np.arange(10_000))
    with pytest.raises(UnreadableCheckpoint, match=r"NumPy cannot load|damaged zip file"):
        ours(data[: int(share * len(data))])


def test_an_archive_that_would_unfold_to_far_more_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.npy", written(np.save, np.zeros(400_000_000, np.uint8)))
    with pytest.raises(UnsafeCheckpoint, match="would unfold to"):
        ours(file.getvalue())


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HUGE = header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000,), }") + bytes(12)


def archived(data, change=lambda made: made):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.npy", data)
    return change(file.getvalue())


def with_method(data, number):
    """Claim another compression in both headers of the only record."""
    place, method = data.index(b"PK\x01\x02"), number.to_bytes(2, "little")
    return data[:8] + method + data[10 : place + 10] + method + data[place + 12 :]


def encrypted(data):
    place = data.index(b"PK\x01\x02")
    return data[:6] + b"\x01\x00" + data[8 : place + 8] + b"\x01\x00" + data[place + 10 :]


SOUND = written(np.save, np.arange(100))
OBJECTS = written(np.save, np.array([{"a": 1}] * 9, dtype=object))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(b"{" + b"(" * 50), id="a header without an end"),
        pytest.param(header(b"import os"), id="a header that is no dict"),
        pytest.param(HUGE, id="an array that claims more than it has"),
        pytest.param(archived(HUGE), id="one of an archive that does"),
        pytest.param(archived(SOUND, lambda data: with_method(data, 99)), id="an unknown compression"),
        pytest.param(archived(SOUND, lambda data: with_method(data, 14)), id="a damaged compression"),
        pytest.param(archived(SOUND, encrypted), id="encryption"),
        pytest.param(OBJECTS[:-9], id="a part of objects"),
    ],
)
@pytest.mark.parametrize("weights_only", [True, False])
def test_a_damaged_file_is_one_kind_of_error_and_takes_no_memory(data, weights_only):
    def load():
        with pytest.raises((UnreadableCheckpoint, UnsafeCheckpoint), match="NumPy"):
            ours(data, weights_only=weights_only)

    assert peak_growth(load) < 64 * 2**20
