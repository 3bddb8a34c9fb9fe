"""Manifests: read back as they were written, and not believed where they contradict themselves."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import digests
from app.core.models import LIMITS, Directory, Facts, FileMap, Manifest, Policy, PolicyRequest, Tensor
from app.storage import manifest as manifests
from app.storage.manifest import Unreadable
from tests.data.samples import AT, FACTS, manifest, upload

COUNTS = st.integers(0, 2**53 - 1)
LIMIT_SETS = st.dictionaries(st.sampled_from(LIMITS), st.none() | st.integers(1, 9))
TENSORS = st.lists(
    st.builds(Tensor, st.text(), st.just("float32"), st.lists(COUNTS).map(tuple), st.none() | COUNTS), max_size=2
).map(tuple)
NAMES = st.sampled_from(["model.pt", "Größe.pt", "shard/0", "shard/.metadata"])
JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
WRITERS = st.none() | st.text()
TIMES = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1))


@st.composite
def found(draw):
    """A manifest of one or more files, with all that can stand in it."""
    files = draw(st.dictionaries(NAMES, st.binary(max_size=4), min_size=1))
    made = manifest(upload(files), files, sequence=draw(st.integers(1, 99)), facts=draw(FACTS))
    maps = {path: FileMap(known.chunks, draw(st.none() | TENSORS)) for path, known in made.maps.items()}
    policy = PolicyRequest(draw(st.sampled_from([None, "min", "max"])), draw(LIMIT_SETS))
    return Manifest(made.checkpoint, maps, draw(st.sampled_from([None, "old"])), policy, draw(WRITERS))


def sample(**changed):
    """A manifest as bytes, with changes at dotted places that are made before it is written."""
    files = {"model.pt": b"weights", "shard/0": b""}
    value = json.loads(manifests.dump(manifest(upload(files), files)))
    for place, new in changed.items():
        *way, last = (int(part) if part.isdecimal() else part for part in place.split("__"))
        target = value
        for step in way:
            target = target[step]
        target[last] = new
    return json.dumps(value).encode()


def with_version(version):
    """The change to a manifest whose store does not write times."""
    return {"checkpoint__files__0__mtime_ns": None, "checkpoint__files__0__version": version}


def test_a_version_is_whatever_a_store_writes():
    (found, _) = manifests.load(sample(**with_version("v1"))).checkpoint.files
    assert found.version == "v1"


def comparable(made):
    """The manifest, its numbers as text: NaN is no equal of itself, and 1 is not to become 1.0."""
    facts = made.checkpoint.facts
    emptied = replace(made.checkpoint, facts=replace(facts, metric=None, metadata={}))
    return replace(made, checkpoint=emptied), repr(facts.metric), repr(facts.metadata)


def test_the_sample_is_believed():
    assert manifests.load(sample()).checkpoint.id == "upload1"


@given(found())
def test_a_manifest_is_read_as_it_was_written(made):
    assert comparable(manifests.load(manifests.dump(made))) == comparable(made)


@pytest.mark.parametrize(
    ("metric", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (0.5, 0.5)], ids=repr
)
def test_what_json_cannot_say_stands_as_text(metric, text):
    files = {"model.pt": b"weights"}
    data = manifests.dump(manifest(upload(files), files, facts=Facts(metric=metric)))
    assert json.loads(data)["checkpoint"]["facts"]["metric"] == text
    assert repr(manifests.load(data).checkpoint.facts.metric) == repr(metric)


@given(found(), st.data())
def test_a_manifest_that_was_cut_short_is_unreadable(made, data):
    written = manifests.dump(made)
    with pytest.raises(Unreadable):
        manifests.load(written[: data.draw(st.integers(0, len(written) - 1))])


@given(found(), st.data(), st.integers(1, 255))
def test_one_changed_byte_in_a_digest_is_found(made, data, change):
    written = bytearray(manifests.dump(made))
    places = [place for match in re.finditer(rb'"[0-9a-f]{64}"', written) for place in range(*match.span())]
    place = data.draw(st.sampled_from([place for place in places if written[place] != ord('"')]))
    written[place] ^= change
    if manifests.is_as_written(bytes(written)):
        with pytest.raises(Unreadable):
            manifests.load(bytes(written))


@given(found(), st.data(), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_found_or_leaves_a_manifest(made, data, change):
    written = bytearray(manifests.dump(made))
    written[data.draw(st.integers(0, len(written) - 1))] ^= change
    try:
        read = manifests.load(bytes(written))
    except Unreadable:
        return
    assert comparable(manifests.load(manifests.dump(read))) == comparable(read)


@given(st.binary() | JSON)
def test_what_was_never_a_manifest_is_unreadable(data):
    for load in (manifests.load, manifests.load_directory):
        with pytest.raises(Unreadable):
            load(data)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"format": 2}, id="a later format"),
        pytest.param({"format": None}, id="no format"),
        pytest.param({"checkpoint__sequence": "first"}, id="a wrong type"),
        pytest.param({"checkpoint__sequence": 10**30}, id="a number that SQL cannot hold"),
        pytest.param({"checkpoint__created_at": "yesterday"}, id="no time"),
        pytest.param({"checkpoint__created_at": "9999-12-31T23:59:59-12:00"}, id="a time that UTC cannot say"),
        pytest.param({"checkpoint__facts__kind": "worst"}, id="an unknown kind"),
        pytest.param({"checkpoint__facts__metadata": {"loss": math.nan}}, id="NaN, which is no JSON"),
        pytest.param({"checkpoint__directory": "../a"}, id="a directory beside the root"),
        pytest.param({"checkpoint__directory": "/etc"}, id="an absolute directory"),
        pytest.param({"checkpoint__name": "../a"}, id="a name beside the directory"),
        pytest.param({"checkpoint__name": ".holdfast"}, id="a name of the server's own"),
        pytest.param({"checkpoint__id": "../../../a"}, id="an id beside the trash"),
        pytest.param({"checkpoint__id": ".."}, id="an id above the trash"),
        pytest.param({"checkpoint__id": ""}, id="no id"),
        pytest.param({"policy__limits": {"max_size": 1}}, id="a limit that there is not"),
        pytest.param({"policy__limits": {"max_checkpoints": -1}}, id="a limit below nothing"),
        pytest.param({"policy__limits": {"keep_every_epochs": 0}}, id="every 0 epochs"),
        pytest.param({"policy__limits": {"keep_every_steps": 0}}, id="every 0 steps"),
        pytest.param({"replaces": "../../../a"}, id="replacing what lies beside the trash"),
        pytest.param(
            {"checkpoint__files": [], "maps": {}, "checkpoint__digest": digests.of_checkpoint([])}, id="no files"
        ),
        pytest.param({"checkpoint__files": []}, id="chunk lists without files"),
        pytest.param({"checkpoint__files__0__path": "other.pt"}, id="a file without a chunk list"),
        pytest.param({"maps__other": {"chunks": []}}, id="a chunk list without a file"),
        pytest.param({"checkpoint__files__0__size_bytes": 8}, id="another size"),
        pytest.param({"checkpoint__files__0__digest": "0" * 64}, id="another digest of a file"),
        pytest.param(with_version(""), id="an empty version"),
        pytest.param(with_version("1" * 256), id="an endless version"),
        pytest.param(with_version("1\n"), id="a version of two lines"),
        pytest.param({"checkpoint__digest": "0" * 64}, id="another digest of the checkpoint"),
        pytest.param({"maps__model.pt__chunks__0__digest": "0" * 64}, id="another digest of a chunk"),
        pytest.param({"maps__model.pt__chunks__0__digest": "xyz"}, id="a chunk's digest that is not hexadecimal"),
        pytest.param(
            {"maps__model.pt__chunks__0__digest": digests.of_chunk(b"weights").upper()},
            id="a chunk's digest in capitals, unlike those it is compared with",
        ),
        pytest.param(
            {"maps__model.pt__chunks": [{"length": n, "digest": "0" * 64} for n in (-1, 8)]}, id="a negative length"
        ),
    ],
)
def test_a_manifest_that_cannot_be_true_is_unreadable(changed):
    with pytest.raises(Unreadable):
        manifests.load(sample(**changed))


def test_a_path_beside_the_checkpoint_is_unreadable_even_where_the_digests_agree():
    files = {"../evil.pt": b"weights"}
    with pytest.raises(Unreadable):
        manifests.load(manifests.dump(manifest(upload(files), files)))


def test_two_files_of_one_path_are_unreadable_even_where_the_digests_agree():
    files = {"model.pt": b"weights"}
    made = manifest(upload(files), files)
    file = made.checkpoint.files[0]
    digest = digests.of_checkpoint([(file.path, file.digest)] * 2)
    twice = replace(made, checkpoint=replace(made.checkpoint, files=(file, file), digest=digest))
    with pytest.raises(Unreadable):
        manifests.load(manifests.dump(twice))


def test_a_manifest_nested_without_end_is_unreadable():
    with pytest.raises(Unreadable):
        manifests.load(b'{"format": 1, "checkpoint": ' + b"[" * 100_000)


def test_what_a_later_version_adds_is_passed_over():
    assert manifests.load(sample(novelty=1, checkpoint__novelty=1)) == manifests.load(sample())


@given(TIMES, st.integers(0, 99), st.sets(st.sampled_from(LIMITS)), LIMIT_SETS, st.none() | TIMES, WRITERS)
def test_a_directory_is_read_as_it_was_written(created_at, sequence, operator, limits, last_write_at, last_writer):
    policy = Policy("max", **limits, operator=frozenset(operator))
    made = Directory("runs/a", created_at, sequence, policy, last_writer, last_write_at)
    written = manifests.dump_directory(made)
    assert manifests.load_directory(written) == made
    assert json.loads(written)["format"] == 1


@given(st.data())
def test_a_directory_that_was_cut_short_is_unreadable(data):
    written = manifests.dump_directory(Directory("runs/a", AT, 3, Policy("min", 1)))
    kept = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(Unreadable):
        manifests.load_directory(written[:kept])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param("sequence", -1, id="a counter below nothing"),
        pytest.param("sequence", 10**30, id="a counter that SQL cannot hold"),
        pytest.param("max_checkpoints", -1, id="a limit below nothing"),
        pytest.param("max_best_checkpoints", 10**30, id="a limit that SQL cannot hold"),
        pytest.param("keep_every_epochs", 0, id="every 0 epochs"),
        pytest.param("keep_every_steps", 0, id="every 0 steps"),
        pytest.param("mode", "median", id="an unknown mode"),
    ],
)
def test_a_directory_that_cannot_be_true_is_unreadable(place, value):
    written = json.loads(manifests.dump_directory(Directory("runs/a", AT, 3, Policy("min", 1))))
    (written if place == "sequence" else written["policy"])[place] = value
    with pytest.raises(Unreadable):
        manifests.load_directory(json.dumps(written).encode())
