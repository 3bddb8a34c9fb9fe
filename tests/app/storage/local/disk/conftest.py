"""A tree of its own for each test, also one with links that lead out of it."""

import pytest

from app.storage.local.disk.tree import Tree


@pytest.fixture
def outside(tmp_path):
    """A folder that is none of the tree's business."""
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    (folder / "secret").write_bytes(b"secret")
    return folder


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path / "root")
    yield made
    made.close()


@pytest.fixture
def linked(tree, outside):
    """A tree with links that lead out of it, and a file to move."""
    (tree.root / "folder").symlink_to(outside)
    (tree.root / "file").symlink_to(outside / "secret")
    (tree.root / "dangling").symlink_to(outside / "not-there")
    (tree.root / "plain").write_bytes(b"plain")
    return tree
