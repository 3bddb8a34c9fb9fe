"""Levels: components in order, found by few reads however many names lie below each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.catalog import Catalog
from app.catalog.reports.levels import components
from app.core.errors import RecordUnreadable
from tests.data.histories import keep
from tests.data.samples import checkpoint

PARTS = st.text(alphabet="ab-. 0é", min_size=1, max_size=4).filter(lambda part: part == part.strip())
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=30).map(set)


class Sorted:
    """Names in order, read as a database would, and how many were read."""

    def __init__(self, names):
        self._names = sorted(names)
        self.read = self.times = 0

    def __call__(self, least, before, count):
        found = [name for name in self._names if least <= name < before][:count]
        self.read += len(found)
        self.times += 1
        return found


def expected(names, prefix, after=""):
    below = {name.removeprefix(prefix).partition("/")[0] for name in names if name.startswith(prefix)}
    return sorted(component for component in below if component > after)


@given(NAMES, st.sampled_from(["", "a/", "a-/", "a/b/"]), PARTS | st.just(""), st.integers(1, 40))
def test_components_come_in_their_own_order_each_once(names, prefix, after, limit):
    assert components(Sorted(names), prefix, after=after, limit=limit) == expected(names, prefix, after)[:limit]


@given(NAMES, st.integers(1, 3))
def test_pages_follow_one_another_without_a_gap(names, limit):
    found, after = [], ""
    while page := components(Sorted(names), "", after=after, limit=limit):
        found += page
        after = page[-1]
    assert found == expected(names, "")


@pytest.mark.parametrize(
    ("names", "limit", "most"),
    [
        pytest.param([f"p/{i:05d}" for i in range(10_000)], 100, (100, 5), id="one level"),
        pytest.param([f"p/{i:03d}/{j:03d}" for i in range(100) for j in range(100)], 50, (200, 60), id="many in each"),
        pytest.param([f"p/a/{i:05d}" for i in range(10_000)] + ["p/b"], 10, (20, 3), id="many in the first"),
        pytest.param([f"p/lr-0.1-{i:05d}/x" for i in range(10_000)], 100, (110, 15), id="dashes and dots"),
        pytest.param([f"p/model-{i:05d}-of-10000.bin" for i in range(10_000)], 100, (110, 15), id="shards"),
    ],
)
def test_no_more_is_read_than_a_page_needs(names, limit, most):
    source = Sorted(names)
    assert components(source, "p/", after="", limit=limit) == expected(names, "p/")[:limit]
    assert source.read <= most[0]
    assert source.times <= most[1]


@pytest.fixture
def catalog(tmp_path):
    opened = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield opened
    opened.close()


@pytest.mark.parametrize("change", ["size_bytes = 'x'", "created_at = 'x'", "digest = x'00'"])
def test_a_corrupt_checkpoint_is_left_out_and_the_page_is_full(catalog, change):
    keep(catalog, [checkpoint(number) for number in range(1, 9)], "runs/a")
    with catalog.writing() as session:
        session.connection.execute(text(f"UPDATE checkpoints SET {change} WHERE name IN ('c2.pt', 'c3.pt', 'c5.pt')"))
        found = session.levels.checkpoints("runs/a", after="", limit=4)
        assert [each.name for each in found] == ["c1.pt", "c4.pt", "c6.pt", "c7.pt"]
        assert session.levels.checkpoint("runs/a", "c2.pt") is None


def test_corrupt_rows_of_files_and_folders_are_told(catalog):
    (kept,) = keep(catalog, [checkpoint(1)], "runs/a")
    with catalog.writing() as session:
        assert session.levels.files(kept.id, ["c1.pt"])["c1.pt"].size_bytes == 1
        session.connection.execute(text("UPDATE files SET size_bytes = 'x'"))
        session.connection.execute(text("UPDATE checkpoints SET folders = '{'"))
        with pytest.raises(RecordUnreadable):
            session.levels.files(kept.id, ["c1.pt"])
        with pytest.raises(RecordUnreadable):
            session.levels.declared_folders(kept.id)
