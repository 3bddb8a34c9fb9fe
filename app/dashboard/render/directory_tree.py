"""Directories as a tree of the components of their names. Pure.

A component without siblings is joined with the one below: ``runs/digits/checkpoints`` alone is one row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from app.service.query.overview import Overview


class Named(Protocol):
    """Something with the name of a directory."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)

MOST_LEVELS = 32
"""The depth of the tree. The rest of a longer name is one component."""


@dataclass(slots=True)
class Node:
    """A row of the tree: some components of a name, the directory that ends there if one does, and what is below."""

    label: str
    overview: Overview | None = None
    below: list["Node"] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of checkpoints here and below."""
        return sum(overview.totals.count for overview in self._overviews())

    @property
    def size_bytes(self) -> int:
        """Bytes of the checkpoints here and below."""
        return sum(overview.totals.size_bytes for overview in self._overviews())

    @property
    def directories(self) -> int:
        """Number of directories here and below."""
        return sum(1 for _ in self._overviews())

    @property
    def written(self) -> int:
        """Number of directories here and below with an active writer."""
        return sum(overview.is_written for overview in self._overviews())

    def _overviews(self) -> Iterator[Overview]:
        if self.overview is not None:
            yield self.overview
        for node in self.below:
            yield from node._overviews()


def tree(overviews: Iterable[Overview]) -> Sequence[Node]:
    """Return the top rows of the tree, sorted by name at each level."""
    top = Node("")
    for overview in sorted(overviews, key=lambda overview: overview.directory.name.split("/")):
        node = top
        for component in overview.directory.name.split("/", MOST_LEVELS):
            last = node.below[-1] if node.below else None
            if last is None or last.label != component:
                node.below.append(last := Node(component))
            node = last
        node.overview = overview
    return [_joined(node) for node in top.below]


def matching(directories: Sequence[N], text: str) -> Sequence[N]:
    """Return the directories whose names contain every word of a text, ignoring case."""
    words = text.casefold().split()
    if not words:
        return directories
    return [one for one in directories if all(word in one.name.casefold() for word in words)]


def _joined(node: Node) -> Node:
    while node.overview is None and len(node.below) == 1:
        only = node.below[0]
        node = Node(f"{node.label}/{only.label}", only.overview, only.below)
    node.below = [_joined(child) for child in node.below]
    return node
