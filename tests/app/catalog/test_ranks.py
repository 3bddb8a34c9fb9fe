"""SQL finds the places and the reasons that the pure code finds, without reading all checkpoints."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.catalog import Catalog
from app.catalog.reports import ranks
from app.core import ranking, retention
from app.core.models import Checkpoint, Facts, Policy
from tests.data.histories import keep, new_directory
from tests.data.samples import histories

LIMITS = st.none() | st.integers(0, 5)
POLICIES = st.builds(
    Policy,
    mode=st.sampled_from([None, "min", "max"]),
    max_checkpoints=LIMITS,
    max_best_checkpoints=LIMITS,
    keep_every_epochs=st.none() | st.integers(1, 4),
    keep_every_steps=st.none() | st.integers(1, 4),
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


@given(history=histories(), policy=POLICIES, most=st.sampled_from([0, 1, 2, ranks.MOST_NUMBERED]))
def test_the_reasons_are_those_of_the_judge(catalog, history, policy, most):
    """Only ranks beyond those that are counted are left out, and all of them if everything is kept."""
    directory = new_directory()
    kept = keep(catalog, history, directory)
    most = 0 if policy.keeps_everything else most
    with catalog.reading() as session:
        found = ranks.of_directory(session.connection, directory, policy, len(kept), most=most)
        said = {one.id: found.reasons(one) for one in kept}
    for verdict in retention.judge(kept, policy):
        assert said[verdict.checkpoint.id] == tuple(
            replace(reason, rank=None if (reason.rank or 0) > most else reason.rank) for reason in verdict.reasons
        )


@given(
    history=histories().filter(bool),
    policy=POLICIES,
    is_best=st.booleans(),
    most=st.sampled_from([0, 1, 2, ranks.MOST_NUMBERED]),
)
def test_what_the_next_save_removes_is_what_the_judge_says_after_it(catalog, history, policy, is_best, most):
    directory = new_directory()
    kept = keep(catalog, history, directory)
    with catalog.reading() as session:
        found = ranks.of_directory(session.connection, directory, policy, len(kept), most=most)
        candidates = ranks.candidates(session.connection, directory, policy, len(kept))
        said = {one.id for one in candidates if found.leaves_at_next_save(one, of_a_better_one=is_best)}
    if not policy.keeps_everything:
        verdicts = retention.judge([*kept, the_next(kept, policy, is_best=is_best)], policy)
        assert said == {verdict.checkpoint.id for verdict in verdicts if not verdict.stays}
    else:
        assert said == set()


def the_next(kept: list[Checkpoint], policy: Policy, *, is_best: bool) -> Checkpoint:
    """One more regular checkpoint: with the best metric of all, or with none."""
    after = max((ranking.position(one) for one in kept), default=(0, 0))
    metric = (-1e300 if policy.ranks_by == "min" else 1e300) if is_best else None
    best = ranking.best(kept, policy.ranks_by)
    assume(not is_best or ranking.improves(metric, best and best.facts.metric, policy.ranks_by))
    return replace(kept[0], id="next", facts=Facts(metric=metric), saved_after=after[0] + 1, sequence=10**6)
