"""In which order the tree changes the disk and makes it durable, and that it leaves nothing open."""

import os

import pytest

from app.core.errors import ForeignFile
from app.storage.local.disk.tree import Tree
from tests.data.samples import changes, descriptors


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path / "root")
    yield made
    made.close()


@pytest.fixture
def umask():
    """A mask that lets the group read and others nothing but pass."""
    before = os.umask(0o026)
    yield
    os.umask(before)


def enter(tree, path, **options):
    with tree.folder(path, **options):
        pass


def test_a_written_file_is_durable_before_it_has_its_name_and_its_name_before_that_is_told(tree):
    assert changes(tree.write, ("a",), b"x") == ["flush", "fsync", "rename", "fsync"]


def test_a_new_folder_is_durable_before_anything_lies_in_it(tree):
    assert changes(enter, tree, ("a", "b"), create=True) == ["mkdir", "fsync", "mkdir", "fsync"]
    assert changes(tree.write, ("c", "d"), b"x") == ["mkdir", "fsync", "flush", "fsync", "rename", "fsync"]


def test_a_new_root_is_durable_before_anything_lies_in_it(tmp_path):
    made = []
    assert changes(lambda: made.append(Tree(tmp_path / "disk" / "root"))) == ["mkdir", "fsync", "mkdir", "fsync"]
    made[0].close()


def test_a_folder_that_need_not_be_durable_is_not_waited_for(tree):
    assert changes(enter, tree, ("a", "b"), create=True, durable=False) == ["mkdir", "mkdir"]


def test_a_move_is_durable_in_both_folders(tree):
    tree.write(("a", "b"), b"x")
    tree.write(("c", "d"), b"x")
    moved = changes(tree.move, ("a", "b"), ("c", "b"))
    assert [name for name in moved if name != "mkdir"] == ["rename", "fsync", "fsync"]


def test_a_file_has_its_new_name_for_good_before_it_loses_the_old_one(tree):
    tree.write(("a",), b"x")
    assert changes(tree.move_file_to_free_name, ("a",), ("b",))[:3] == ["link", "fsync", "unlink"]


def test_a_file_that_is_gone_stays_gone(tree):
    tree.write(("a",), b"x")
    assert changes(tree.unlink, ("a",)) == ["unlink", "fsync"]


def test_syncing_reaches_every_file_and_every_folder(tree):
    for path in (("a", "1"), ("a", "b", "2"), ("a", "b", "c", "3")):
        tree.write(path, b"x")
    assert changes(tree.sync, ("a",)) == ["fsync"] * 6
    assert changes(tree.sync_names, ("a",)) == ["fsync"]


def test_files_and_folders_are_for_those_whom_the_umask_lets(tree, umask):
    tree.write(("a", "written"), b"x")
    os.close(tree.open(("a", "opened"), os.O_WRONLY | os.O_CREAT))
    assert {name: tree.stat(("a", name)).st_mode & 0o777 for name in tree.names(("a",))} == {
        "opened": 0o640,
        "written": 0o640,
    }
    assert tree.stat(("a",)).st_mode & 0o777 == 0o751


def test_no_descriptor_is_left_open(tmp_path):
    before = descriptors()
    tree = Tree(tmp_path / "root")
    tree.write(("a", "b"), b"x")
    assert tree.read(("a", "b")) == b"x"
    tree.move(("a",), ("c",))
    tree.sync(("c",))
    assert tree.files(("c",)) == [("b",)]
    (tree.root / "link").symlink_to(tmp_path)
    os.mkfifo(tree.root / "pipe")
    for path in (("link", "x"), ("link",), ("pipe",), ("c",), ("c", "b", "x")):
        with pytest.raises(ForeignFile):
            tree.open(path, os.O_RDONLY)
    tree.close()
    assert descriptors() == before


def test_a_file_that_could_not_be_written_leaves_nothing_lying_about(tree):
    (tree.root / "a" / "b").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        tree.write(("a", "b"), b"x")
    assert tree.names(("a",)) == ["b"]
