"""Retention: the checkpoints that a prune keeps, and its reasons."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import ranking, retention
from app.core.models import Policy
from app.core.retention import Reason
from tests.data.samples import checkpoint, histories

LIMIT = st.none() | st.integers(0, 5)
POLICIES = st.builds(
    Policy,
    mode=st.sampled_from([None, "min", "max"]),
    max_checkpoints=LIMIT,
    max_best_checkpoints=LIMIT,
    keep_every_epochs=st.none() | st.integers(1, 5),
    keep_every_steps=st.none() | st.integers(1, 5),
)


def history(*facts):
    return [checkpoint(place, **given) for place, given in enumerate(facts, start=1)]


def staying(verdicts):
    return [verdict.checkpoint for verdict in verdicts if verdict.stays]


def reasons(checkpoints, policy):
    """Return the reasons as text, by sequence."""
    found = retention.judge(checkpoints, policy)
    return {verdict.checkpoint.sequence: [str(reason) for reason in verdict.reasons] for verdict in found}


LOSSES = ({"metric": 0.5}, {"metric": 0.2}, {"metric": 0.3}, {"metric": 0.4})
STEPS = ({"step": 0}, {"step": 500}, {"step": 1000, "kind": "best"}, {"step": 1000}, {"step": 1500}, {})
MANUAL = {"retention": "manual"}
EPOCHS = ({"epoch": 0}, {"epoch": 1}, {"epoch": 2, "kind": "best"}, {"epoch": 4}, {"epoch": 5}, {})


@pytest.mark.parametrize(
    ("facts", "policy", "stays"),
    [
        pytest.param([{}] * 4, Policy(max_checkpoints=2), [3, 4], id="the last two"),
        pytest.param([{}] * 4, Policy(max_checkpoints=0, max_best_checkpoints=0), [4], id="the newest at least"),
        pytest.param([{}] * 2, Policy(max_checkpoints=5), [1, 2], id="fewer than the limit"),
        pytest.param([{}] * 4, Policy(), [1, 2, 3, 4], id="everything without a policy"),
        pytest.param([{}] * 4, Policy(keep_every_epochs=2), [1, 2, 3, 4], id="everything without a limit"),
        pytest.param(LOSSES, Policy("min", 1, 1), [2, 4], id="the last and the best"),
        pytest.param(LOSSES, Policy("max", 1, 1), [1, 4], id="the last and the best, max"),
        pytest.param(LOSSES, Policy(None, 1, 2), [2, 3, 4], id="smaller is better while there is no mode"),
        pytest.param(LOSSES, Policy("min", 2, 2), [2, 3, 4], id="a union, not a sum"),
        pytest.param([{}, *LOSSES], Policy("min", 0, None), [2, 3, 4, 5], id="all that can be ranked"),
        pytest.param([{}, {}, {"kind": "best"}], Policy("min", None, 0), [1, 2, 3], id="all regular ones"),
        pytest.param([{}, {"kind": "best"}, {}], Policy("min", None, 0), [1, 3], id="a best one is not a regular one"),
        pytest.param([{}, {"kind": "best"}, {"kind": "best"}], Policy("min", 1, 0), [1, 3], id="nor takes its place"),
        pytest.param([{"pinned": True}, {}, {}], Policy("min", 1, 1), [1, 3], id="pinned ones"),
        pytest.param(EPOCHS, Policy("min", 1, 0, 2), [1, 4, 6], id="every second epoch, from the regular ones"),
        pytest.param(
            STEPS, Policy("min", 1, 0, None, 1000), [1, 4, 6], id="every thousandth step, of the regular ones"
        ),
        pytest.param([{"is_best": True}, {}, {}], Policy("min", 1, 1), [1, 3], id="a flagged one"),
        pytest.param([MANUAL, {}, {}], Policy("min", 1, 1), [1, 3], id="a manual one"),
        pytest.param([{}, {}, MANUAL, MANUAL], Policy("min", 1, 1), [2, 3, 4], id="manual ones take no place"),
        pytest.param(
            [{"metric": 0.3}, {"metric": 0.4}, {"metric": 0.1, **MANUAL}, {}],
            Policy("min", 1, 1),
            [1, 3, 4],
            id="not among the best either",
        ),
        pytest.param([{"metric": math.nan}, {}, {}], Policy("min", 1, 1), [3], id="NaN is no reason"),
    ],
)
def test_what_stays_is_a_union(facts, policy, stays):
    verdicts = retention.judge(history(*facts), policy)
    assert sorted(found.sequence for found in staying(verdicts)) == stays


def test_each_that_stays_is_given_every_reason():
    checkpoints = history(
        {"metric": 0.2, "epoch": 4, "pinned": True}, {"metric": 0.1}, {}, {"metric": 0.3, "epoch": 3}, {"epoch": 2}
    )
    assert reasons(checkpoints, Policy("min", 2, 2, 4)) == {
        5: ["newest", "last 1 of 2"],
        4: ["last 2 of 2"],
        3: [],
        2: ["best 1 of 2"],
        1: ["best 2 of 2", "every 4 epochs", "pinned"],
    }


def test_a_manual_one_is_neither_the_newest_nor_ranked():
    facts = {"metric": 0.1, "epoch": 4, "step": 40, "pinned": True, **MANUAL}
    assert reasons(history({"metric": 0.2}, facts), Policy("min", 1, 1, 4, 40)) == {
        2: ["manual", "pinned"],
        1: ["newest", "last 1 of 1", "best 1 of 1"],
    }


def test_without_limits_the_places_are_still_told():
    assert reasons(history({"metric": 0.2}, {"kind": "best"}), Policy()) == {
        2: ["newest", "unlimited"],
        1: ["unlimited", "last 1", "best 1"],
    }


@given(histories(), POLICIES)
def test_every_checkpoint_is_judged_once_newest_first(checkpoints, policy):
    judged = [verdict.checkpoint for verdict in retention.judge(checkpoints, policy)]
    assert judged == sorted(checkpoints, key=lambda found: (found.saved_after, found.sequence), reverse=True)


@given(histories(min_size=1), POLICIES)
def test_the_newest_that_counts_always_stays(checkpoints, policy):
    verdicts = retention.judge(checkpoints, policy)
    assert verdicts[0].checkpoint == ranking.latest(checkpoints)
    newest = next((each for each in verdicts if not each.checkpoint.facts.is_manual), None)
    assert [each for each in verdicts if Reason("newest") in each.reasons] == ([] if newest is None else [newest])


@given(histories(), POLICIES.filter(lambda policy: policy.max_best_checkpoints != 0))
def test_the_best_always_stays_unless_no_best_are_wanted(checkpoints, policy):
    checkpoints = [found for found in checkpoints if not found.facts.is_manual]
    best = ranking.best(checkpoints, policy.mode or "min")
    assert best is None or best in staying(retention.judge(checkpoints, policy))


@given(histories(), POLICIES)
def test_judging_what_stayed_again_changes_nothing(checkpoints, policy):
    verdicts = retention.judge(checkpoints, policy)
    stayed = tuple(verdict for verdict in verdicts if verdict.stays)
    assert retention.judge(staying(verdicts), policy) == stayed


@given(histories(), POLICIES, st.integers(1, 3))
def test_a_higher_limit_never_removes_more(checkpoints, policy, more):
    higher = Policy(
        policy.mode,
        policy.max_checkpoints and policy.max_checkpoints + more,
        policy.max_best_checkpoints and policy.max_best_checkpoints + more,
        policy.keep_every_epochs,
        policy.keep_every_steps,
    )
    before = {found.id for found in staying(retention.judge(checkpoints, policy))}
    assert before <= {found.id for found in staying(retention.judge(checkpoints, higher))}


def better(found, other, mode):
    """Restates the ranking for two checkpoints that can both be ranked."""
    mine, others = found.facts.metric, other.facts.metric
    place, other_place = (found.saved_after, found.sequence), (other.saved_after, other.sequence)
    if (mine is None) != (others is None):
        return others is None
    if mine is None:
        return place > other_place
    if mine != others:
        return mine < others if mode == "min" else mine > others
    return place < other_place


def stays(found, checkpoints, policy):
    """Restates the rule for one checkpoint: the number before it, against each limit."""

    def newer(other):
        return (other.saved_after, other.sequence) > (found.saved_after, found.sequence)

    def can_be_best(other):
        metric = other.facts.metric
        return other.facts.is_best if metric is None else math.isfinite(metric)

    if found.facts.is_manual:
        return True
    counted = [other for other in checkpoints if not other.facts.is_manual]
    last, best = policy.max_checkpoints, policy.max_best_checkpoints
    intervals = ((policy.keep_every_epochs, found.facts.epoch), (policy.keep_every_steps, found.facts.step))
    regular = found.facts.kind == "regular"
    newer_regular = sum(newer(other) and other.facts.kind == "regular" for other in counted)
    better_ones = sum(can_be_best(other) and better(other, found, policy.mode or "min") for other in counted)
    return (
        (last is None and best is None)
        or not any(newer(other) for other in counted)
        or (regular and (last is None or newer_regular < last))
        or (can_be_best(found) and (best is None or better_ones < best))
        or any(regular and every is not None and at is not None and at % every == 0 for every, at in intervals)
        or found.facts.pinned
    )


@given(histories(), POLICIES)
def test_whatever_the_history_the_rule_holds_for_each(checkpoints, policy):
    for verdict in retention.judge(checkpoints, policy):
        assert verdict.stays == stays(verdict.checkpoint, checkpoints, policy)
