"""The client accepts servers that send more than it knows, and computes digests as they do."""

import random

import app.core.digests
import app.core.models
from holdfast._api import digests, wire

CHECKPOINT = {
    "id": "1",
    "directory": "runs/a",
    "name": "a.pt",
    "kind": "regular",
    "sequence": 3,
    "epoch": None,
    "metric": "-Infinity",
    "is_best": False,
    "pinned": False,
    "tags": ["t"],
    "metadata": {"epoch": "hidden by the fact", "lr": 0.1},
    "size_bytes": 10,
    "digest": "00",
    "created_at": "2026-11-23T14:05:01.000001Z",
}
RANGE = {"file": "a.pt", "method": "PUT", "url": "/x", "headers": {}, "offset": 0, "length": 4}


def test_unknown_fields_are_ignored():
    newer = {"something": "new"}
    checkpoint = wire.Checkpoint.from_json({**CHECKPOINT, **newer})
    assert checkpoint == wire.Checkpoint.from_json(CHECKPOINT)
    upload = {"id": "1", "state": "open", "missing": [{**RANGE, **newer}], **newer}
    assert wire.Upload.from_json(upload).missing == (wire.Range.from_json(RANGE),)


def test_a_number_that_json_cannot_say_comes_as_text():
    assert wire.Checkpoint.from_json(CHECKPOINT).metric == float("-inf")


def test_a_list_entry_shows_the_facts_above_the_metadata(tmp_path):
    entry = wire.Checkpoint.from_json(CHECKPOINT).as_dict(tmp_path)
    assert entry["path"] == tmp_path / "a.pt"
    assert entry["lr"] == 0.1
    assert entry["epoch"] is None
    assert entry["metadata"]["epoch"] == "hidden by the fact"


def test_client_and_server_name_bytes_alike():
    data = random.Random(0).randbytes(2 * digests.CHUNK_BYTES + 77)
    cuts = [(0, digests.CHUNK_BYTES), (digests.CHUNK_BYTES, digests.CHUNK_BYTES), (2 * digests.CHUNK_BYTES, 77)]
    chunks = [wire.Chunk(offset, length, digests.of_chunk(data[offset : offset + length])) for offset, length in cuts]
    servers = [app.core.models.Chunk(chunk.length, chunk.digest) for chunk in chunks]
    assert chunks[2].digest == app.core.digests.of_chunk(data[-77:])
    assert digests.of_file(chunks) == app.core.digests.of_file(servers)
    pairs = [("b/ü.pt", "11" * 32), ("a", "22" * 32)]
    assert digests.of_checkpoint(pairs) == app.core.digests.of_checkpoint(pairs)
    assert digests.CHUNK_BYTES <= app.core.models.CHUNK_MAX_BYTES
