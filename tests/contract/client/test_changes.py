"""Changes of a client and of a manager: facts, pins, tags, policies, prunes and removals."""

import math

import pytest

from holdfast import CheckpointExists, CheckpointNotFound, Client, HoldfastWarning, InvalidRequest, NotAllowed
from tests.support.forwarder import Forwarder
from tests.support.tokens import mint


@pytest.fixture
def path(server, directory):
    """A checkpoint with a metric, metadata and two tags."""
    server.save(directory, epoch=1, metric=0.5, metadata='{"loss": 0.5, "lr": 0.1}', tags=["a", "b"])
    return f"{directory}/checkpoint_epoch_0001.pt"


@pytest.fixture
def three(server, directory):
    """A directory of three checkpoints."""
    for epoch, metric in enumerate([0.2, 0.9, 0.5]):
        server.save(directory, b"12345", epoch=epoch, metric=metric)
    return directory


def test_pins_by_path_by_facts_and_by_id(client, path):
    found = client.pin(path)
    assert found.pinned
    assert not client.unpin(found).pinned
    assert client.pin(found.id).pinned
    with pytest.raises(CheckpointExists) as raised:
        client.delete(path)
    assert raised.value.code == "pinned"


def test_a_removed_checkpoint_is_restored_by_path_by_id_and_by_facts(make_server):
    server = make_server(undo_window="3600")
    server.save("team/runs", b"first", name="a")
    server.save("team/runs", b"second", name="a")
    with Client(server.url, prefix="team") as client:
        for given in ("runs/a", lambda removed: removed.id, lambda removed: removed):
            removed = client.delete("runs/a")
            assert removed.restorable
            restored = client.restore(given(removed) if callable(given) else given)
            assert (restored.path, restored.removed_at, restored.digest) == ("runs/a", None, removed.digest)
        with pytest.raises(CheckpointExists, match="nothing to restore"):
            client.restore("runs/a")
        with pytest.raises(CheckpointNotFound, match="never was one"):
            client.restore("runs/b")


def test_a_checkpoint_whose_bytes_are_gone_is_not_restored(client, path):
    removed = client.delete(path)
    for given in (path, removed):
        with pytest.raises(CheckpointNotFound):
            client.restore(given)


def test_tags_are_added_and_removed(client, path):
    assert client.tag(path, "c", "a").tags == ("a", "b", "c")
    assert client.untag(path, "b", "z").tags == ("a", "c")
    for act in (client.tag, client.untag):
        with pytest.raises(ValueError, match="at least one tag"):
            act(path)
        with pytest.raises(InvalidRequest):
            act(path, "a/b")


def test_facts_change_and_what_is_left_out_stays(client, path):
    found = client.change(path, metric=math.inf, step=7, is_best=True, metadata={"lr": None, "note": [1, "x"]})
    assert (found.epoch, found.step, found.metric, found.is_best, found.tags) == (1, 7, math.inf, True, ("a", "b"))
    assert found.metadata == {"loss": 0.5, "note": [1, "x"]}
    found = client.change(found, epoch=None, metric=None, retention="manual")
    assert (found.epoch, found.step, found.metric, found.retention) == (None, 7, None, "manual")
    assert client.checkpoint(found) == found


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        pytest.param({}, ValueError, id="nothing"),
        pytest.param({"metadata": {}}, ValueError, id="no metadata"),
        pytest.param({"epoch": -1}, ValueError, id="a negative epoch"),
        pytest.param({"step": "7"}, TypeError, id="a text as step"),
        pytest.param({"metric": "low"}, TypeError, id="a text as metric"),
        pytest.param({"is_best": "yes"}, TypeError, id="a text as flag"),
        pytest.param({"retention": "forever"}, ValueError, id="a retention"),
        pytest.param({"metadata": {"a": object()}}, TypeError, id="an object"),
        pytest.param({"metadata": "note"}, TypeError, id="a text as metadata"),
    ],
)
def test_a_change_that_cannot_be_stored_is_refused_before_anything_is_sent(server, facts, kind):
    with Forwarder(server.url) as forwarder, pytest.raises(kind):
        Client(forwarder.url).change("runs/a/b.pt", **facts)
    assert forwarder.connections == 0


def test_a_deleted_one_is_gone_and_says_if_it_can_be_restored(client, server, guarded, directory, path):
    found = client.delete(path)
    assert (found.removed_because, found.restorable) == ("deleted", False)
    assert server.names(directory) == []
    for given in (path, found):
        with pytest.raises(CheckpointNotFound):
            client.delete(given)
    token = mint(guarded.root, "read", "write", "delete")
    with Client(guarded.url, token=token) as other:
        headers = {"Authorization": f"Bearer {token}"}
        params = {"directory": directory, "name": "a.pt"}
        saved = guarded.http.post("/v1/checkpoints", params=params, content=b"1", headers=headers).json()
        assert other.delete(saved["id"]).restorable


def test_a_prune_removes_only_if_told_so(client, server, three):
    client.set_policy(three, max_checkpoints=1, max_best_checkpoints=1)
    judged = client.prune(three)
    assert (judged.dry_run, judged.stays, judged.goes, judged.freed_bytes, judged.omitted) == (True, 2, 1, 5, 0)
    assert [(each.checkpoint.epoch, each.stays) for each in judged.verdicts] == [(2, True), (1, False), (0, True)]
    newest, _, best = judged.verdicts
    assert [(reason.code, reason.text) for reason in newest.reasons] == [("newest", "newest"), ("last", "last 1 of 1")]
    assert [(reason.code, reason.place, reason.limit) for reason in best.reasons] == [("best", 1, 1)]
    assert judged.directories[0].policy.max_checkpoints == 1
    assert len(server.names(three)) == 3
    done = client.prune(three, dry_run=False)
    assert (done.dry_run, done.goes, done.freed_bytes) == (False, 1, 5)
    assert [each.epoch for each in client.checkpoints(three)] == [0, 2]


def test_a_policy_is_tried_out(client, three):
    judged = client.prune(three, policy={"max_checkpoints": 1, "max_best_checkpoints": 0, "mode": "max"})
    assert [each.stays for each in judged.verdicts] == [True, False, False]
    assert client.directory(three).policy.max_checkpoints is None


def test_directories_of_a_prefix_are_judged_together(client, server, directory):
    for name in ("a", "b"):
        for epoch in range(2):
            server.save(f"{directory}/{name}", epoch=epoch)
        client.set_policy(f"{directory}/{name}", max_checkpoints=1, max_best_checkpoints=0)
    judged = client.prune(prefix=directory)
    assert [each.directory for each in judged.directories] == [f"{directory}/a", f"{directory}/b"]
    assert (judged.goes, len(judged.verdicts)) == (2, 4)
    names = [each.directory for each in client.prune(prefix="").directories]
    assert f"{directory}/a" in names


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        pytest.param({}, ValueError, id="neither"),
        pytest.param({"directory": "a", "prefix": "b"}, ValueError, id="both"),
        pytest.param({"directory": ""}, ValueError, id="an empty directory"),
        pytest.param({"directory": "a", "dry_run": "no"}, TypeError, id="a text as a flag"),
        pytest.param({"directory": "a", "dry_run": 0}, TypeError, id="a number as a flag"),
        pytest.param({"directory": "a", "dry_run": False, "policy": {}}, ValueError, id="a policy that removes"),
        pytest.param({"prefix": "a", "policy": {}}, ValueError, id="a policy for a prefix"),
        pytest.param({"directory": "a", "policy": {"max": 1}}, TypeError, id="a limit that is none"),
        pytest.param({"directory": "a", "policy": {"keep_every_steps": 0}}, ValueError, id="every zero steps"),
        pytest.param({"directory": "a", "policy": {"mode": "least"}}, ValueError, id="a mode"),
    ],
)
def test_a_prune_that_cannot_be_meant_is_refused_before_anything_is_sent(server, arguments, kind):
    with Forwarder(server.url) as forwarder, pytest.raises(kind):
        Client(forwarder.url).prune(**arguments)
    assert forwarder.connections == 0


def test_a_policy_is_set_only_if_it_is_the_one_that_was_read(client, three):
    before = client.directory(three)
    after = client.set_policy(before, max_checkpoints=2, mode="max", if_match=before.policy.etag)
    assert (after.policy.max_checkpoints, after.policy.mode, after.best.epoch) == (2, "max", 1)
    assert after.policy.set_by_operator == ("max_checkpoints",)
    with pytest.raises(InvalidRequest) as raised:
        client.set_policy(three, max_checkpoints=1, if_match=before.policy.etag)
    assert raised.value.code == "policy_changed"
    again = client.set_policy(three, max_best_checkpoints=None, keep_every_epochs=2).policy
    assert (again.max_checkpoints, again.max_best_checkpoints, again.keep_every_epochs) == (2, None, 2)
    assert again.set_by_operator == ("keep_every_epochs", "max_best_checkpoints")
    with pytest.raises(ValueError, match="max_checkpoints"):
        client.set_policy(three, max_checkpoints=-1)
    with pytest.raises(ValueError, match="if_match"):
        client.set_policy(three, max_checkpoints=1, if_match='"a"\r\nHost: b')


def test_a_scope_that_lacks_is_named(guarded):
    with Client(guarded.url, token=mint(guarded.root, "read")) as client:
        for act, scope in ((client.pin, "write"), (client.delete, "delete")):
            with pytest.raises(NotAllowed, match=f"'{scope}'"):
                act("team/runs/latest")
        with pytest.raises(NotAllowed, match="'delete'"):
            client.prune("team/runs")
        with pytest.raises(NotAllowed, match="'admin'"):
            client.set_policy("team/runs", max_checkpoints=1)


def test_a_manager_changes_its_own_and_other_directories(make_manager, client, directory):
    manager = make_manager()
    path = manager.save({}, epoch=1, tags="a")
    manager.pin(path.name)
    manager.tag(path, "b", "a", "c")
    manager.untag(path, "c", "never there")
    assert (client.checkpoint(path).pinned, client.checkpoint(path).tags) == (True, ("a", "b"))
    with pytest.raises(CheckpointExists):
        manager.delete(path)
    other = make_manager(checkpoint_dir=f"{directory}/other")
    other.unpin(path)
    other.delete(path)
    assert manager.checkpoints == []
    for act in (
        manager.pin,
        manager.unpin,
        manager.delete,
        lambda name: manager.tag(name, "a"),
        lambda name: manager.untag(name, "a"),
    ):
        with pytest.raises(CheckpointNotFound):
            act(path.name)
    with pytest.raises(InvalidRequest):
        manager.delete("")
    with pytest.raises(ValueError, match="at least one tag"):
        manager.tag(path)


def test_a_manager_changes_what_it_saves_in_the_background(make_manager):
    with make_manager(background=True) as manager:
        manager.pin(manager.save({}, epoch=1))
        assert [found["pinned"] for found in manager.find(pinned=True)] == [True]


def test_only_rank_0_changes_anything(make_manager):
    path = make_manager().save({}, epoch=1)
    manager = make_manager(rank=1)
    with pytest.warns(HoldfastWarning, match="rank 1 does not delete"):
        manager.delete(path)
    with pytest.warns(HoldfastWarning, match="rank 1 does not pin"):
        manager.pin(path)
    assert [found["pinned"] for found in manager.find()] == [False]
