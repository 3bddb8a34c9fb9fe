"""The tree below a root: a change is there as a whole or not at all, and harms nothing else."""

import os
import shutil

import pytest

from app.core.errors import ForeignFile
from app.storage.local.disk.tree import Tree
from tests.data.samples import below


def enter(tree, path, *, create=False):
    with tree.folder(path, create=create):
        pass


def close(descriptor):
    os.close(descriptor)


def test_the_files_of_a_folder_are_all_that_are_no_folders(linked):
    for name in ("folder", "file", "dangling", "plain"):
        linked.move((name,), ("a", name))
    linked.write(("a", "b", "c"), b"")
    enter(linked, ("a", "empty"), create=True)
    os.mkfifo(linked.root / "a" / "b" / "pipe")
    expected = [("b", "c"), ("b", "pipe"), ("dangling",), ("file",), ("folder",), ("plain",)]
    assert sorted(linked.files(("a",))) == expected


def test_removing_what_is_empty_leaves_all_that_is_not(linked, outside):
    before = below(outside)
    for path in (("a", "empty"), ("a", "b", "c", "empty"), ("e", "f"), ("a", "d")):
        enter(linked, path, create=True)
    linked.write(("a", "b", "kept"), b"x")
    linked.move(("folder",), ("a", "d", "link"))
    for path in (("a",), ("e",), ("missing",), ("missing", "x"), ("plain",), ("file",)):
        linked.remove_empty(path)
    left = {"a", "a/b", "a/b/kept", "a/d", "a/d/link", "dangling", "file", "plain"}
    assert set(below(linked.root)) == left
    assert below(outside) == before


def test_a_tree_is_made_where_its_root_is_missing_and_found_where_it_is_not(tmp_path):
    for content in (None, b"x"):
        tree = Tree(tmp_path / "a" / "b")
        assert tree.root.is_dir()
        assert below(tree.root).get("c") == content
        tree.write(("c",), b"x")
        tree.close()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR], ids=["read", "write", "both"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_only_plain_files_are_opened_and_nobody_waits_for_others(tree, make, flags):
    make(tree.root / "odd")
    with pytest.raises(ForeignFile):
        tree.open(("odd",), flags)


def test_a_pipe_is_replaced_by_what_is_written(tree):
    os.mkfifo(tree.root / "odd")
    tree.write(("odd",), b"plain")
    assert tree.read(("odd",)) == b"plain"


def test_what_is_missing_is_nothing_or_a_file_not_found(tree):
    assert tree.stat(("a", "b")) is None
    assert tree.names(("a", "b")) == []
    assert not tree.is_folder(("a",))
    tree.unlink(("a", "b"))
    tree.remove(("a", "b"))
    for act in (tree.read, tree.files, tree.sync):
        with pytest.raises(FileNotFoundError):
            act(("a", "b"))
        with pytest.raises(FileNotFoundError):
            act(("a",))
    with pytest.raises(FileNotFoundError):
        enter(tree, ("a",))
    assert below(tree.root) == {}


def test_writing_puts_a_new_file_in_the_place_of_the_old(tree):
    tree.write(("a", "b"), b"a longer text")
    held = tree.open(("a", "b"), os.O_RDONLY)
    tree.write(("a", "b"), b"new")
    assert os.pread(held, 99, 0) == b"a longer text"  # nobody sees the new one half
    os.close(held)
    assert below(tree.root) == {"a": None, "a/b": b"new"}


def test_a_write_that_fails_leaves_the_old_file(tree):
    tree.write(("a",), b"old")
    with pytest.raises(TypeError):
        tree.write(("a",), "no bytes")
    assert tree.read(("a",)) == b"old"


def test_what_an_interrupted_write_left_does_not_hinder_the_next(tree):
    (tree.root / ".a.new").write_bytes(b"a much longer half of something")
    tree.write(("a",), b"new")
    assert below(tree.root) == {"a": b"new"}


def test_names_are_sorted(tree):
    for name in ("b", "c", "a"):
        tree.write((name,), b"")
    assert tree.names(()) == ["a", "b", "c"]


def test_moving_makes_the_folders_that_are_missing(tree):
    tree.write(("a", "b"), b"x")
    tree.move(("a",), ("c", "d"))
    tree.move_file_to_free_name(("c", "d", "b"), ("e", "f"))
    assert below(tree.root) == {"c": None, "c/d": None, "e": None, "e/f": b"x"}


@pytest.mark.parametrize(
    "occupy",
    [
        pytest.param(lambda place, outside: place.write_bytes(b"theirs"), id="a file"),
        pytest.param(lambda place, outside: place.write_bytes(b"ours"), id="a file of the same bytes"),
        pytest.param(lambda place, outside: place.mkdir(), id="an empty folder"),
        pytest.param(lambda place, outside: shutil.copytree(outside, place), id="a folder"),
        pytest.param(lambda place, outside: place.symlink_to(outside / "secret"), id="a link"),
        pytest.param(lambda place, outside: place.symlink_to(outside / "not-there"), id="a dangling link"),
        pytest.param(lambda place, outside: os.mkfifo(place), id="a pipe"),
    ],
)
def test_moving_to_a_free_name_overwrites_nothing(tree, outside, occupy):
    tree.write(("source",), b"ours")
    occupy(tree.root / "taken", outside)
    before = below(tree.root)
    with pytest.raises(FileExistsError):
        tree.move_file_to_free_name(("source",), ("taken",))
    assert below(tree.root) == before


def test_moving_to_a_free_name_finishes_what_was_interrupted(tree):
    tree.write(("source",), b"ours")
    (tree.root / "target").hardlink_to(tree.root / "source")
    tree.move_file_to_free_name(("source",), ("target",))
    assert below(tree.root) == {"target": b"ours"}
