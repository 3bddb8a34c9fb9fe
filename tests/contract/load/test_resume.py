"""Resuming: the newest intact state, from the server, the spool or the cache."""

import json
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError, NotAllowed, ServerUnreachable
from holdfast._load import Loader
from holdfast._resume import Resumer
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import eventually

DIRECTORY = "runs/a"


@pytest.fixture
def make(own_server):
    """Make managers with short patience, of one directory of a server that the test may kill."""

    def make(**options):
        options = {"patience_s": 0.1, "server": own_server.url, **options}
        return CheckpointManager(DIRECTORY, None, **options)

    return make


def spooled(server, manager, *epochs, **more):
    """Save while the server is down, and leave it down; the saves wait in the spool."""
    if server._process is not None:
        server.kill()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HoldfastWarning)
        for epoch in epochs:
            manager.save({"n": epoch, **more}, epoch=epoch)
    return manager._saver.target.queue.items()


def on_another_machine(server):
    """Return the options of a manager with a spool of its own and no known outage."""
    return {"server": server.url.replace("127.0.0.1", "localhost"), "spool_dir": server.root.parent / "another-machine"}


@contextmanager
def server_again(server, manager):
    """The server is up, but another process holds the queue for a while."""
    with manager._saver.target.queue.claimed(wait_s=20) as mine:
        assert mine
        server.start()
        yield


def silently(manager):
    """Resume without any warning."""
    with warnings.catch_warnings(action="error"):
        return manager.resume()


def flip(path: Path, place=None) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)


# what the server has


def test_an_empty_directory_gives_nothing(make):
    assert silently(make()) is None


def test_the_newest_on_the_server_is_found(make):
    manager = make()
    for epoch in (5, 3):
        manager.save({"n": epoch}, epoch=epoch)
    assert silently(make()) == {"n": 3}
    assert silently(manager) == {"n": 3}


@pytest.mark.filterwarnings("ignore:what was saved to")
def test_what_resume_gives_is_loaded_as_load_would(make):
    make().save({"w": torch.ones(3), "p": Path("a")}, epoch=1)
    with pytest.raises(Exception, match="weights_only"):
        make().resume()
    assert make().resume(weights_only=False)["p"] == Path("a")
    assert make().resume(weights_only=False, map_location="meta")["w"].device.type == "meta"


def test_where_the_servers_newest_is_damaged_the_newest_that_is_intact_is_found(own_server, make):
    for epoch in (1, 2, 3):
        make().save({"n": epoch, "text": "x" * 5000}, epoch=epoch)
    flip(own_server.root / DIRECTORY / "checkpoint_epoch_0003.pt")
    with pytest.warns(HoldfastWarning, match=r"_0003\.pt .*_0002\.pt, is loaded"):
        assert make().resume()["n"] == 2


def test_where_all_on_the_server_are_damaged_an_older_one_in_the_spool_is_better_than_nothing(
    own_server, make, tmp_path
):
    manager = make()
    manager.save({"n": 1, "text": "x" * 5000}, epoch=1)
    spooled(own_server, manager, 2)
    with server_again(own_server, manager):
        other = make(**on_another_machine(own_server))
        for epoch in (3, 4):
            other.save({"n": epoch, "text": "x" * 5000}, epoch=epoch)
        for epoch in (1, 3, 4):
            flip(own_server.root / DIRECTORY / f"checkpoint_epoch_000{epoch}.pt")
        with pytest.warns(HoldfastWarning, match=r"_0002\.pt is taken from"):
            assert make().resume()["n"] == 2


def test_where_all_on_the_server_are_damaged_and_nothing_else_is_here_it_is_an_error(own_server, make):
    make().save({"n": 1, "text": "x" * 5000}, epoch=1)
    flip(own_server.root / DIRECTORY / "checkpoint_epoch_0001.pt")
    with pytest.raises(IntegrityError):
        make().resume()


def test_a_server_that_does_not_let_us_in_is_an_error(make_server):
    closed = make_server(admin_token="a-long-secret-that-nobody-guesses")
    with pytest.raises(NotAllowed):
        CheckpointManager(DIRECTORY, server=closed.url, token="another").resume()


# regular ones and best ones


def test_a_best_one_is_given_only_where_there_is_no_regular_one(make):
    manager = make()
    manager.save_best_if_improved({"part": 1}, 0.5, epoch=1)
    assert silently(manager) == {"part": 1}
    manager.save({"whole": 2}, epoch=2)
    manager.save_best_if_improved({"part": 2}, 0.4, epoch=2)
    assert silently(manager) == {"whole": 2}
    assert manager.load_latest() == {"part": 2}


def test_a_best_one_that_waits_does_not_stand_before_a_regular_one_of_the_server(own_server, make):
    manager = make()
    manager.save({"whole": 1}, epoch=1)
    spooled(own_server, manager)
    with pytest.warns(HoldfastWarning, match="checkpoints are kept"):
        manager.save_best_if_improved({"part": 2}, 0.4, epoch=2)
    with server_again(own_server, manager):
        assert silently(manager) == {"whole": 1}


def test_a_best_one_of_the_server_does_not_stand_before_a_regular_one_that_waits(own_server, make):
    manager = make()
    manager.save_best_if_improved({"part": 1}, 0.4, epoch=1)
    spooled(own_server, manager, 2)
    with server_again(own_server, manager):
        make(**on_another_machine(own_server)).save_best_if_improved({"part": 3}, 0.3, epoch=3)
        assert silently(manager) == {"n": 2}


def test_a_best_one_that_stands_in_for_regular_ones_is_named(own_server, make):
    manager = make()
    manager.save({"whole": 1}, epoch=1)
    manager.save_best_if_improved({"part": 1}, 0.4, epoch=1)
    flip(own_server.root / DIRECTORY / "checkpoint_epoch_0001.pt")
    with pytest.warns(HoldfastWarning, match="a best one is used, which may be a part"):
        assert manager.resume() == {"part": 1}


def test_without_the_server_the_cache_gives_the_regular_one(own_server, make, tmp_path):
    manager = make(cache_dir=tmp_path / "cache")
    manager.save({"whole": 1}, epoch=1)
    manager.save_best_if_improved({"part": 1}, 0.4, epoch=1)
    assert (manager.resume(), manager.load_latest()) == ({"whole": 1}, {"part": 1})
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=r"checkpoint_epoch_0001\.pt is taken from the cache"):
        assert make(cache_dir=tmp_path / "cache").resume() == {"whole": 1}


# what waits in the spool


def test_what_waits_and_is_newer_than_the_servers_is_found(own_server, make):
    manager = make()
    manager.save({"n": 1}, epoch=1)
    spooled(own_server, manager, 2, 3)
    with server_again(own_server, manager):
        assert silently(make()) == {"n": 3}
    assert eventually(lambda: not manager.pending)
    assert silently(make()) == {"n": 3}


def test_what_waits_for_a_directory_that_is_empty_yet_is_found(own_server, make):
    manager = make()
    spooled(own_server, manager, 2)
    with server_again(own_server, manager):
        assert silently(make()) == {"n": 2}


@pytest.mark.parametrize(
    ("others", "found"),
    [
        pytest.param((), 2, id="no save since"),
        pytest.param((3,), 2, id="another knew as much as its writer did"),
        pytest.param((3, 4), 4, id="another knew more"),
    ],
)
def test_what_waits_is_passed_by_where_the_servers_is_newer(own_server, make, others, found):
    manager = make()
    manager.save({"n": 1}, epoch=1)
    spooled(own_server, manager, 2)
    with server_again(own_server, manager):
        for epoch in others:
            make(**on_another_machine(own_server)).save({"n": epoch}, epoch=epoch)
        assert silently(make()) == {"n": found}
    assert eventually(lambda: not manager.pending)
    assert silently(make()) == {"n": found}, "the server sees it as we did"


def test_while_the_server_is_away_what_waits_is_found(own_server, make):
    manager = make()
    manager.save({"n": 1}, epoch=1)
    spooled(own_server, manager, 2, 3)
    assert silently(make()) == {"n": 3}


def test_what_the_server_refused_is_found_too_if_it_is_the_newest(own_server, make):
    manager = make(mode="max")
    manager.save({"n": 1}, epoch=1, metric=1.0)
    other = make(mode="min")
    spooled(own_server, other, 2)
    own_server.start()
    assert eventually(lambda: other._saver.target.queue.parked())
    assert silently(make()) == {"n": 2}


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("file", ["state.pt", "item.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_what_waits_and_is_damaged_is_passed_over(own_server, make, file, how, away):
    manager = make()
    manager.save({"n": 1}, epoch=1)
    items = spooled(own_server, manager, 2, 3, text="x" * 5000)
    path = items[-1].folder / file

    def damaged():
        if how == "flipped":
            flip(path)
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            path.unlink()
        with pytest.warns(HoldfastWarning, match=f"{items[-1].folder.name}.* cannot be used"):
            assert make().resume()["n"] == 2

    if away:
        damaged()
        return
    with server_again(own_server, manager):
        damaged()


def test_where_all_that_waits_is_damaged_the_servers_is_found(own_server, make):
    manager = make()
    manager.save({"n": 1}, epoch=1)
    (item,) = spooled(own_server, manager, 2)
    flip(item.folder / "state.pt")
    with server_again(own_server, manager), pytest.warns(HoldfastWarning, match="cannot be used"):
        assert make().resume() == {"n": 1}


def test_every_byte_of_what_is_said_of_an_item_counts(own_server, make):
    manager = make()
    items = spooled(own_server, manager, 2, 3)
    facts = items[-1].folder / "item.json"
    right = facts.read_bytes()
    for place in range(0, len(right), max(1, len(right) // 60)):
        flip(facts, place)
        with pytest.warns(HoldfastWarning, match="cannot be used"):
            assert make().resume() == {"n": 2}
        facts.write_bytes(right)
    assert silently(make()) == {"n": 3}


class Meanwhile(Loader):
    """An event between the look into the spool and the read of an item."""

    def spooled(self, item):
        if todo := self.__dict__.pop("todo", None):
            todo()
        return super().spooled(item)


def loader_with(manager, todo):
    loader = Meanwhile(manager._remote, None, False, queue=manager._saver.target.queue)
    loader.__dict__["todo"] = todo
    return loader


def test_a_save_delivered_during_the_resume_is_found_on_the_server(own_server, make):
    manager = make(mode="max")
    manager.save({"n": 1}, epoch=1, metric=1.0)
    refused = make(mode="min")
    spooled(own_server, refused, 2)
    own_server.start()
    assert eventually(lambda: refused._saver.target.queue.parked())
    spooled(own_server, manager, 3)
    claim = manager._saver.target.queue.claimed(wait_s=20)
    assert claim.__enter__()
    own_server.start()

    def deliver():
        claim.__exit__(None, None, None)
        assert eventually(lambda: not manager.pending)

    with warnings.catch_warnings(action="error"):
        assert Resumer(loader_with(manager, deliver)).state() == {"n": 3}


def test_a_save_refused_during_the_resume_is_found_where_it_was_parked(own_server, make):
    make(mode="max").save({"n": 1}, epoch=1, metric=1.0)
    manager = make(mode="min")
    spooled(own_server, manager, 2)
    claim = manager._saver.target.queue.claimed(wait_s=20)
    assert claim.__enter__()
    own_server.start()

    def deliver():
        claim.__exit__(None, None, None)
        assert eventually(lambda: manager._saver.target.queue.parked())

    with warnings.catch_warnings(action="error"):
        assert Resumer(loader_with(manager, deliver)).state() == {"n": 2}


# without the server


def test_without_the_server_and_with_nothing_here_it_is_an_error_and_never_nothing(own_server, make):
    own_server.kill()
    for manager in (make(), make(on_unreachable="raise")):
        with pytest.raises(ServerUnreachable):
            manager.resume()


def test_without_the_server_what_was_loaded_last_is_taken_from_the_cache(own_server, make, tmp_path):
    make().save({"w": torch.arange(200_000)}, epoch=1)
    make(cache_dir=tmp_path / "cache").load_latest()
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=r"_0001\.pt is taken from the cache; the server may hold newer ones"):
        found = make(cache_dir=tmp_path / "cache").resume()
    assert torch.equal(found["w"], torch.arange(200_000))
    with pytest.raises(ServerUnreachable):
        make().resume()


@pytest.mark.parametrize("read", [lambda m: m.load("checkpoint_epoch_0001.pt"), lambda m: m.load_best()])
def test_a_load_of_an_older_one_does_not_change_what_the_cache_gives(own_server, make, tmp_path, read):
    for epoch in (1, 2):
        make().save({"n": epoch}, epoch=epoch, metric=float(epoch))
    manager = make(cache_dir=tmp_path / "cache")
    assert manager.resume() == {"n": 2}
    assert read(manager) == {"n": 1}
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=r"_0002\.pt is taken from the cache"):
        assert manager.resume() == {"n": 2}


def test_an_older_one_is_taken_from_the_cache_where_no_newer_one_is_in_it(own_server, make, tmp_path):
    for epoch in (1, 2):
        make().save({"n": epoch}, epoch=epoch)
    manager = make(cache_dir=tmp_path / "cache")
    manager.load_latest()
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    manager.load("checkpoint_epoch_0001.pt")
    own_server.kill()
    with pytest.warns(HoldfastWarning, match=r"_0001\.pt is taken from the cache"):
        assert manager.resume() == {"n": 1}


def test_without_the_server_the_newer_one_of_spool_and_cache_is_found(own_server, make, tmp_path):
    manager = make(cache_dir=tmp_path / "cache")
    manager.save({"n": 1}, epoch=1)
    spooled(own_server, manager, 2)
    with server_again(own_server, manager):
        for epoch in (3, 4):
            make(**on_another_machine(own_server)).save({"n": epoch}, epoch=epoch)
        assert silently(manager) == {"n": 4}
        own_server.kill()
    with pytest.warns(HoldfastWarning, match=r"_0004\.pt is taken from the cache"):
        assert make(cache_dir=tmp_path / "cache").resume() == {"n": 4}
    spooled(own_server, manager, 5)
    assert silently(make(cache_dir=tmp_path / "cache")) == {"n": 5}


@pytest.mark.parametrize("suffix", [".data", ".json"])
def test_without_the_server_a_cache_that_is_damaged_is_passed_over(own_server, make, tmp_path, suffix):
    manager = make(cache_dir=tmp_path / "cache")
    manager.save({"n": 1, "text": "x" * 5000}, epoch=1)
    spooled(own_server, manager, 2)
    with server_again(own_server, manager):
        for epoch in (3, 4):
            other = make(**on_another_machine(own_server))
            other.save({"n": epoch, "text": "x" * 5000}, epoch=epoch)
        manager.resume()
        own_server.kill()
    (path,) = (tmp_path / "cache").glob(f"*{suffix}")
    flip(path)
    with pytest.warns(HoldfastWarning) as caught:
        assert make(cache_dir=tmp_path / "cache").resume()["n"] == 2
    messages = [str(one.message) for one in caught]
    assert any("cannot be used from the cache" in text for text in messages)
    assert any("_0002.pt is taken from" in text for text in messages)


@pytest.mark.parametrize("content", ["{", "[]", '{"loaded": 3}', '{"loaded": {"sequence": 1}}', '{"sequence": "x"}'])
def test_notes_that_are_damaged_are_as_good_as_none(own_server, make, tmp_path, content):
    manager = make(cache_dir=tmp_path / "cache")
    manager.save({"n": 1}, epoch=1)
    manager.resume()
    notes = manager._saver.target.queue.folder / "known.json"
    assert json.loads(notes.read_text())["loaded"]["name"] == "checkpoint_epoch_0001.pt"
    notes.write_text(content)
    own_server.kill()
    with pytest.raises(ServerUnreachable):
        make(cache_dir=tmp_path / "cache").resume()


# the life of a job


TRAINER = """
import sys, time, holdfast
manager = holdfast.CheckpointManager(sys.argv[2], server=sys.argv[1], patience_s=0.1, background=True)
state = manager.resume() or {"n": 0}
print("resumed", state["n"], flush=True)
while True:
    state["n"] += 1
    manager.save(state, epoch=state["n"])
    manager.wait()
    print("saved", state["n"], flush=True)
    sys.stdin.readline()
"""


class Trainer:
    """A job in its own process, which saves at each signal of the test."""

    def __init__(self, url):
        command = [sys.executable, "-W", "ignore", "-c", TRAINER, url, DIRECTORY]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def says(self):
        return self.process.stdout.readline().split()

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=DEADLINE_S)


def test_a_job_that_is_killed_again_and_again_goes_on_where_it_was(own_server, make):
    expected = 0
    for away in (False, True, True, False, False):
        if not away and own_server._process is None:
            own_server.start()
        trainer = Trainer(own_server.url)
        try:
            assert trainer.says() == ["resumed", str(expected)]
            for go_on in (trainer.go_on, lambda: None):
                expected += 1
                assert trainer.says() == ["saved", str(expected)]
                go_on()
            if expected == 2:
                own_server.kill()
                trainer.go_on()
                expected += 1
                assert trainer.says() == ["saved", str(expected)]
        finally:
            trainer.kill()
    assert silently(make()) == {"n": expected}


def test_saves_in_the_background_of_this_very_manager_are_waited_for(own_server, make):
    with Forwarder(own_server.url) as forwarder:
        manager = make(server=forwarder.url, background=True, max_pending=3)
        for epoch in (1, 2, 3):
            manager.save({"n": epoch, "w": torch.ones(epoch * 500_000)}, epoch=epoch)
        assert silently(manager)["n"] == 3
        assert manager.pending == []


def test_a_refused_save_in_the_background_does_not_hinder_resuming_and_is_reported_afterwards(make):
    make(mode="max").save({"n": 1}, epoch=1, metric=1.0)
    manager = make(mode="min", background=True)
    manager.save({"n": 2}, epoch=2, metric=1.0)
    assert silently(manager) == {"n": 1}
    with pytest.raises(ValueError, match="mode='max'"):
        manager.wait()
