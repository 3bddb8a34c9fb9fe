"""Jobs with tokens: what theirs lets them do, and what they are told where it does not."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from holdfast import CheckpointManager, CheckpointNotFound, HoldfastWarning, NotAllowed
from tests.keys import mint, revoke
from tests.live import LiveServer, eventually


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root") as live:
        mint(live.root, "admin")
        yield live


def manager_of(server, directory, *scopes, prefix="", **options):
    return CheckpointManager(directory, server=server.url, token=mint(server.root, *scopes, prefix=prefix), **options)


def test_a_job_saves_and_loads_within_its_prefix(guarded, directory):
    manager = manager_of(guarded, f"team/{directory}", "read", "write", prefix="team")
    state = {"w": torch.arange(100_000.0)}
    with warnings.catch_warnings(action="error"):
        for epoch in range(3):
            manager.save(state, epoch=epoch, loss=1 / (epoch + 1))
        assert torch.equal(manager.load_best()["w"], state["w"])
        assert torch.equal(manager.load_latest()["w"], state["w"])
        assert torch.equal(manager.load("checkpoint_epoch_0001.pt", only=("w",))["w"], state["w"])


def test_what_lies_outside_the_prefix_is_said_to_be_out_of_reach(guarded, directory):
    manager_of(guarded, f"other/{directory}", "admin").save({}, epoch=1)
    manager = manager_of(guarded, f"other/{directory}", "read", "write", prefix="team")
    for act in (manager.load_latest, manager.load_best, manager.resume, lambda: manager.save({}, epoch=2)):
        with pytest.raises(NotAllowed, match="team") as raised:
            act()
        assert raised.value.code == "directory_not_found"
    inside = manager_of(guarded, f"team/{directory}", "read", "write", prefix="team")
    assert inside.load_latest() is None
    with pytest.raises(CheckpointNotFound):
        inside.load("nothing.pt")


@pytest.mark.parametrize(
    ("scopes", "act", "lacks"),
    [
        pytest.param(["read"], lambda m: m.save({}, epoch=9), "write", id="saving"),
        pytest.param(["write"], lambda m: m.load_latest(), "read", id="loading"),
        pytest.param(["read", "write"], lambda m: m.cleanup_all(), "delete", id="emptying"),
    ],
)
def test_a_scope_that_lacks_is_named(guarded, directory, scopes, act, lacks):
    manager_of(guarded, directory, "admin").save({}, epoch=1)
    with pytest.raises(NotAllowed, match=f"'{lacks}'") as raised:
        act(manager_of(guarded, directory, *scopes))
    assert raised.value.code == "forbidden"
    assert raised.value.problem["request_id"]


def test_who_only_writes_saves_without_reading(guarded, directory):
    manager = manager_of(guarded, directory, "write")
    for epoch in range(3):
        manager.save({"w": torch.full((50_000,), float(epoch))}, epoch=epoch)
    reader = manager_of(guarded, directory, "read")
    assert float(reader.load_latest()["w"][0]) == 2.0


def test_a_revoked_token_is_told_at_once(guarded, directory):
    token = mint(guarded.root, "read", "write")
    manager = CheckpointManager(directory, server=guarded.url, token=token)
    manager.save({}, epoch=1)
    revoke(guarded.root, token[5:15])
    with pytest.raises(NotAllowed, match="knows no such token"):
        manager.save({}, epoch=2)


def test_more_requests_than_one_token_may_have_are_waited_for(make_server, directory):
    live = make_server(max_requests_per_token="1")
    managers = [CheckpointManager(f"{directory}/{number}", server=live.url) for number in range(4)]
    with warnings.catch_warnings(action="error"), ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda manager: manager.save({"w": torch.zeros(300_000)}, epoch=1), managers))
    for number in range(4):
        assert live.names(f"{directory}/{number}") == ["checkpoint_epoch_0001.pt"]


def test_what_waits_for_the_server_waits_for_a_token_that_reaches_it(tmp_path, directory, make_server):
    away = make_server(tmp_path / "root")
    admin = mint(away.root, "admin")
    wrong = mint(away.root, "read", "write", prefix="team")
    away.kill()
    with pytest.warns(HoldfastWarning):
        CheckpointManager(directory, server=away.url, token=wrong, patience_s=0).save({"n": 1}, epoch=1)
    away.start()
    manager = CheckpointManager(directory, server=away.url, token=admin)
    manager.save({"n": 2}, epoch=2)
    assert eventually(lambda: not manager.pending)
    away.http.headers["Authorization"] = f"Bearer {admin}"
    assert away.names(directory) == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"]
