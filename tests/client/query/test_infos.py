"""Facts that a client returns: unknown fields are ignored, those that older servers do not send have defaults."""

import dataclasses

import pytest

from holdfast import CheckpointInfo, DirectoryInfo, Event, PolicyInfo, PruneResult

CHECKPOINT = {
    "id": "0123",
    "directory": "team/runs",
    "name": "a.pt",
    "kind": "regular",
    "sequence": 3,
    "epoch": 1,
    "metric": 0.5,
    "is_best": False,
    "pinned": False,
    "tags": ["a"],
    "metadata": {"step": 7},
    "size_bytes": 5,
    "digest": "ff",
    "created_at": "2026-11-23T14:05:01.123456Z",
}
POLICY = {"mode": "min", "max_checkpoints": 3, "max_best_checkpoints": None, "keep_every_epochs": None}
DIRECTORY = {
    "directory": "team/runs",
    "policy": POLICY,
    "sequence": 3,
    "count": 1,
    "size_bytes": 5,
    "latest": CHECKPOINT,
    "best": None,
    "created_at": "2026-11-23T14:05:01Z",
}
EVENT = {"id": 4, "at": "2026-11-23T14:05:01Z", "type": "checkpoint.saved", "directory": "team/runs"}
VERDICT = {"checkpoint": CHECKPOINT, "stays": True, "reasons": [{"code": "last", "text": "last 1 of 3"}]}
PRUNED = {
    "dry_run": True,
    "directories": [
        {"directory": "team/runs", "policy": POLICY, "verdicts": [VERDICT], "stays": 1, "goes": 0, "freed_bytes": 0}
    ],
    "stays": 1,
    "goes": 0,
    "freed_bytes": 0,
}


def shown(directory):
    return directory.removeprefix("team/")


@pytest.mark.parametrize(
    ("kind", "data"),
    [(CheckpointInfo, CHECKPOINT), (DirectoryInfo, DIRECTORY), (Event, EVENT), (PruneResult, PRUNED)],
)
def test_older_servers_send_less_and_newer_ones_more(kind, data):
    found = kind.from_json(data, shown)
    assert all(hasattr(found, field.name) for field in dataclasses.fields(kind))
    if kind is not Event:  # further facts of an event are its data
        assert kind.from_json({**data, "invented": {"a": 1}}, shown) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(found, dataclasses.fields(kind)[0].name, None)
    assert not hasattr(found, "__dict__")


def test_the_defaults():
    found = CheckpointInfo.from_json(CHECKPOINT, shown)
    assert (found.step, found.retention, found.files, found.restorable) == (7, "policy", (), False)
    assert PolicyInfo.from_json(POLICY).set_by_operator == ()
    assert PolicyInfo.from_json(POLICY).keep_every_steps is None
    assert DirectoryInfo.from_json(DIRECTORY, shown).policy.etag is None
    assert Event.from_json({**EVENT, "name": "a.pt"}, shown).data == {"name": "a.pt"}
    [verdict] = PruneResult.from_json(PRUNED, shown).verdicts
    assert (verdict.stays, verdict.reasons[0].place, verdict.checkpoint.directory) == (True, None, "runs")
