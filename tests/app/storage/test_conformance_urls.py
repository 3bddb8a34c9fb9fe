"""The promises of the storage ports about ranges that go past the server."""

from contextlib import closing

import httpx
import pytest

from app.core.spans import Span, covers
from app.storage.ports import descriptor_of
from tests.data.samples import manifest, published, upload

FILES = {"model.bin": b"weights", "shard/0": b"momenta"}
NO_URLS = "this store gives no URLs"


@pytest.fixture
def promised(content):
    made = upload(FILES, name="checkpoint-500")
    content.begin(made)
    return made


def url_of(content, promised, path, span):
    found = content.upload_url(promised, path, span)
    if found is None:
        pytest.skip(NO_URLS)
    return found


def put(at, data):
    return httpx.put(at.url, headers=dict(at.headers), content=data)


def test_a_store_gives_urls_both_ways_or_none(storage, content, promised):
    assert content.range_max_bytes > 0
    made = published(storage, {"model.pt": b"weights"})
    urls = [
        content.upload_url(promised, "model.bin", Span(0, 7)),
        content.download_url(made, made.files[0], Span(0, 7)),
    ]
    assert len({url is None for url in urls}) == 1
    assert content.is_writable()
    assert content.arrived(promised) == {}


def test_a_range_that_went_past_the_server_has_arrived(server, content, promised):
    assert put(url_of(content, promised, "model.bin", Span(3, 7)), b"ghts").is_success
    assert [*content.arrived(promised)] == ["model.bin"]
    assert content.arrived(promised)["model.bin"] == (Span(3, 7),)
    content = server.restart().content
    assert put(url_of(content, promised, "model.bin", Span(0, 3)), b"wei").is_success
    assert covers(content.arrived(promised)["model.bin"], Span(0, 7))


def test_bytes_of_both_ways_make_a_checkpoint(storage, content, promised):
    assert put(url_of(content, promised, "model.bin", Span(0, 7)), b"weights").is_success
    content.write_files(promised, {"shard/0": b"momenta"})
    versions = content.finalize(promised)
    for path, data in FILES.items():
        with content.partial(promised, path, create=False) as partial:
            assert (partial.size_bytes(), partial.read(0, 99)) == (len(data), data)
    made = manifest(promised, FILES, versions=versions)
    content.seal(promised.id, made)
    content.publish(promised.id, made)
    for file in made.checkpoint.files:
        with closing(content.open(made.checkpoint, file)) as opened:
            assert opened.is_version_of(file)
            assert opened.read(0, 99) == FILES[file.path]


def test_a_url_changes_nothing_once_the_upload_is_finalized(content, promised):
    at = url_of(content, promised, "model.bin", Span(0, 7))
    assert put(at, b"weights").is_success
    content.write_files(promised, {"shard/0": b"momenta"})
    versions = content.finalize(promised)
    put(at, b"WEIGHTS")
    assert content.finalize(promised) == versions
    with content.partial(promised, "model.bin", create=False) as partial:
        assert partial.read(0, 9) == b"weights"


def test_a_discarded_upload_has_nothing_that_arrived_even_when_it_begins_again(content, promised):
    assert put(url_of(content, promised, "model.bin", Span(0, 7)), b"weights").is_success
    content.discard(promised.id)
    assert content.arrived(promised) == {}
    content.begin(promised)
    assert content.arrived(promised) == {}


def test_a_client_fetches_exactly_the_range(storage, content):
    made = published(storage, {"model.pt": b"weights"})
    at = content.download_url(made, made.files[0], Span(2, 5))
    if at is None:
        pytest.skip(NO_URLS)
    assert httpx.get(at.url, headers=dict(at.headers)).content == b"igh"


def test_a_descriptor_reads_the_same_bytes(storage, content):
    made = published(storage, {"model.pt": b"weights"})
    with closing(content.open(made, made.files[0])) as opened:
        descriptor = descriptor_of(opened)
        if descriptor is None:
            pytest.skip("this store has no descriptors")
        with open(descriptor, "rb", closefd=False) as file:
            assert file.read() == b"weights"
