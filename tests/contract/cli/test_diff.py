"""holdfast diff: differences by digests; statuses as those of diff(1)."""

import pytest
import torch

from tests.support.forwarder import Forwarder

SAME, DIFFERENT, TROUBLE = 0, 1, 2


@pytest.fixture
def saved(make_manager, directory):
    """Two checkpoints: a tensor is the same, one changed, one added, one removed, one reshaped."""
    torch.manual_seed(0)
    kept = torch.randn(600, 1000)
    manager = make_manager(max_checkpoints=None)
    before = {"same": kept, "changed": torch.zeros(600, 1000), "shape": torch.zeros(2, 3), "gone": torch.zeros(5)}
    after = {"same": kept, "changed": torch.ones(600, 1000), "shape": torch.zeros(3, 2), "new": torch.zeros(7)}
    return [str(manager.save(state, epoch=epoch, loss=1.0 / epoch)) for epoch, state in enumerate([before, after], 1)]


def test_what_is_different(holdfast, saved):
    done = holdfast("diff", *saved)
    assert (done.status, done.complaints) == (DIFFERENT, "")
    rows = {(what, name): (change, before, after) for change, what, name, before, after in done.rows}
    assert rows["fact", "epoch"] == ("changed", "1", "2")
    assert rows["metadata", "loss"] == ("changed", "1.0", "0.5")
    assert rows["tensor", "changed"][0] == "changed"
    assert rows["tensor", "new"] == ("added", "-", "float32 [7]")
    assert rows["tensor", "gone"] == ("removed", "float32 [5]", "-")
    assert rows["tensor", "shape"] == ("reshaped", "float32 [2, 3]", "float32 [3, 2]")
    assert ("tensor", "same") not in rows


def test_nothing_is_downloaded_and_the_document_is_that_of_the_api(holdfast, saved, server):
    with Forwarder(server.url) as forwarder:
        document = holdfast("diff", *saved, "--json", "--server", forwarder.url).json
        assert forwarder.down_bytes < 64 * 1024
    ids = [document[side]["id"] for side in ("before", "after")]
    answer = server.http.get(f"/v1/checkpoints/{ids[1]}/comparison", params={"against": ids[0]}).json()
    assert document == {"same": False, **answer}


def test_the_same_bytes_are_the_same(holdfast, directory, server):
    for epoch in (1, 2):
        server.save(directory, b"the same", epoch=epoch)
    paths = [f"{directory}/checkpoint_epoch_000{epoch}.pt" for epoch in (1, 2)]
    done = holdfast("diff", *paths)
    assert done.status == SAME
    assert {row[1] for row in done.rows} <= {"fact", "file"}, "it has another name and epoch"
    assert holdfast("diff", paths[0], paths[0]).rows == []


@pytest.mark.parametrize("other", ["no/such", "name"])
def test_trouble_is_no_difference(holdfast, directory, server, other):
    server.save(directory, epoch=1)
    done = holdfast("diff", f"{directory}/latest", other)
    assert (done.status, done.raw, done.complaints.count("\n")) == (TROUBLE, b"", 1)
