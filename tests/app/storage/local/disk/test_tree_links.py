"""The tree below a root: no link is followed, and no name leads out of it."""

import os
from contextlib import suppress

import pytest

from app.core.errors import ForeignFile, UnsafePath
from tests.data.samples import below


def enter(tree, path, *, create=False):
    with tree.folder(path, create=create):
        pass


def close(descriptor):
    os.close(descriptor)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda tree: enter(tree, ("folder",)), id="enter"),
        pytest.param(lambda tree: enter(tree, ("folder", "inner")), id="pass"),
        pytest.param(lambda tree: enter(tree, ("folder", "new"), create=True), id="make a folder"),
        pytest.param(lambda tree: enter(tree, ("dangling",), create=True), id="make a folder where a link leads"),
        pytest.param(lambda tree: close(tree.open(("folder", "secret"), os.O_RDONLY)), id="open"),
        pytest.param(lambda tree: close(tree.open(("folder", "new"), os.O_WRONLY | os.O_CREAT)), id="make a file"),
        pytest.param(lambda tree: tree.stat(("folder", "secret")), id="stat"),
        pytest.param(lambda tree: tree.is_folder(("folder", "inner")), id="is_folder"),
        pytest.param(lambda tree: tree.names(("folder",)), id="names"),
        pytest.param(lambda tree: tree.read(("folder", "secret")), id="read"),
        pytest.param(lambda tree: tree.write(("folder", "secret"), b"!"), id="write"),
        pytest.param(lambda tree: tree.move(("plain",), ("folder", "secret")), id="move out"),
        pytest.param(lambda tree: tree.move(("folder", "secret"), ("taken",)), id="move in"),
        pytest.param(lambda tree: tree.move_file_to_free_name(("plain",), ("folder", "new")), id="move to a free name"),
        pytest.param(lambda tree: tree.move_file_to_free_name(("folder", "secret"), ("new",)), id="move from a name"),
        pytest.param(lambda tree: tree.unlink(("folder", "secret")), id="unlink"),
        pytest.param(lambda tree: tree.remove(("folder", "inner")), id="remove"),
        pytest.param(lambda tree: tree.files(("folder",)), id="files"),
        pytest.param(lambda tree: tree.sync(("folder",)), id="sync"),
        pytest.param(lambda tree: tree.read(("file",)), id="read a link"),
        pytest.param(lambda tree: close(tree.open(("file",), os.O_RDWR)), id="open a link"),
        pytest.param(lambda tree: close(tree.open(("dangling",), os.O_RDWR | os.O_CREAT)), id="make what a link names"),
        pytest.param(lambda tree: tree.names(("plain",)), id="a file as a folder"),
        pytest.param(lambda tree: tree.write(("plain", "x"), b"!"), id="write below a file"),
    ],
)
def test_a_link_is_never_followed(linked, outside, act):
    inside_before, outside_before = below(linked.root), below(outside)
    with pytest.raises(ForeignFile):
        act(linked)
    assert below(outside) == outside_before
    assert below(linked.root) == inside_before


@pytest.mark.parametrize("way", [("..", "outside"), ("../outside",), ("plain", "..", "..", "outside")], ids=repr)
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda tree, way: tree.read((*way, "secret")), id="read"),
        pytest.param(lambda tree, way: tree.write((*way, "new"), b"!"), id="write"),
        pytest.param(lambda tree, way: tree.move(("plain",), (*way, "new")), id="move"),
        pytest.param(lambda tree, way: tree.unlink((*way, "secret")), id="unlink"),
        pytest.param(lambda tree, way: tree.remove(way), id="remove"),
    ],
)
def test_no_name_leads_out_of_the_root(linked, outside, act, way):
    before = below(outside)
    with pytest.raises((ForeignFile, ValueError)):
        act(linked, way)
    assert below(outside) == before


@pytest.mark.parametrize("name", ["..", ".", "", "../outside", "a\0b"], ids=repr)
def test_a_component_that_is_no_file_name_is_an_unsafe_path(linked, name):
    for path in ((name,), (name, "secret")):
        with pytest.raises(UnsafePath):
            linked.read(path)


def test_a_link_is_seen_as_itself(linked):
    assert linked.stat(("file",)).st_size != len(b"secret")
    assert not linked.is_folder(("folder",))


@pytest.mark.parametrize("link", ["folder", "file", "dangling"])
def test_a_link_itself_can_be_replaced_moved_and_unlinked(linked, outside, link):
    before, leads = below(outside), (linked.root / link).readlink()
    linked.move((link,), ("a", "moved"))
    assert (linked.root / "a" / "moved").readlink() == leads
    linked.write(("a", "moved"), b"new")
    assert linked.read(("a", "moved")) == b"new"
    linked.move(("plain",), ("a", "moved"))
    (linked.root / link).symlink_to(leads)
    linked.unlink((link,))
    assert linked.stat((link,)) is None
    assert below(outside) == before


def test_a_link_in_place_of_a_half_written_file_is_not_written_through(linked, outside):
    before = below(outside)
    (linked.root / ".plain.new").symlink_to(outside / "secret")
    with suppress(OSError, ForeignFile):
        linked.write(("plain",), b"new")
    assert below(outside) == before


def test_a_link_to_a_folder_is_not_removed_as_one(linked, outside):
    before = below(outside)
    with pytest.raises(OSError, match="symbolic link"):
        linked.remove(("folder",))
    assert below(outside) == before


def test_removing_a_folder_leaves_what_its_links_lead_to(linked, outside):
    before = below(outside)
    linked.move(("folder",), ("a", "b", "folder"))
    linked.move(("file",), ("a", "file"))
    linked.remove(("a",))
    assert linked.stat(("a",)) is None
    assert below(outside) == before


@pytest.mark.parametrize("link", ["folder", "file", "dangling"])
def test_moving_a_link_to_a_free_name_moves_the_link(linked, outside, link):
    before, leads = below(outside), (linked.root / link).readlink()
    linked.move_file_to_free_name((link,), ("moved",))
    assert (linked.root / "moved").readlink() == leads
    assert not (linked.root / link).is_symlink()
    assert below(outside) == before
