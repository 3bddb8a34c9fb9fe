"""The mode of a directory, changed from the command line and from Python: ranking and retention."""

import pytest

from holdfast import CheckpointManager, HoldfastError, NotAllowed
from holdfast.cli.statuses import Status
from tests.support.forwarder import Forwarder
from tests.support.tokens import bearer, mint

NAMES = [f"checkpoint_epoch_{epoch:04d}.pt" for epoch in range(4)]


@pytest.fixture
def manager(server, directory):
    """A directory whose operator keeps the last and the two best by the smallest metric."""
    for epoch, metric in enumerate([0.4, 0.1, 0.9, 0.5]):
        server.save(directory, epoch=epoch, metric=metric, mode="min")
    limits = {"max_checkpoints": 1, "max_best_checkpoints": 2}
    server.http.put(f"/v1/directories/{directory}", json=limits).raise_for_status()
    return CheckpointManager(directory, server=server.url)


def policy(server, directory):
    return server.http.get(f"/v1/directories/{directory}").json()["policy"]


def test_a_dry_run_says_what_would_be_best_and_what_would_go(manager, server, directory):
    before = policy(server, directory)
    done = manager.set_mode("max", dry_run=True)
    assert (done["best"], sorted(done["goes"])) == ([NAMES[2], NAMES[3]], [NAMES[0], NAMES[1]])
    assert (done["directory"], done["before"], done["mode"], done["dry_run"]) == (directory, "min", "max", True)
    assert (policy(server, directory), manager.mode) == (before, "min")


def test_a_change_leaves_the_operators_limits_and_removes_nothing(manager, server, directory):
    before = policy(server, directory)
    assert manager.set_mode("max")["dry_run"] is False
    assert policy(server, directory) == {**before, "mode": "max"}
    assert server.names(directory) == NAMES
    assert manager.get_best_metric() == 0.9
    with pytest.warns(match="an operator's limits"):
        manager.save({}, epoch=4, metric=0.0)
    assert server.names(directory) == [NAMES[2], NAMES[3], "checkpoint_epoch_0004.pt"]


def before_each_change(server, directory, bodies):
    """A forwarder on which another operator's change arrives before each of the client's."""

    def overtake(up, piece):
        if up and piece.startswith(b"PUT ") and bodies:
            server.http.put(f"/v1/directories/{directory}", json=bodies.pop(0)).raise_for_status()

    return Forwarder(server.url, watch=overtake)


def test_a_change_keeps_concurrent_changes_of_another_operator(manager, server, directory):
    others = [{"max_checkpoints": 7, "keep_every_epochs": 5}, {"max_best_checkpoints": 9}]
    with before_each_change(server, directory, [*others]) as way:
        done = CheckpointManager(directory, server=way.url).set_mode("max")
    found = policy(server, directory)
    assert (done["before"], found["mode"]) == ("min", "max")
    assert (found["set_by_operator"], found["max_best_checkpoints"]) == (["max_best_checkpoints"], 9)


def test_a_change_leaves_what_another_operator_sets_before_there_is_a_directory(server, directory):
    with before_each_change(server, directory, [{"max_checkpoints": 7}]) as way:
        CheckpointManager(directory, server=way.url).set_mode("max")
    found = policy(server, directory)
    assert (found["mode"], found["max_checkpoints"], found["set_by_operator"]) == ("max", 7, ["max_checkpoints"])


def test_a_policy_that_changes_again_and_again_is_left_as_it_is(manager, server, directory):
    others = [{"max_checkpoints": count} for count in range(1, 50)]
    with before_each_change(server, directory, others) as way, pytest.raises(HoldfastError) as raised:
        CheckpointManager(directory, server=way.url).set_mode("max")
    assert raised.value.code == "policy_changed"
    assert policy(server, directory)["mode"] == "min"


def test_a_directory_that_does_not_exist_yet_has_nothing_to_rank(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    done = manager.set_mode("max", dry_run=True)
    assert (done["before"], done["best"], done["goes"]) == (None, [], [])
    with pytest.raises(ValueError, match="mode must be 'min' or 'max'"):
        manager.set_mode("most")


def test_the_command_line_does_the_same(holdfast, manager, server, directory):
    tried = holdfast("mode", directory, "max", "--dry-run")
    assert tried.rows[0] == [directory, "mode=max", "was min"]
    assert tried.rows[1:3] == [[f"{directory}/{name}", "best"] for name in NAMES[2:]]
    assert sorted(tried.rows[3:]) == [[f"{directory}/{name}", "would go"] for name in NAMES[:2]]
    assert policy(server, directory)["mode"] == "min"
    assert holdfast("mode", directory, "max", "--json").json["best"] == NAMES[2:]
    assert policy(server, directory)["mode"] == "max"
    assert holdfast("mode", directory, "most").status == Status.MISUSE
    assert holdfast("mode", "no/where", "max").status == Status.NOT_FOUND


def test_a_change_needs_the_scope_admin_and_a_dry_run_that_of_a_prune(holdfast, guarded, directory, monkeypatch):
    token = mint(guarded.root, "read", "write", "delete")
    monkeypatch.setenv("HOLDFAST_TOKEN", token)
    query = {"directory": directory, "epoch": 1, "metric": 1, "mode": "min"}
    guarded.http.post("/v1/checkpoints", params=query, content=b"a", headers=bearer(token)).raise_for_status()
    manager = CheckpointManager(directory, server=guarded.url)
    assert manager.set_mode("max", dry_run=True)["best"] == [NAMES[1]]
    with pytest.raises(NotAllowed, match="admin"):
        manager.set_mode("max")
    assert manager.mode == "min"
    refused = holdfast("mode", directory, "max", "--server", guarded.url)
    assert (refused.status, "admin" in refused.complaints) == (Status.NOT_ALLOWED, True)
