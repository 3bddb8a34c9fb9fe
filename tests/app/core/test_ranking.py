"""The best and the latest checkpoint, independent of the order of saves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import ranking
from tests.data.samples import METRICS, checkpoint, histories

MODES = st.sampled_from(["min", "max"])
BY = st.sampled_from([None, "loss", "accuracy"])


def sequences(checkpoints):
    return [found.sequence for found in checkpoints]


def test_a_late_delivery_does_not_become_the_latest():
    direct, late = checkpoint(5, saved_after=4), checkpoint(6, saved_after=2)
    assert ranking.latest([late, direct]) == direct


def test_of_two_that_were_saved_after_the_same_commit_the_one_committed_last_is_the_latest():
    assert ranking.latest([checkpoint(7, saved_after=2), checkpoint(6, saved_after=2)]).sequence == 7


def test_nothing_is_the_latest_or_the_best_of_nothing():
    assert ranking.latest([]) is None
    assert ranking.best([], "min") is None
    assert ranking.best([checkpoint(1), checkpoint(2, metric=math.nan, is_best=True)], "min") is None


@pytest.mark.parametrize(
    ("checkpoints", "mode", "order"),
    [
        pytest.param([{"metric": 0.3}, {"metric": 0.1}, {"metric": 0.2}], "min", [2, 3, 1], id="smaller is better"),
        pytest.param([{"metric": 0.3}, {"metric": 0.1}, {"metric": 0.2}], "max", [1, 3, 2], id="larger is better"),
        pytest.param([{"metric": 0.1}, {"metric": 0.1}], "min", [1, 2], id="the older of equals, min"),
        pytest.param([{"metric": 0.1}, {"metric": 0.1}], "max", [1, 2], id="the older of equals, max"),
        pytest.param([{"metric": 0.0}, {"metric": -0.0}], "min", [1, 2], id="zero is zero"),
        pytest.param([{"metric": math.nan}, {"metric": 9.0}], "min", [2], id="NaN never blocks a later best"),
        pytest.param([{"metric": -math.inf}, {"metric": 9.0}], "min", [2], id="nor does an infinity, min"),
        pytest.param([{"metric": math.inf}, {"metric": -9.0}], "max", [2], id="nor does an infinity, max"),
        pytest.param([{}, {"is_best": True}, {"is_best": True}], "min", [3, 2], id="flagged ones, the newest first"),
        pytest.param([{"is_best": True}, {"metric": 5.0}], "min", [2, 1], id="flagged ones come after measured ones"),
        pytest.param([{"metric": 2.0, "is_best": True}, {"metric": 1.0}], "min", [2, 1], id="a metric beats its flag"),
        pytest.param([{"metric": math.nan, "is_best": True}], "min", [], id="a flag does not save NaN"),
    ],
)
def test_the_best_come_first(checkpoints, mode, order):
    history = [checkpoint(place, **facts) for place, facts in enumerate(checkpoints, start=1)]
    assert sequences(ranking.ranked(history, mode)) == order


def test_of_equal_metrics_the_one_delivered_late_counts_from_when_it_was_saved():
    direct, late = checkpoint(5, saved_after=4, metric=0.1), checkpoint(6, saved_after=2, metric=0.1)
    assert ranking.ranked([direct, late], "min") == [late, direct]


@pytest.mark.parametrize("value", [True, "0.1", None, [0.1]], ids=repr)
def test_only_numbers_in_metadata_can_be_ranked_by(value):
    history = [
        checkpoint(1, metric=0.0, metadata={"accuracy": value}),
        checkpoint(2, metadata={"accuracy": 1}),
        checkpoint(3, is_best=True),
    ]
    assert sequences(ranking.ranked(history, "max", by="accuracy")) == [2]


def test_a_key_without_a_name_is_a_key_like_any_other():
    history = [checkpoint(1, metric=0.1), checkpoint(2, metric=0.2, metadata={"": 1})]
    assert sequences(ranking.ranked(history, "min", by="")) == [2]


@given(histories(), MODES, BY, st.randoms())
def test_the_ranking_does_not_depend_on_the_order_of_asking(history, mode, by, random):
    shuffled = random.sample(history, len(history))
    assert ranking.ranked(history, mode, by) == ranking.ranked(shuffled, mode, by)
    assert ranking.latest(history) == ranking.latest(shuffled)


@given(histories(), MODES, BY)
def test_each_in_the_ranking_is_no_worse_than_the_next(history, mode, by):
    ranked = ranking.ranked(history, mode, by)
    assert ranking.best(history, mode, by) == (ranked[0] if ranked else None)
    values = [found.facts.metadata.get(by) if by else found.facts.metric for found in ranked]
    measured = [value for value in values if value is not None]
    assert values[: len(measured)] == measured
    for earlier, later, first, second in zip(measured, measured[1:], ranked, ranked[1:], strict=False):
        assert float(earlier) <= float(later) if mode == "min" else float(earlier) >= float(later)
        assert float(earlier) != float(later) or ranking.position(first) < ranking.position(second)


@given(histories(), MODES)
def test_who_is_left_out_has_neither_a_finite_metric_nor_a_flag_that_counts(history, mode):
    ranked = ranking.ranked(history, mode)
    for found in history:
        metric = found.facts.metric
        can_be_best = found.facts.is_best if metric is None else math.isfinite(metric)
        assert (found in ranked) == can_be_best


@pytest.mark.parametrize(
    ("metric", "best", "mode", "improves"),
    [
        pytest.param(0.1, 0.2, "min", True, id="less, min"),
        pytest.param(0.2, 0.1, "min", False, id="more, min"),
        pytest.param(0.2, 0.1, "max", True, id="more, max"),
        pytest.param(0.1, 0.2, "max", False, id="less, max"),
        pytest.param(0.1, 0.1, "min", False, id="equal, min"),
        pytest.param(0.1, 0.1, "max", False, id="equal, max"),
        pytest.param(0.1, None, "min", True, id="the first"),
        pytest.param(0.1, math.nan, "min", True, id="better than NaN"),
        pytest.param(0.1, -math.inf, "min", True, id="better than an infinity"),
        pytest.param(math.nan, 0.1, "min", False, id="NaN"),
        pytest.param(math.nan, None, "min", False, id="NaN as the first"),
        pytest.param(-math.inf, 0.1, "min", False, id="an infinity"),
        pytest.param(math.inf, 0.1, "max", False, id="an infinity, max"),
        pytest.param(None, None, "min", False, id="no metric"),
    ],
)
def test_only_what_is_strictly_better_improves(metric, best, mode, improves):
    assert ranking.improves(metric, best, mode) is improves


@given(histories(), METRICS, MODES)
def test_a_metric_improves_exactly_when_a_checkpoint_with_it_would_become_the_best(history, metric, mode):
    best = ranking.best(history, mode)
    newest = checkpoint(99, metric=metric)
    improves = ranking.improves(metric, best.facts.metric if best else None, mode)
    assert improves == (ranking.best([*history, newest], mode) == newest)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        pytest.param(3, 3.0, id="an integer"),
        pytest.param(-0.25, -0.25, id="a float"),
        pytest.param(True, None, id="a boolean"),
        pytest.param("3", None, id="text"),
        pytest.param(None, None, id="nothing"),
        pytest.param(math.nan, None, id="NaN"),
        pytest.param(math.inf, None, id="infinity"),
        pytest.param(-math.inf, None, id="minus infinity"),
        pytest.param(10**400, None, id="an integer beyond all floats"),
    ],
)
def test_only_finite_numbers_count(value, number):
    assert ranking.finite(value) == number
