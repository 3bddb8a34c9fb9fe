"""SQL lists checkpoints in the orders that the pure code defines, page by page as in one."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog import Catalog, ListFilter
from app.catalog.reports.firsts import firsts
from app.catalog.tables.order import ORDERS
from app.core import ranking
from app.core.models import Directory, Policy
from tests.data.histories import keep, listed, new_directory, pages
from tests.data.samples import AT, checkpoint, histories

MODES = st.sampled_from(["min", "max"])
BY = st.sampled_from([None, "loss", "accuracy", "missing"])
QUERIES = st.builds(
    lambda order, mode, by: {"order_by": order, "mode": mode, "by": by if order == "best" else None},
    st.sampled_from(ORDERS),
    MODES,
    BY,
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


def comparable(found):
    """The checkpoint without its metric, and that as text where it is no number to compare."""
    metric = found.facts.metric
    known = metric is None or math.isfinite(metric)
    return replace(found, facts=replace(found.facts, metric=None)), metric if known else repr(metric)


def in_order(history, order):
    """Restates the orders by one fact: rows without it come last, equals by position."""
    name, down = order.removeprefix("-"), order.startswith("-")

    def fact(found):
        if name in {"epoch", "step", "metric"}:
            return ranking.finite(getattr(found.facts, name))
        return () if name == "position" else getattr(found, name)

    known = [found for found in history if fact(found) is not None]
    unknown = [found for found in history if fact(found) is None]
    known.sort(key=lambda found: (fact(found), ranking.position(found)), reverse=down)
    unknown.sort(key=ranking.position, reverse=down)
    return [found.sequence for found in known + unknown]


@given(history=histories(), mode=MODES, by=BY)
def test_sql_ranks_as_the_pure_code_does(catalog, history, mode, by):
    directory = new_directory()
    kept = keep(catalog, history, directory)
    ranked = [found.sequence for found in ranking.ranked(kept, mode, by)]
    assert listed(catalog, directory, order_by="best", mode=mode, by=by) == ranked
    with catalog.reading() as session:
        best = session.checkpoints.best(directory, mode, by)
    assert (best and best.sequence) == (ranked[0] if ranked else None)


@given(history=histories(), others=histories(), mode=MODES)
def test_the_firsts_of_many_directories_are_those_of_each(catalog, history, others, mode):
    directories = [Directory(new_directory(), AT, policy=Policy(mode=mode)) for _ in range(3)]
    for directory, kept in zip(directories, (history, others, []), strict=True):
        keep(catalog, kept, directory.name)
    with catalog.writing() as session:
        for directory in directories:
            session.directories.put(directory)
        found = firsts(session.connection, directories)
        for directory in directories:
            latest = session.checkpoints.latest(directory.name)
            best = session.checkpoints.best(directory.name, mode)
            assert found[directory.name] == (latest and latest.id, best and best.id)


@given(history=histories())
def test_every_other_order_goes_by_its_fact(catalog, history):
    directory = new_directory()
    kept = keep(catalog, history, directory)
    for order in ORDERS:
        if order != "best":
            assert listed(catalog, directory, order_by=order) == in_order(kept, order), order


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("asked", [{"by": None}, {"by": "loss"}], ids=repr)
def test_equals_are_ranked_by_position(catalog, mode, asked):
    directory = new_directory()
    equal = {"metric": 0.5, "metadata": {"loss": 0.5}}
    places = ((1, 0), (4, 0), (3, 0), (5, 1), (6, 0))
    keep(catalog, [checkpoint(place, saved_after=after, **equal) for place, after in places], directory)
    assert listed(catalog, directory, order_by="best", mode=mode, **asked) == [1, 3, 4, 6, 5]


def test_flagged_ones_are_ranked_newest_first(catalog):
    directory = new_directory()
    places = ((1, 0), (4, 0), (3, 0), (5, 1), (6, 0))
    keep(catalog, [checkpoint(place, saved_after=after, is_best=True) for place, after in places], directory)
    assert listed(catalog, directory, order_by="best") == [5, 6, 4, 3, 1]


@pytest.mark.parametrize("order", [order for order in ORDERS if order not in {"best", "name", "-name"}])
def test_equals_are_listed_by_position(catalog, order):
    directory = new_directory()
    places = ((1, 0), (4, 0), (3, 0), (5, 1), (6, 0))
    keep(catalog, [checkpoint(place, saved_after=after, metric=1.0) for place, after in places], directory)
    expected = [1, 3, 4, 6, 5]
    assert listed(catalog, directory, order_by=order) == (expected[::-1] if order.startswith("-") else expected)


@given(history=histories(), query=QUERIES, size=st.integers(1, 4))
def test_pages_of_any_size_give_the_same_list_as_one(catalog, history, query, size):
    directory = new_directory()
    keep(catalog, history, directory)
    found = pages(catalog, ListFilter(directory, **query), size)
    assert list(itertools.chain(*found)) == listed(catalog, directory, **query)
    assert all(len(page) == size for page in found[:-1])
    assert found == [[]] or found[-1]


@given(history=histories())
def test_the_latest_and_the_live_go_by_position(catalog, history):
    directory = new_directory()
    kept = keep(catalog, history, directory)
    with catalog.reading() as session:
        latest, live = session.checkpoints.latest(directory), session.checkpoints.live(directory)
    expected = ranking.latest(kept)
    assert (latest and latest.id) == (expected and expected.id)
    assert [found.id for found in live] == [found.id for found in sorted(kept, key=ranking.position)]


@given(history=histories())
def test_what_was_kept_comes_back_unchanged(catalog, history):
    kept = keep(catalog, history, new_directory())
    with catalog.reading() as session:
        found = [session.checkpoints.get(one.id) for one in kept]
    assert [comparable(one) for one in found] == [comparable(one) for one in kept]


def test_pages_are_stable_while_checkpoints_come_and_go(catalog):
    directory = new_directory()
    kept = keep(catalog, [checkpoint(place, metric=place / 10) for place in (1, 2, 4, 5)], directory)
    query = ListFilter(directory, order_by="best")
    with catalog.reading() as session:
        first = session.checkpoints.page(query, after=None, limit=2)
    with catalog.writing() as session:
        session.checkpoints.mark_removed(kept[1], "deleted", AT)
    keep(catalog, [checkpoint(3, metric=0.05), checkpoint(6, metric=0.45)], directory)
    with catalog.reading() as session:
        second = session.checkpoints.page(query, after=first.next_key, limit=9)
    assert [found.sequence for found in second.checkpoints] == [4, 6, 5]
