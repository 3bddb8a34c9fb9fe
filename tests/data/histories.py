"""Histories kept in a real catalog, and what it lists of them."""

import itertools
from dataclasses import replace

from app.catalog import ListFilter
from app.core.models import Chunk, FileMap, Manifest
from tests.data.samples import checkpoint

_numbers = itertools.count()


def new_directory():
    """The name of a directory that nothing else uses."""
    return f"runs/{next(_numbers)}"


def keep(catalog, history, directory):
    """Commit a history to a directory of its own; what was kept, as it was before."""
    kept = [replace(one, id=checkpoint(one.sequence, directory=directory).id, directory=directory) for one in history]
    with catalog.writing() as session:
        for one in kept:
            maps = {file.path: FileMap((Chunk(1, "0" * 64),)) for file in one.files}
            session.checkpoints.add(Manifest(one, maps))
    return kept


def pages(catalog, query, size):
    """All pages of a listing, each asked for in a transaction of its own."""
    found, after = [], None
    while True:
        with catalog.reading() as session:
            page = session.checkpoints.page(query, after=after, limit=size)
        found.append([shown.sequence for shown in page.checkpoints])
        after = page.next_key
        if after is None:
            return found
        assert len(after) == query.key_length


def listed(catalog, directory, **asked):
    """The sequences of a listing, in its order."""
    return list(itertools.chain(*pages(catalog, ListFilter(directory, **asked), 1000)))
