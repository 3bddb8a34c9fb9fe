"""SQL finds the places and the reasons that the pure code finds, without reading all checkpoints."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog import Catalog
from app.catalog.reports import ranks
from app.core import ranking, retention
from app.core.models import Checkpoint, Facts, Policy
from app.core.retention import Rank, Reason
from tests.data.histories import keep, new_directory
from tests.data.samples import histories

LIMITS = st.none() | st.integers(0, 5)
POLICIES = st.builds(
    Policy,
    mode=st.sampled_from([None, "min", "max"]),
    max_checkpoints=LIMITS,
    max_best_checkpoints=LIMITS,
    keep_every_epochs=st.none() | st.integers(1, 4),
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


@given(history=histories(), policy=POLICIES)
def test_the_reasons_are_those_of_the_judge(catalog, history, policy):
    directory = new_directory()
    kept = keep(catalog, history, directory)
    with catalog.reading() as session:
        standing = ranks.of_directory(session.connection, directory, policy)
    for verdict in retention.judge(kept, policy):
        one = verdict.checkpoint
        assert retention.reasons(one.facts, standing.of(one.id), policy) == verdict.reasons


@given(history=histories().filter(bool), policy=POLICIES, is_best=st.booleans())
def test_what_the_next_save_removes_is_what_the_judge_says_after_it(catalog, history, policy, is_best):
    directory = new_directory()
    kept = keep(catalog, history, directory)
    with catalog.reading() as session:
        standing = ranks.of_directory(session.connection, directory, policy)
        candidates = ranks.candidates(session.connection, directory, policy, len(kept))
    said = {
        one.id
        for one in candidates
        if retention.leaves_at_next_save(one.facts, standing.of(one.id), policy, of_a_better_one=is_best)
    }
    if not policy.keeps_everything:
        verdicts = retention.judge([*kept, the_next(kept, policy, is_best=is_best)], policy)
        assert said == {verdict.checkpoint.id for verdict in verdicts if not verdict.stays}
    else:
        assert said == set()


def the_next(kept: list[Checkpoint], policy: Policy, *, is_best: bool) -> Checkpoint:
    """One more regular checkpoint: with the best metric of all, or with none."""
    after = max((ranking.position(one) for one in kept), default=(0, 0))
    metric = (-1e300 if policy.ranks_by == "min" else 1e300) if is_best else None
    return replace(kept[0], id="next", facts=Facts(metric=metric), saved_after=after[0] + 1, sequence=10**6)


@pytest.mark.parametrize(
    ("place", "better", "leaves"),
    [
        pytest.param((True, 1, None), False, False, id="the newest stays among the last"),
        pytest.param((False, 3, None), False, True, id="the last of the last goes"),
        pytest.param((False, 3, 2), False, False, id="unless it is among the best"),
        pytest.param((False, None, 2), False, False, id="the last of the best stays"),
        pytest.param((False, None, 2), True, True, id="unless a better one comes"),
        pytest.param((True, None, None), False, True, id="what only stays as the newest"),
    ],
)
def test_who_leaves(place, better, leaves):
    policy = Policy("min", max_checkpoints=3, max_best_checkpoints=2)
    assert retention.leaves_at_next_save(Facts(), Rank(*place), policy, of_a_better_one=better) is leaves
    pinned = Facts(pinned=True)
    assert not retention.leaves_at_next_save(pinned, Rank(*place), policy, of_a_better_one=better)
    assert retention.reasons(pinned, Rank(False, None, None), policy) == (Reason("pinned"),)
