"""Verdicts in pages equal those of the pure judge, and their tallies count the whole directory."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog import Catalog
from app.core import retention
from app.core.models import Directory
from app.service.lifecycle import retention_verdicts
from app.service.lifecycle.retention_verdicts import Tally
from tests.app.catalog.test_ranks import POLICIES
from tests.data.histories import keep, new_directory
from tests.data.samples import AT, histories


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


def pages(catalog, directory, **asked):
    found, after = [], None
    while True:
        with catalog.reading() as session:
            found.append(retention_verdicts.page_of_verdicts(session, directory, after=after, **asked))
        after = found[-1].following
        if after is None:
            return found


@given(
    history=histories(max_size=14), policy=POLICIES, limit=st.integers(1, 5), shown=st.sampled_from(["all", "going"])
)
def test_all_pages_together_are_the_judges_verdicts(catalog, history, policy, limit, shown):
    directory = Directory(new_directory(), AT, policy=policy)
    expected = retention.judge(keep(catalog, history, directory.name), policy)
    found = pages(catalog, directory, limit=limit, shown=shown)
    listed = [verdict for page in found for verdict in page.verdicts]
    wanted = [verdict for verdict in expected if shown == "all" or not verdict.stays]
    assert [same(verdict) for verdict in listed] == [same(verdict) for verdict in wanted]
    assert all(len(page.verdicts) <= limit for page in found)
    going = [verdict.checkpoint for verdict in expected if not verdict.stays]
    staying = [verdict.checkpoint for verdict in expected if verdict.stays]
    sizes = [sum(one.size_bytes for one in some) for some in (staying, going)]
    assert [page.tally for page in found] == [Tally(len(staying), len(going), *sizes)] + [Tally()] * (len(found) - 1)


@given(history=histories(max_size=14), policy=POLICIES)
def test_the_removed_checkpoints_are_those_that_the_judge_lets_go(catalog, history, policy):
    directory = Directory(new_directory(), AT, policy=policy)
    expected = retention.judge(keep(catalog, history, directory.name), policy)
    with catalog.reading() as session:
        going = retention_verdicts.ids_to_remove(session, directory)
    assert going == [verdict.checkpoint.id for verdict in expected if not verdict.stays]


def same(verdict):
    """Make a verdict comparable, even if its metric is NaN."""
    facts = verdict.checkpoint.facts
    metric = "NaN" if facts.metric is not None and math.isnan(facts.metric) else facts.metric
    return replace(verdict, checkpoint=replace(verdict.checkpoint, facts=replace(facts, metric=metric)))
