"""Queries of a client: directories and checkpoints, filtered, sorted and paged."""

import json
import math
import sys
from datetime import UTC, datetime

import pytest

from holdfast import CheckpointInfo, CheckpointNotFound, Client, InvalidRequest, MissingPackage, NotAllowed
from tests.support.forwarder import Forwarder


@pytest.fixture
def filled(server, directory):
    """Four checkpoints: epochs 0 to 3, of which the last has no metric that ranks."""
    for epoch, metric in enumerate([0.5, 0.2, 0.4, "NaN"]):
        facts = {"metadata": json.dumps({"lr": epoch / 10, "name": "run"}), "step": 100 * epoch}
        facts |= {"tags": "even"} if epoch % 2 == 0 else {}
        server.save(directory, b"x" * (epoch + 1), epoch=epoch, metric=metric, **facts)
    return directory


def epochs(found):
    return [each.epoch for each in found]


def test_a_directory_with_its_policy_latest_and_best(client, server, filled):
    limits = {"max_checkpoints": 9, "keep_every_steps": 100}
    server.http.put(f"/v1/directories/{filled}", json=limits).raise_for_status()
    found = client.directory(filled)
    assert (found.name, found.server_name, found.count, found.size_bytes) == (filled, filled, 4, 10)
    assert (found.latest.epoch, found.best.epoch) == (3, 1)
    assert (found.policy.max_checkpoints, found.policy.keep_every_steps, found.policy.keep_every_epochs) == (
        9,
        100,
        None,
    )
    assert found.policy.set_by_operator == ("keep_every_steps", "max_checkpoints")
    assert found.created_at <= datetime.now(UTC)
    assert client.directory(found).name == filled


def test_directories_below_a_prefix_by_whole_components(client, server, directory):
    for name in ("b", "a/c", "a", "ab"):
        server.save(f"{directory}/{name}")
    assert [found.name for found in client.directories(f"{directory}/a")] == [f"{directory}/a", f"{directory}/a/c"]
    names = [found.name.rpartition("/")[2] for found in client.directories(directory)]
    assert names == ["a", "c", "ab", "b"]
    assert list(client.directories(f"{directory}/nothing")) == []
    assert not client.directories(f"{directory}/nothing")


def test_the_facts_of_a_checkpoint(client, server, directory):
    saved = server.save(directory, b"1234", name="a.pt", epoch=2, step=7, metric="-Infinity", tags="t", pinned=True)
    found = client.checkpoint(f"{directory}/a.pt")
    assert (found.id, found.directory, found.name, found.path) == (saved["id"], directory, "a.pt", f"{directory}/a.pt")
    assert (found.epoch, found.step, found.metric, found.tags) == (2, 7, -math.inf, ("t",))
    assert (found.pinned, found.is_best, found.retention, found.kind) == (True, False, "policy", "regular")
    assert [(file.path, file.size_bytes, file.digest) for file in found.files] == [
        ("a.pt", 4, saved["files"][0]["digest"])
    ]
    assert (found.removed_at, found.restorable, found.damage) == (None, False, None)
    assert found.created_at.utcoffset().total_seconds() == 0
    assert {found, client.checkpoint(saved["id"]), client.checkpoint(found)} == {found}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({}, [0, 1, 2, 3], id="all, oldest first"),
        pytest.param({"order_by": "-position"}, [3, 2, 1, 0], id="newest first"),
        pytest.param({"order_by": "best"}, [1, 2, 0], id="ranked"),
        pytest.param({"order_by": "best", "mode": "max"}, [0, 2, 1], id="ranked by another mode"),
        pytest.param({"order_by": "best", "by": "lr", "mode": "max"}, [3, 2, 1, 0], id="ranked by metadata"),
        pytest.param({"tag": "even"}, [0, 2], id="a tag"),
        pytest.param({"kind": "best"}, [], id="a kind"),
        pytest.param({"retention": "policy", "pinned": False, "is_best": False}, [0, 1, 2, 3], id="flags"),
        pytest.param({"pinned": True}, [], id="pinned"),
        pytest.param({"epoch_min": 1, "epoch_max": 2}, [1, 2], id="epochs"),
        pytest.param({"step_min": 200}, [2, 3], id="steps"),
        pytest.param({"metric_min": 0.3, "metric_max": 0.5}, [0, 2], id="metrics"),
        pytest.param({"name": "checkpoint_epoch_0001_step_00000100.pt"}, [1], id="a name"),
        pytest.param({"limit": 2}, [0, 1], id="a limit"),
        pytest.param({"limit": 0}, [], id="none"),
    ],
)
def test_filters_and_orders(client, make_manager, filled, filters, expected):
    assert epochs(client.checkpoints(filled, **filters)) == expected
    if not {"kind", "retention"} & filters.keys():
        assert [found["epoch"] for found in make_manager().find(**filters)] == expected


@pytest.mark.parametrize(
    ("filters", "kind"),
    [
        pytest.param({"order_by": "rank"}, ValueError, id="an order"),
        pytest.param({"order_by": "-best"}, ValueError, id="the reverse of best"),
        pytest.param({"by": "lr"}, ValueError, id="by without an order"),
        pytest.param({"order_by": "best", "mode": "least"}, ValueError, id="a mode"),
        pytest.param({"kind": "worst"}, ValueError, id="a kind"),
        pytest.param({"pinned": "no"}, TypeError, id="a flag as text"),
        pytest.param({"epoch_min": -1}, ValueError, id="a negative epoch"),
        pytest.param({"step_max": 1.5}, TypeError, id="half a step"),
        pytest.param({"metric_min": math.nan}, ValueError, id="nan"),
        pytest.param({"metric_min": 2, "metric_max": 1}, ValueError, id="an empty range"),
        pytest.param({"name": "a/b"}, InvalidRequest, id="a name"),
        pytest.param({"tag": ""}, ValueError, id="an empty tag"),
        pytest.param({"limit": -1}, ValueError, id="a limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(server, directory, filters, kind):
    with Forwarder(server.url) as forwarder, pytest.raises(kind):
        Client(forwarder.url).checkpoints(directory, **filters)
    assert forwarder.connections == 0


def test_there_is_no_filter_that_is_not_known(make_manager):
    with pytest.raises(TypeError, match="no filter 'epochs'"):
        make_manager().find(epochs=3)
    with pytest.raises(TypeError, match="include_removed"):
        make_manager().find(include_removed=True)


def test_best_and_latest(client, filled):
    assert client.best(filled).epoch == 1
    assert client.best(filled, mode="max").epoch == 0
    assert client.best(filled, by="lr", mode="max").epoch == 3
    assert client.latest(filled).epoch == 3
    assert client.checkpoint(f"{filled}/best") == client.best(filled)
    assert client.checkpoint(f"{filled}/latest").id == client.latest(filled).id


def test_what_is_not_there_is_an_error(client, server, directory):
    for ask in (client.directory, client.best, client.latest, client.checkpoints):
        with pytest.raises(CheckpointNotFound) as raised:
            ask(directory)
        assert raised.value.code == "directory_not_found"
    server.save(directory, metric="NaN", name="a.pt")
    with pytest.raises(CheckpointNotFound) as raised:
        client.best(directory)
    assert raised.value.code == "no_best"
    for path in (f"{directory}/b.pt", "0123456789abcdef"):
        with pytest.raises(CheckpointNotFound):
            client.checkpoint(path)
    with pytest.raises(InvalidRequest, match="DIRECTORY/NAME"):
        client.checkpoint("b.pt")


def test_a_removed_one_is_found_by_its_id_and_in_lists_that_include_it(client, server, filled):
    found = client.best(filled)
    client.delete(found)
    again = client.checkpoint(found)
    assert (again.id, again.removed_because) == (found.id, "deleted")
    assert again.removed_at > found.created_at
    with pytest.raises(CheckpointNotFound):
        client.checkpoint(found.path)
    assert epochs(client.checkpoints(filled)) == [0, 2, 3]
    assert epochs(client.checkpoints(filled, include_removed=True)) == [0, 1, 2, 3]


def pages_asked(seen):
    return sum(b"GET /v1/checkpoints?" in piece for piece in seen)


@pytest.fixture
def many(own_server):
    """A directory of 1050 checkpoints, on a server of its own."""
    for epoch in range(1050):
        own_server.save("runs/many", b"x", epoch=epoch)
    return "runs/many"


def test_pages_are_read_as_they_are_needed_and_once(own_server, many):
    seen = []
    with (
        Forwarder(own_server.url, watch=lambda up, piece: seen.append(piece) if up else None) as forwarder,
        Client(forwarder.url, patience_s=0) as client,
    ):
        found = client.checkpoints(many)
        assert (found[0].epoch, epochs(found[998:1000]), bool(found), next(iter(found)).epoch) == (
            0,
            [998, 999],
            True,
            0,
        )
        assert repr(found) == "<Listing of at least 1000 CheckpointInfo>"
        assert (found[:0], list(client.checkpoints(many, limit=0))) == ([], [])
        assert pages_asked(seen) == 2
        assert epochs(found) == list(range(1050))
        assert (len(found), found[-1].epoch, epochs(found[1048:])) == (1050, 1049, [1048, 1049])
        assert repr(found) == "<Listing of 1050 CheckpointInfo>"
        with pytest.raises(IndexError):
            found[1050]
        assert pages_asked(seen) == 3
        assert epochs(found[3:1:-1]) == [3, 2]
        assert epochs(client.checkpoints(many, limit=1020, order_by="-epoch")) == list(range(1049, 29, -1))
        assert pages_asked(seen) == 5
        assert len(client.checkpoints(many, limit=3)) == len(client.checkpoints(many, limit=1000)[:3]) == 3
        assert pages_asked(seen) == 7
        found = client.checkpoints(many)
        own_server.kill()
        with pytest.raises(ConnectionError):
            len(found)
        own_server.start()
        assert epochs(found) == list(range(1050)), "an error amid the pages is no end of the list"


def test_a_table_of_checkpoints_and_of_directories(client, filled):
    frame = client.checkpoints(filled).to_pandas()
    assert frame["epoch"].tolist() == [0, 1, 2, 3]
    assert str(frame["step"].dtype) == "Int64"
    assert frame["metadata.lr"].tolist() == [0.0, 0.1, 0.2, 0.3]
    assert list(frame.columns[:3]) == ["id", "directory", "name"]
    assert list(client.checkpoints(filled, tag="none").to_pandas().columns) == list(CheckpointInfo.COLUMNS)
    row = client.directories(filled).to_pandas().iloc[0]
    assert (row["name"], row["count"], row["best.metric"]) == (filled, 4, 0.2)


def test_a_table_without_pandas_says_what_to_install(client, filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackage, match="pip install pandas") as raised:
        client.checkpoints(filled).to_pandas()
    assert raised.value.name == "pandas"


def test_rows_have_the_metadata_and_the_policy_as_values_of_their_own(client, filled):
    row = client.best(filled).as_row()
    assert (row["epoch"], row["metadata.lr"], row["metadata.name"]) == (1, 0.1, "run")
    assert tuple(row)[: len(CheckpointInfo.COLUMNS)] == CheckpointInfo.COLUMNS
    row = client.directory(filled).as_row()
    assert (row["name"], row["policy.mode"], row["best.metric"]) == (filled, None, 0.2)
    assert row["latest.name"] == "checkpoint_epoch_0003_step_00000300.pt"


def test_a_token_that_may_not(guarded):
    with pytest.raises(NotAllowed):
        Client(guarded.url).latest("team/runs")
