"""Listings after changes and removals, and with filters."""

import math
from datetime import timedelta

import pytest

from app.catalog import Catalog
from app.core.errors import CatalogUnusable
from tests.data.histories import keep, listed, new_directory
from tests.data.samples import AT, checkpoint


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


def test_a_changed_metric_changes_the_ranking(catalog):
    directory = new_directory()
    kept = keep(catalog, [checkpoint(1, metric=0.1, metadata={"accuracy": 0.1}), checkpoint(2, metric=0.2)], directory)
    changed = checkpoint(1, directory=directory, metric=math.nan, metadata={"accuracy": "NaN", "loss": 7})
    assert changed.id == kept[0].id
    with catalog.writing() as session:
        session.checkpoints.change(changed)
    assert listed(catalog, directory, order_by="best") == [2]
    assert listed(catalog, directory, order_by="best", by="accuracy") == []
    assert listed(catalog, directory, order_by="best", by="loss") == [1]


FILTERED = [
    checkpoint(1, epoch=1, metric=0.1, tags=("best",), kind="best"),
    checkpoint(2, epoch=2, metric=math.nan, tags=("Best", "a_c"), is_best=True),
    checkpoint(3, epoch=3, metric=0.3, tags=("best so far",), pinned=True),
    checkpoint(4, tags=("abc", "größe")),
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({}, [1, 2, 3, 4], id="nothing"),
        pytest.param({"name": "c3.pt"}, [3], id="a name"),
        pytest.param({"kind": "best"}, [1], id="a kind"),
        pytest.param({"pinned": True}, [3], id="pinned"),
        pytest.param({"pinned": False}, [1, 2, 4], id="not pinned"),
        pytest.param({"is_best": True}, [2], id="flagged"),
        pytest.param({"epoch_min": 2}, [2, 3], id="from an epoch on"),
        pytest.param({"epoch_max": 2}, [1, 2], id="up to an epoch"),
        pytest.param({"epoch_min": 0, "epoch_max": 0}, [], id="no such epoch"),
        pytest.param({"metric_min": 0.3}, [3], id="from a metric on"),
        pytest.param({"metric_max": 0.1}, [1], id="up to a metric"),
        pytest.param({"tag": "best"}, [1], id="a tag, as it is written and whole"),
        pytest.param({"tag": "a_c"}, [2], id="a tag with what is a wildcard in SQL"),
        pytest.param({"tag": "größe"}, [4], id="a tag beyond ASCII"),
        pytest.param({"tag": "so"}, [], id="a part of a tag"),
        pytest.param({"order_by": "best", "epoch_min": 2}, [3], id="the ranking of some"),
    ],
)
def test_filters_ask_for_what_they_say(catalog, asked, found):
    directory = new_directory()
    keep(catalog, FILTERED, directory)
    keep(catalog, FILTERED, new_directory())
    assert listed(catalog, directory, **asked) == found


def test_removed_checkpoints_are_listed_only_where_they_are_asked_for(catalog):
    directory = new_directory()
    kept = keep(catalog, [checkpoint(1, metric=0.1), checkpoint(2, metric=0.2)], directory)
    with catalog.writing() as session:
        removed = session.checkpoints.mark_removed(kept[0], "pruned", AT + timedelta(seconds=1))
    assert listed(catalog, directory) == listed(catalog, directory, order_by="best") == [2]
    assert listed(catalog, directory, include_removed=True) == [1, 2]
    with catalog.reading() as session:
        assert session.checkpoints.get(removed.id) == removed
        assert session.checkpoints.best(directory, "min") == kept[1]


@pytest.mark.parametrize("url", ["postgresql://localhost/holdfast", "not a url", ""], ids=repr)
def test_what_is_no_sqlite_database_is_refused(url):
    with pytest.raises(CatalogUnusable):
        Catalog(url)
