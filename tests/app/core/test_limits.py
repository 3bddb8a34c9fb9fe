"""The cost of large requests before they are refused or accepted, and the size of metadata."""

import math
import tracemalloc

import pytest

from app.api.schemas.requests import UploadIn
from app.core import limits
from app.core.errors import InvalidRequest


@pytest.mark.parametrize("entry", [{"length": 1}, {"length": 1, "digest": "a" * 64}], ids=["lengths", "digests"])
def test_a_chunk_of_a_request_takes_little_memory(entry):
    """Validation runs on the event loop, and pydantic models for each chunk took eight times as long."""
    count = 20_000
    body = {"directory": "a", "files": [{"size_bytes": count, "chunks": [dict(entry) for _ in range(count)]}]}
    tracemalloc.start()
    try:
        upload = UploadIn.model_validate(body)
        each = tracemalloc.get_traced_memory()[1] / count
    finally:
        tracemalloc.stop()
    assert len(upload.files[0].chunks or ()) == count
    assert each < 150, f"{each:.0f} bytes for each chunk"


@pytest.mark.parametrize(
    ("found", "size_bytes"),
    [
        pytest.param({}, 2, id="nothing"),
        pytest.param({"a": "bc"}, 9, id="a text"),
        pytest.param({"a": [1, True, None]}, 34, id="a list"),
        pytest.param({"ä": {}}, 8, id="two bytes"),
    ],
)
def test_the_size_of_metadata_is_about_that_of_its_json(found, size_bytes):
    assert limits.metadata_bytes(found) == size_bytes


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param({"a": [math.nan] * 1_100_000}, "more than", id="too long a list is not looked into"),
        pytest.param({"a": "x" * 1_100_000}, "more than", id="a long text"),
        pytest.param({"a": math.nan}, "NaN", id="NaN"),
        pytest.param({"a": -(10**4300)}, "4300 digits", id="a large number"),
        pytest.param({"\ud800": 1}, "surrogate", id="half a character"),
    ],
)
def test_metadata_beyond_its_bounds_is_refused(found, said):
    with pytest.raises(InvalidRequest, match=said):
        limits.bounded_metadata(found)


@pytest.mark.parametrize("kind", [list, dict])
def test_metadata_may_be_so_deep_and_no_deeper(kind):
    def nested(depth):
        value = {}
        for _ in range(depth):
            value = {"a": value} if kind is dict else [value]
        return {"a": value}

    assert limits.bounded_metadata(nested(limits.MAX_METADATA_DEPTH - 1))
    with pytest.raises(InvalidRequest, match=f"deeper than {limits.MAX_METADATA_DEPTH}"):
        limits.bounded_metadata(nested(limits.MAX_METADATA_DEPTH))
