"""Quotas: a save over one is spooled and delivered when there is room, or raises an error if there is no spool."""

import pytest

from holdfast import CheckpointManager, HoldfastWarning, OutOfSpace
from tests.support.live import eventually


@pytest.fixture
def full(make_server):
    """A server whose quota allows one checkpoint, which it holds."""
    live = make_server(quotas='{"runs": {"max_checkpoints": 1}}')
    live.save("runs/other", b"x", name="x.pt")
    return live


def test_a_save_over_a_quota_is_kept_and_delivered_when_there_is_room(full):
    manager = CheckpointManager("runs/a", server=full.url, patience_s=0)
    with pytest.warns(
        HoldfastWarning, match="1 more checkpoints do not fit: of the 1 checkpoints that 'runs' may hold"
    ):
        path = manager.save({"epoch": 1}, epoch=1)
    assert manager.pending == [path]
    assert manager.load(path) == {"epoch": 1}
    assert full.http.delete("/v1/directories/runs/other").status_code == 200
    assert eventually(lambda: full.http.get("/v1/directories/runs/a").status_code == 200)
    manager.close()
    assert full.names("runs/a") == ["checkpoint_epoch_0001.pt"]


def test_whoever_wants_an_error_is_told_the_figures(full):
    manager = CheckpointManager("runs/a", server=full.url, on_unreachable="raise")
    with pytest.raises(OutOfSpace) as raised:
        manager.save({"epoch": 1}, epoch=1)
    assert raised.value.code == "quota_exceeded"
    assert (raised.value.problem["limit"], raised.value.problem["used"]) == (1, 1)
    assert manager.pending == []


def test_a_job_that_keeps_its_last_goes_on_at_its_quota(full):
    assert full.http.delete("/v1/directories/runs/other").status_code == 200
    manager = CheckpointManager("runs/a", server=full.url, max_checkpoints=1, max_best_checkpoints=0)
    for epoch in range(3):
        manager.save({"epoch": epoch}, epoch=epoch)
    assert full.names("runs/a") == ["checkpoint_epoch_0002.pt"]
