"""The cache of loaded checkpoints: cached bytes are not fetched again, and always verified."""

import json
import os
import threading
import time

import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning
from tests.support.forwarder import Forwarder

MIB = 1024 * 1024
NEXT_TO_NOTHING = 64 * 1024


@pytest.fixture
def forwarder(server):
    """A forwarder to the server that counts bytes."""
    with Forwarder(server.url) as found:
        yield found


@pytest.fixture
def folder(tmp_path):
    """The folder of the cache."""
    return tmp_path / "cache"


@pytest.fixture
def make_manager(forwarder, directory, folder):
    """Make managers of the test's directory that use the cache."""

    def make(**options):
        return CheckpointManager(directory, None, None, server=forwarder.url, **{"cache_dir": folder, **options})

    return make


def make_state(seed=0, parts=10):
    torch.manual_seed(seed)
    return {f"part {n}": torch.randn(MIB // 4) for n in range(parts)}


def fetched(forwarder, load):
    """Return the number of bytes that a load fetched, and its result."""
    forwarder.reset()
    state = load()
    return forwarder.down_bytes, state


def assert_equal(found, state):
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name


def kept(folder):
    """Return the names of the files in the cache."""
    return sorted(path.name for path in folder.iterdir())


def test_what_was_loaded_once_is_not_fetched_again(forwarder, make_manager):
    state = make_state()
    path = make_manager().save(state, epoch=1)
    first, _ = fetched(forwarder, lambda: make_manager().load(path))
    second, found = fetched(forwarder, lambda: make_manager().load(path))
    assert first > 10 * MIB
    assert second < NEXT_TO_NOTHING
    assert_equal(found, state)


def test_what_was_saved_is_not_in_the_cache_for_that(make_manager, folder):
    make_manager().save(make_state(), epoch=1)
    assert not folder.exists()


def test_of_a_checkpoint_that_is_much_like_a_kept_one_only_the_rest_is_fetched(forwarder, make_manager):
    manager, state = make_manager(), make_state()
    manager.load(manager.save(state, epoch=1))
    state["part 3"] = state["part 3"] + 1
    path = manager.save(state, epoch=2)
    count, found = fetched(forwarder, lambda: manager.load(path))
    assert MIB <= count < MIB + NEXT_TO_NOTHING
    assert_equal(found, state)
    assert fetched(forwarder, lambda: make_manager().load(path))[0] < NEXT_TO_NOTHING


def test_some_keys_of_a_kept_checkpoint_are_not_fetched(forwarder, make_manager):
    manager, state = make_manager(), make_state()
    path = manager.save(state, epoch=1)
    manager.load(path)
    count, found = fetched(forwarder, lambda: manager.load(path, only=("part 3",)))
    assert count < NEXT_TO_NOTHING
    assert_equal(found, {"part 3": state["part 3"]})


def test_what_was_loaded_in_part_is_not_kept_as_a_whole(forwarder, make_manager, folder):
    manager, state = make_manager(), make_state()
    path = manager.save(state, epoch=1)
    manager.load(path, only=("part 3",))
    assert not folder.exists() or kept(folder) == []
    count, found = fetched(forwarder, lambda: manager.load(path))
    assert count > 10 * MIB
    assert_equal(found, state)


def test_downloads_use_the_cache_and_fill_it(forwarder, make_manager, server, tmp_path):
    manager = make_manager()
    path = manager.save(make_state(), epoch=1)
    manager.download(path, tmp_path / "first.pt")
    count, _ = fetched(forwarder, lambda: manager.download(path, tmp_path / "second.pt"))
    assert count < NEXT_TO_NOTHING
    assert (tmp_path / "second.pt").read_bytes() == (server.root / path).read_bytes()
    assert fetched(forwarder, lambda: manager.load(path))[0] < NEXT_TO_NOTHING


def flip(file):
    with file.open("r+b") as opened:
        opened.seek(3 * MIB)
        byte = opened.read(1)[0]
        opened.seek(3 * MIB)
        opened.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data, _: flip(data), id="a bit flipped"),
        pytest.param(lambda data, _: os.truncate(data, 5 * MIB), id="half of it is gone"),
        pytest.param(lambda data, _: os.truncate(data, 0), id="all of it is gone"),
        pytest.param(lambda data, _: data.unlink(), id="the file is gone"),
        pytest.param(lambda _, chunks: chunks.unlink(), id="the list is gone"),
        pytest.param(lambda _, chunks: chunks.write_text('[[1, "a"'), id="the list is no JSON"),
        pytest.param(lambda _, chunks: chunks.write_text("[1, {}, null]"), id="the list is none of chunks"),
        pytest.param(lambda _, chunks: chunks.write_text(json.dumps([[10**30, "a"]])), id="a chunk beyond all files"),
        pytest.param(
            lambda _, chunks: chunks.write_text(json.dumps(json.loads(chunks.read_text())[::-1])),
            id="the list is in the wrong order",
        ),
    ],
)
def test_a_damaged_cache_costs_a_transfer_and_nothing_else(forwarder, make_manager, folder, damage):
    manager, state = make_manager(), make_state()
    path = manager.save(state, epoch=1)
    manager.load(path)
    (data,), (chunks,) = folder.glob("*.data"), folder.glob("*.json")
    damage(data, chunks)
    for _ in range(2):
        assert_equal(make_manager().load(path), state)
    count, found = fetched(forwarder, lambda: make_manager().load(path))
    assert count < NEXT_TO_NOTHING, "it did not mend"
    assert_equal(found, state)


def test_the_least_recently_used_goes_first(forwarder, make_manager, folder):
    manager = make_manager(cache_max_bytes=25 * MIB)
    paths = [manager.save(make_state(seed), epoch=seed) for seed in range(3)]
    manager.load(paths[0])
    manager.load(paths[1])
    for place, entry in enumerate(sorted(folder.glob("*.data"), key=lambda entry: entry.stat().st_mtime)):
        os.utime(entry, (place, place))  # the times of the entries differ
    manager.load(paths[0])
    manager.load(paths[2])
    assert len(list(folder.glob("*.data"))) == 2
    assert fetched(forwarder, lambda: manager.load(paths[0]))[0] < NEXT_TO_NOTHING
    assert fetched(forwarder, lambda: manager.load(paths[1]))[0] > 10 * MIB


def test_the_last_one_stays_however_large_it_is(forwarder, make_manager, folder):
    manager = make_manager(cache_max_bytes=MIB)
    for seed in range(2):
        path = manager.save(make_state(seed), epoch=seed)
        manager.load(path)
    assert len(kept(folder)) == 2  # the bytes and the list
    assert fetched(forwarder, lambda: manager.load(path))[0] < NEXT_TO_NOTHING


def test_what_a_process_left_half_done_goes_after_a_day(make_manager, folder):
    folder.mkdir()
    for name, age_s in ((".fresh.1", 60), (".old.1", 2 * 86400)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    manager = make_manager()
    manager.load(manager.save({"a": torch.ones(3)}, epoch=1))
    assert [name for name in kept(folder) if name.startswith(".")] == [".fresh.1"]


def test_a_load_that_fails_leaves_nothing_in_the_cache(make_manager, server, folder):
    manager = make_manager()
    path = manager.save(make_state(), epoch=1)
    times = (server.root / path).stat()
    flip(server.root / path)
    os.utime(server.root / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(OSError, match="not those that were saved"):
        manager.load(path)
    assert kept(folder) == []


@pytest.mark.filterwarnings("always::holdfast.HoldfastWarning")
def test_a_folder_that_cannot_be_written_costs_a_warning_and_no_load(make_manager, tmp_path):
    (tmp_path / "file").write_text("in the way")
    manager = make_manager(cache_dir=tmp_path / "file" / "cache")
    state = make_state(parts=1)
    path = manager.save(state, epoch=1)
    with pytest.warns(HoldfastWarning, match="the cache cannot be written"):
        assert_equal(manager.load(path), state)
    with pytest.warns(HoldfastWarning, match="the cache cannot be written"):
        manager.download(path, tmp_path / "a.pt")


def test_the_environment_can_say_where_the_cache_is(forwarder, make_manager, tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "elsewhere"))
    manager = make_manager(cache_dir=None)
    path = manager.save(make_state(), epoch=1)
    manager.load(path)
    assert len(kept(tmp_path / "elsewhere")) == 2
    assert fetched(forwarder, lambda: make_manager(cache_dir=None).load(path))[0] < NEXT_TO_NOTHING


def test_without_a_cache_everything_is_fetched_again(forwarder, make_manager, monkeypatch):
    monkeypatch.delenv("HOLDFAST_CACHE", raising=False)
    manager = make_manager(cache_dir=None)
    path = manager.save(make_state(), epoch=1)
    for _ in range(2):
        assert fetched(forwarder, lambda: manager.load(path))[0] > 10 * MIB


def test_many_can_use_one_cache_at_a_time(make_manager):
    """The limit is below the size of the entries, so that some are evicted while others are read."""
    states = [make_state(seed, parts=3) for seed in range(3)]
    paths = [make_manager().save(state, epoch=seed) for seed, state in enumerate(states)]
    failures = []

    def load(own):
        try:
            manager = make_manager(cache_max_bytes=4 * MIB)
            for turn in range(8):
                which = (own + turn) % 3
                assert_equal(manager.load(paths[which]), states[which])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
