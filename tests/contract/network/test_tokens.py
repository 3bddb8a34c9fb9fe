"""Jobs with tokens: their permissions, and the errors about missing ones."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from holdfast import CheckpointManager, CheckpointNotFound, HoldfastWarning, NotAllowed
from tests.support.live import LiveServer, eventually
from tests.support.tokens import mint, revoke


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


def test_a_token_that_was_never_good_is_an_error_of_the_first_save(guarded, directory):
    token = mint(guarded.root, "read", "write")
    CheckpointManager(directory, server=guarded.url, token=token).save({}, epoch=1)
    revoke(guarded.root, token[5:15])
    for wrong in (None, mint(guarded.root, "read"), "hfst_0123456789_nobody-made-this"):
        manager = CheckpointManager(directory, server=guarded.url, token=wrong)
        for _ in range(2):
            with pytest.raises(NotAllowed):
                manager.save({}, epoch=2)
        assert manager.pending == []


@pytest.mark.parametrize("background", [False, True])
def test_a_token_that_ends_in_the_middle_of_a_run_does_not_end_the_run(guarded, directory, background, caplog):
    token = mint(guarded.root, "read", "write")
    manager = CheckpointManager(directory, None, None, server=guarded.url, token=token, background=background)
    manager.save({"n": 0}, epoch=0)
    manager.save_best_if_improved({"n": 0}, 0.9, epoch=0)
    assert manager.wait()
    revoke(guarded.root, token[5:15])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for epoch in (1, 2, 3):
            manager.save({"n": epoch}, epoch=epoch)
        manager.save_best_if_improved({"n": 4}, 0.5, epoch=4)
        assert manager.wait()
        manager.close()
    said = [str(warning.message) for warning in warned if "no such token" in str(warning.message)]
    assert len(said) == 1
    assert "HOLDFAST_TOKEN_FILE" in said[0]
    assert token not in "".join(said) + caplog.text
    assert len(manager.pending) == 4
    with pytest.raises(NotAllowed):
        manager.load_latest()
    other = CheckpointManager(directory, None, None, server=guarded.url, token=mint(guarded.root, "read", "write"))
    other.save({"n": 5}, epoch=5)
    assert eventually(lambda: not other.pending)
    assert [found["epoch"] for found in other.checkpoints] == [0, 1, 2, 3, 5]
    assert other.load_best() == {"n": 4}


def test_a_manager_that_is_to_raise_does_so_for_a_token_that_ends(guarded, directory):
    token = mint(guarded.root, "read", "write")
    manager = CheckpointManager(directory, server=guarded.url, token=token, on_unreachable="raise")
    manager.save({}, epoch=1)
    revoke(guarded.root, token[5:15])
    with pytest.raises(NotAllowed, match="unknown, expired or revoked"):
        manager.save({}, epoch=2)
    assert manager.pending == []


def test_another_rank_goes_on_where_a_token_ends(guarded, directory):
    token = mint(guarded.root, "read", "write")
    options = {"server": guarded.url, "token": token, "patience_s": 0}
    CheckpointManager(directory, **options, rank=0).save_best_if_improved({}, 0.5, epoch=1)
    other = CheckpointManager(directory, **options, rank=1)
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        other.save_best_if_improved({}, 0.4, epoch=2)
    revoke(guarded.root, token[5:15])
    other.save_best_if_improved({}, 0.3, epoch=3)


@pytest.mark.parametrize("way", ["keyword", "environment"])
@pytest.mark.parametrize("is_linked", [False, True], ids=["a file", "links that are swapped"])
def test_a_token_file_that_changes_is_read_again(guarded, directory, tmp_path, monkeypatch, way, is_linked):
    """Kubernetes swaps ``..data``, a link to a folder, through which the secret's own link leads."""
    file = tmp_path / "token"

    def put(token, number):
        if not is_linked:
            file.write_text(f"{token}\n")
            return
        (tmp_path / f"data-{number}").mkdir()
        (tmp_path / f"data-{number}" / "token").write_text(f" {token}\n")
        (tmp_path / "..new").symlink_to(f"data-{number}")
        (tmp_path / "..new").rename(tmp_path / "..data")

    if is_linked:
        file.symlink_to("..data/token")
    tokens = [mint(guarded.root, "read", "write") for _ in range(3)]
    put(tokens[0], 0)
    if way == "environment":
        monkeypatch.setenv("HOLDFAST_TOKEN_FILE", str(file))
    given = {"token_file": file} if way == "keyword" else {}
    manager = CheckpointManager(directory, server=guarded.url, patience_s=0, **given)
    manager.save({"n": 0}, epoch=0)
    put(tokens[1], 1)
    revoke(guarded.root, tokens[0][5:15])
    manager.save({"n": 1}, epoch=1)
    assert manager.pending == []
    revoke(guarded.root, tokens[1][5:15])
    with pytest.warns(HoldfastWarning, match="read again when it changes"):
        manager.save({"n": 2}, epoch=2)
    assert len(manager.pending) == 1
    put(tokens[2], 2)
    assert eventually(lambda: not manager.pending)
    assert [found["epoch"] for found in manager.checkpoints] == [0, 1, 2]


def test_a_token_is_read_again_at_each_refusal_also_where_nothing_shows_that_it_changed(guarded, directory, tmp_path):
    """This works in the middle of a transfer, and if size and time of the file are unchanged."""
    file = tmp_path / "token"
    tokens = [mint(guarded.root, "read", "write") for _ in range(2)]
    file.write_text(tokens[0])
    manager = CheckpointManager(directory, server=guarded.url, token_file=file)
    path = manager.save({"w": torch.zeros(100_000)}, epoch=0)
    times = file.stat()
    with file.open("r+") as opened:
        opened.write(tokens[1])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(tokens[0]) == len(tokens[1])
    assert manager._remote.server.token == tokens[0]
    revoke(guarded.root, tokens[0][5:15])
    manager.load(path)
    manager.save({"w": torch.ones(100_000)}, epoch=1)
    assert manager.pending == []


def test_a_token_file_that_vanishes_leaves_the_last_token_in_use(guarded, directory, tmp_path):
    file = tmp_path / "token"
    file.write_text(mint(guarded.root, "read", "write"))
    manager = CheckpointManager(directory, server=guarded.url, token_file=file)
    manager.save({}, epoch=0)
    for spoil in (lambda: file.write_text(""), lambda: file.write_text("two words"), file.unlink, file.mkdir):
        spoil()
        manager.save({}, epoch=1)
    assert manager.pending == []


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
