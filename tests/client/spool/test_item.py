"""Spooled checkpoints on disk: their content, and that corruption of any kind is noticed."""

import errno
import json
import stat
import subprocess

import pytest
import torch

from holdfast import IntegrityError
from holdfast._api import digests
from holdfast._spool import item
from holdfast._torchfile.writer.layout import layout_of
from tests.data.pieces import Pieces, save_of
from tests.data.states import assert_same

DATA = bytes(range(256)) * 60


@pytest.fixture
def folder(tmp_path):
    """A spooled checkpoint."""
    found = tmp_path / "item"
    item.write(found, save_of(7), Pieces(DATA), {"server": "http://somewhere"})
    return found


def read_back(folder):
    """Read all of it, verified."""
    with item.SpooledFile(folder / item.FILE, item.read_facts(folder)) as file:
        content = bytearray(file.size_bytes)
        file.copy_into(lambda offset, length: memoryview(content)[offset : offset + length], 0, file.size_bytes)
        assert not file.has_changed()
        return bytes(content)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def rewrite(folder, **changes):
    """Change its facts, and their check with them."""
    facts = json.loads((folder / item.FACTS).read_text())
    facts = {name: value for name, value in {**facts, **changes}.items() if name != "check"}
    check = digests.of_chunk(json.dumps(facts, sort_keys=True).encode())
    (folder / item.FACTS).write_text(json.dumps({**facts, "check": check}))


def test_it_is_an_ordinary_torch_file_and_what_is_said_of_it(tmp_path):
    state = {"model": torch.nn.Linear(300, 300).state_dict(), "epoch": 7}
    layout, save = layout_of(state), save_of(7, metric=0.5)
    item.write(tmp_path / "item", save, layout, {"server": "http://somewhere"})
    assert_same(torch.load(tmp_path / "item" / "state.pt", weights_only=True), state)
    facts = json.loads((tmp_path / "item" / "item.json").read_text())
    assert (facts["version"], facts["server"], facts["save"]) == (1, "http://somewhere", save)
    assert facts["size_bytes"] == layout.size_bytes == (tmp_path / "item" / "state.pt").stat().st_size
    assert {tensor["name"] for tensor in facts["tensors"]} == {"model.weight", "model.bias"}


def test_what_was_written_is_read_back(folder):
    assert read_back(folder) == DATA
    assert item.read_facts(folder)["save"]["epoch"] == 7


def test_nobody_else_may_read_it(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "state.pt": 0o600,
        "item.json": 0o600,
    }


@pytest.mark.parametrize("place", range(0, 700, 41))
def test_no_flipped_byte_in_what_is_said_is_believed(folder, place):
    path = folder / "item.json"
    flip(path, place % path.stat().st_size)
    with pytest.raises(IntegrityError):
        item.read_facts(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"version": 1, "save": {"name": "a"}}'])
def test_no_other_json_is_believed(folder, content):
    (folder / "item.json").write_text(content)
    with pytest.raises(IntegrityError) as caught:
        item.read_facts(folder)
    assert caught.value.code == "altered"


def test_what_a_later_version_wrote_is_not_guessed_at(folder):
    rewrite(folder, version=3)
    with pytest.raises(IntegrityError, match="another version") as caught:
        item.read_facts(folder)
    assert caught.value.code == "other_version"


def test_what_says_more_of_itself_is_read_all_the_same(folder):
    rewrite(folder, something="new")
    assert read_back(folder) == DATA


@pytest.mark.parametrize("place", [0, 4095, 4096, len(DATA) - 1])
def test_a_flipped_byte_of_the_file_is_noticed(folder, place):
    flip(folder / "state.pt", place)
    with item.SpooledFile(folder / item.FILE, item.read_facts(folder)) as file:
        assert file.has_changed()
    with pytest.raises(IntegrityError, match="not those saved"):
        read_back(folder)


@pytest.mark.parametrize("content", [b"", DATA[:-1], DATA + b"x"], ids=["empty", "truncated", "longer"])
def test_a_file_of_another_length_is_noticed(folder, content):
    (folder / "state.pt").write_bytes(content)
    with pytest.raises(IntegrityError, match="another length"):
        read_back(folder)


def test_a_file_that_is_truncated_while_it_is_read_is_noticed(folder):
    with item.SpooledFile(folder / item.FILE, item.read_facts(folder)) as file:
        (folder / "state.pt").write_bytes(DATA[:5000])
        assert bytes(file.read(0)[0]) == DATA[:4096]
        with pytest.raises(IntegrityError, match="another length"):
            file.read(1)


@pytest.mark.parametrize("name", ["state.pt", "item.json"])
def test_a_part_that_is_missing_is_noticed(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError):
        read_back(folder)


def test_it_is_discarded_as_a_whole(folder):
    (folder / "more").mkdir()
    (folder / "more" / "file").write_text("of somebody else")
    assert item.discard(folder)
    assert list(folder.parent.iterdir()) == []
    assert item.discard(folder)


def test_who_reads_it_goes_on_reading_when_it_is_discarded(folder):
    with item.SpooledFile(folder / item.FILE, item.read_facts(folder)) as file:
        item.discard(folder)
        assert not file.has_changed()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_nothing_is_left_where_there_is_no_room(small_disk):
    with pytest.raises(OSError, match="No space") as caught:
        item.write(small_disk / "item", save_of(), Pieces(bytes(2**21)), {})
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []
    item.write(small_disk / "item", save_of(), Pieces(DATA), {})
    assert read_back(small_disk / "item") == DATA
