"""Parsers of untrusted input: each value round-trips unchanged, or is refused with the documented error."""

import base64
import json
import os
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.api.schemas.requests import FileIn
from app.core import digests, limits, names
from app.core.errors import InvalidName, InvalidRequest, RangeNotSatisfiable
from app.core.models import Directory, Policy
from app.core.spans import Span, chunks_within, merged, missing, total
from app.http import ranges
from app.http.page_tokens import read_token, write_token
from app.storage import manifest as manifests
from tests.data.hostile_texts import IN_JSON, TEXTS
from tests.data.samples import AT, manifest, upload

COUNT = 20_000 if os.environ.get("HOLDFAST_TORTURE") == "long" else 300
many = settings(max_examples=COUNT, deadline=None, derandomize=COUNT < 1000, suppress_health_check=list(HealthCheck))

NUMBERS = st.sampled_from([0, -1, 1, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308]) | st.integers()
STRANGE = st.sampled_from([*TEXTS[:-1], *IN_JSON, "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "1e400"])
SCALARS = st.none() | st.booleans() | NUMBERS | STRANGE | st.text(max_size=8)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRANGE, inner, max_size=3))
ETAG = f'"{"a" * 64}"'


def written():
    """A manifest and a directory's record, as JSON that can be changed."""
    files = {"model.pt": b"weights", "shard/0": b"x"}
    made = json.loads(manifests.dump(manifest(upload(files), files)))
    return made, json.loads(manifests.dump_directory(Directory("runs/a", AT, 3, Policy("min", 1))))


def spots(value, way=()):
    """Yield every place within a JSON value."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from spots(item, (*way, key))


def changed(value, way, act):
    """Return the value after a change to the container and key at a place."""
    value = json.loads(json.dumps(value))
    target = value
    for step in way[:-1]:
        target = target[step]
    act(target, way[-1])
    return value


def agrees_with_itself(load, dump, data):
    """Assert that a value is refused with a documented error, or comes back as it was read."""
    try:
        found = load(data)
    except manifests.Unreadable:
        return
    again = dump(found)
    assert dump(load(again)) == again
    assert manifests.is_as_written(again)


def set_to(new):
    def act(target, key):
        target[key] = new

    return act


@many
@given(st.data(), JSON)
def test_a_record_that_was_changed_anywhere_is_refused_or_means_what_it_says(data, new):
    for value, load, dump in zip(
        written(), (manifests.load, manifests.load_directory), (manifests.dump, manifests.dump_directory), strict=True
    ):
        way = data.draw(st.sampled_from(list(spots(value))[1:]))
        act = data.draw(st.sampled_from([set_to(new), lambda target, key: target.pop(key)]))
        agrees_with_itself(load, dump, json.dumps(changed(value, way, act)).encode())


@many
@given(JSON | st.dictionaries(st.sampled_from(["format", "checkpoint", "maps", "policy"]), JSON))
def test_any_json_is_no_record_or_a_whole_one(value):
    for data in (
        json.dumps(value).encode(),
        json.dumps({"format": 1, **value} if isinstance(value, dict) else value).encode(),
    ):
        for load in (manifests.load, manifests.load_directory):
            with pytest.raises(manifests.Unreadable):
                load(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"format": 1, "a": ' + b"[" * 200_000, id="deep"),
        pytest.param(b'{"format": 1, "a": ' + b'{"a":' * 200_000, id="deep in objects"),
        pytest.param(b'{"format": ' + b"1" * 10_000 + b"}", id="a number of many digits"),
        pytest.param(b'{"format": 1e999}', id="a number without end"),
        pytest.param(b'{"format": 2, "format": 1}', id="a key twice"),
        pytest.param(b"\xff\xfe{\0}\0", id="another encoding"),
        pytest.param(b'\xef\xbb\xbf{"format": 1}', id="a mark of the order of bytes"),
        pytest.param(b'{"format": 1, "a": "\xff"}', id="no UTF-8"),
    ],
)
def test_what_is_hard_to_read_is_unreadable(data):
    for load in (manifests.load, manifests.load_directory):
        with pytest.raises(manifests.Unreadable):
            load(data)
    manifests.is_as_written(data)


def modelled(text, size_bytes):
    """Parse one range of bytes as RFC 9110 defines: its span, None for the whole file, False if it is refused."""
    unit, _, wanted = text.partition("=")
    first, dash, last = (part.strip(" \t") for part in wanted.partition("-"))
    numbers = [part for part in (first, last) if part]
    if (
        unit.strip(" \t").lower() != "bytes"
        or not dash
        or not numbers
        or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in numbers)
    ):
        return None
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(size_bytes, int(last) + 1) if first and last else size_bytes
    return (start, stop) if start < stop else False


RANGES = st.builds(
    "{}{}{}-{}".format, st.sampled_from(["bytes", "Bytes", "bits", ""]), st.sampled_from(["=", " = ", ""]),
    *[st.sampled_from(["", "0", "5", "9", "10", "11", "007", "99", "9" * 19, "9" * 20, "-1", "x", "٣", "1,2-3"])] * 2,
)  # fmt: skip


@many
@given(
    RANGES | st.text(max_size=20), st.integers(0, 12), st.sampled_from([None, ETAG, f"W/{ETAG}", "x", "*"]) | STRANGE
)
def test_a_range_is_what_the_model_says_and_lies_in_the_file(text, size_bytes, if_range):
    headers = {"range": text, **({"if-range": if_range} if if_range is not None else {})}
    expected = modelled(text, size_bytes) if if_range is None or if_range.strip() == ETAG else None
    try:
        found = ranges.requested_range(headers, ETAG, size_bytes)
    except RangeNotSatisfiable:
        found = False
    else:
        assert found is None or 0 <= found.start < found.stop <= size_bytes
    assert found == expected


@many
@given(st.text(max_size=20) | STRANGE | st.lists(st.sampled_from([ETAG, f"W/{ETAG}", "*", '""', "x"])).map(", ".join))
def test_conditions_never_fail(text):
    tags = [part.strip() for part in text.split(",")]
    known = text.strip() == "*" or ETAG in tags or f"W/{ETAG}" in tags
    assert ranges.precondition({"if-none-match": text}, ETAG) == (304 if known else None)
    exact = text.strip() == "*" or ETAG in tags
    assert ranges.precondition({"if-match": text}, ETAG) == (None if exact else 412)


@many
@given(st.text(max_size=12) | STRANGE | st.lists(STRANGE, max_size=3).map("/".join))
def test_an_accepted_name_is_the_same_on_a_disk_of_any_kind(tmp_path_factory, text):
    for grammar in (names.directory_name, names.checkpoint_name, names.file_path, names.tag):
        try:
            name = grammar(text)
        except InvalidName:
            continue
        assert (
            os.fsdecode(os.fsencode(name)) == name == unicodedata.normalize("NFC", unicodedata.normalize("NFD", name))
        )
        for part in name.split("/"):
            folded = unicodedata.normalize("NFKC", part).casefold()
            assert folded not in {".", "..", ".holdfast"}
            assert all(character.isprintable() for character in part)
            assert "".join(c for c in folded if c.isalnum() or c in "._-") != ".holdfast"


LENGTHS = st.lists(st.integers(-1, 5) | NUMBERS, max_size=4)
DIGESTS = st.none() | st.sampled_from(["a" * 64, "A" * 64, "a" * 63, "a" * 64 + "\n", "é" * 64])


@many
@given(LENGTHS, st.integers(0, 12), DIGESTS, STRANGE | st.none())
def test_a_chunk_list_adds_up_or_is_refused(lengths, size_bytes, digest, path):
    chunks = [{"length": length, "digest": digest} for length in lengths]
    try:
        found = FileIn.model_validate({"path": path, "size_bytes": size_bytes, "chunks": chunks})
    except (ValidationError, InvalidName):
        return
    assert sum(lengths) == size_bytes
    assert not lengths or digest in {None, "a" * 64}
    known = found.file().chunks
    assert [chunk.length for chunk in known] == lengths
    wanted = missing([], size_bytes, known, 4)
    assert total(wanted) == size_bytes
    assert all(chunks_within(known, span) is not None for span in wanted)
    assert merged(wanted) == ((Span(0, size_bytes),) if size_bytes else ())


@many
@given(JSON | st.text(max_size=30), st.integers(1, 4))
def test_a_token_is_refused_or_holds_what_sql_can_hold(value, length):
    tokens = [base64.urlsafe_b64encode(json.dumps(value).encode()).decode(), str(value)]
    if isinstance(value, list):
        tokens.append(base64.urlsafe_b64encode(json.dumps([["runs/a"], value]).encode()).decode())
    for token in tokens:
        try:
            key = read_token(token, "runs/a", length=length)
        except InvalidRequest:
            continue
        assert len(key) == length
        assert read_token(write_token(key, "runs/a"), "runs/a", length=length) == key
        assert all(isinstance(part, str | int | float) for part in key)
        json.dumps(key, ensure_ascii=False).encode()


@many
@given(st.binary(max_size=20), st.text(max_size=40) | STRANGE)
def test_a_content_digest_is_true_or_not_believed(body, text):
    def agrees(content_digest):
        declared = digests.DeclaredDigests.of(lambda name: [content_digest] if name == "Content-Digest" else [])
        declared.update(body)
        return declared.is_true()

    right = digests.of_message(body)
    assert agrees(right)
    assert agrees(f"{right}, md5=:AAAA:")
    assert not agrees(digests.of_message(body + b"x"))
    assert agrees(text) <= (not text.strip().startswith("sha-256") or text.strip() == right)
    for altered in (right[:-1], right.replace(":", ";"), f"{right},", f"{right}, {text}, sha-256=:AAAA:"):
        assert not agrees(altered)


@many
@given(st.dictionaries(STRANGE | st.text(max_size=5), JSON, max_size=4))
def test_metadata_can_be_kept_or_is_refused(value):
    try:
        found = limits.bounded_metadata(value)
    except InvalidRequest as refusal:
        refusal.detail.encode()
        return
    assert found is value
    kept = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    assert json.loads(kept) == value
    assert len(kept) < 16 * limits.MAX_METADATA_BYTES
