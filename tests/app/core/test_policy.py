"""Policies: the limits that a save asks for, and those of the operator, which take precedence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.schemas.requests import PolicyIn
from app.core.models import LIMITS, Policy, PolicyRequest

MODES = st.sampled_from([None, "min", "max"])
NAMED = st.dictionaries(st.sampled_from(LIMITS), st.none() | st.integers(1, 9))
REQUESTS = st.builds(PolicyRequest, mode=MODES, limits=NAMED)
POLICIES = st.builds(
    lambda mode, limits, operator: Policy(mode, **limits, operator=frozenset(operator)),
    MODES,
    NAMED,
    st.sets(st.sampled_from(LIMITS)),
)


def limits(policy):
    return {name: getattr(policy, name) for name in LIMITS}


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        pytest.param(Policy(), PolicyRequest(), Policy(), id="nothing asked"),
        pytest.param(
            Policy(),
            PolicyRequest("max", {"max_checkpoints": 3}),
            Policy("max", max_checkpoints=3),
            id="the first save decides",
        ),
        pytest.param(
            Policy("min", max_checkpoints=3, max_best_checkpoints=2),
            PolicyRequest("min", {"max_checkpoints": 1}),
            Policy("min", max_checkpoints=1, max_best_checkpoints=2),
            id="a later save changes what it names",
        ),
        pytest.param(
            Policy("min", max_checkpoints=3),
            PolicyRequest("min", {"max_checkpoints": None}),
            Policy("min"),
            id="a later save takes a limit off",
        ),
        pytest.param(
            Policy("min", max_checkpoints=3, max_best_checkpoints=2, operator=frozenset({"max_checkpoints"})),
            PolicyRequest("min", {"max_checkpoints": 1, "max_best_checkpoints": 1}),
            Policy("min", max_checkpoints=3, max_best_checkpoints=1, operator=frozenset({"max_checkpoints"})),
            id="an operator's limit is stronger",
        ),
        pytest.param(
            Policy("min", operator=frozenset({"max_checkpoints"})),
            PolicyRequest("min", {"max_checkpoints": 1}),
            Policy("min", operator=frozenset({"max_checkpoints"})),
            id="an operator's no limit is stronger too",
        ),
        pytest.param(Policy("min"), PolicyRequest("max"), Policy("min"), id="the mode is never changed by a save"),
    ],
)
def test_a_save_asks(before, asked, after):
    assert before.after_save(asked) == after


@pytest.mark.parametrize(
    ("before", "ordered", "after"),
    [
        pytest.param(
            Policy("min", max_checkpoints=3, keep_every_epochs=5),
            PolicyRequest(None, {"max_checkpoints": 9}),
            Policy("min", max_checkpoints=9, keep_every_epochs=5, operator=frozenset({"max_checkpoints"})),
            id="what is named becomes the operator's",
        ),
        pytest.param(
            Policy("min", max_checkpoints=9, operator=frozenset({"max_checkpoints"})),
            PolicyRequest(None, {"keep_every_epochs": 2}),
            Policy("min", max_checkpoints=9, keep_every_epochs=2, operator=frozenset({"keep_every_epochs"})),
            id="what is left out goes back to saves",
        ),
        pytest.param(
            Policy("min", max_checkpoints=3),
            PolicyRequest("max", {"max_checkpoints": None}),
            Policy("max", operator=frozenset({"max_checkpoints"})),
            id="the mode and no limit at all",
        ),
    ],
)
def test_an_operator_orders(before, ordered, after):
    assert before.set_by_operator(ordered) == after


@given(POLICIES, REQUESTS)
def test_a_save_changes_only_what_it_names_and_no_operator_has_set(policy, asked):
    after = policy.after_save(asked)
    for name, value in limits(after).items():
        free = name in asked.limits and name not in policy.operator
        assert value == (asked.limits[name] if free else getattr(policy, name))
    assert after.operator == policy.operator
    assert after.mode == (asked.mode if policy.mode is None else policy.mode)


@given(POLICIES, REQUESTS)
def test_an_order_sets_what_it_names_and_owns_nothing_else(policy, ordered):
    after = policy.set_by_operator(ordered)
    assert limits(after) == {**limits(policy), **ordered.limits}
    assert after.operator == set(ordered.limits)
    assert after.mode == (policy.mode if ordered.mode is None else ordered.mode)


@given(POLICIES, REQUESTS, REQUESTS)
def test_no_save_undoes_an_order(policy, ordered, asked):
    after = policy.set_by_operator(ordered).after_save(asked)
    assert ordered.limits.items() <= limits(after).items()
    assert ordered.mode in {None, after.mode}


@given(POLICIES, REQUESTS)
def test_asking_twice_is_asking_once(policy, request):
    assert policy.after_save(request).after_save(request) == policy.after_save(request)
    assert policy.set_by_operator(request).set_by_operator(request) == policy.set_by_operator(request)


@pytest.mark.parametrize(
    ("policy", "keeps"),
    [
        pytest.param(Policy("max"), True, id="no limit"),
        pytest.param(Policy(keep_every_epochs=2), True, id="a rule that only keeps"),
        pytest.param(Policy(keep_every_steps=2), True, id="a rule that only keeps, by steps"),
        pytest.param(Policy(max_checkpoints=0), False, id="a limit"),
        pytest.param(Policy(max_best_checkpoints=3), False, id="a limit on the best"),
    ],
)
def test_a_directory_without_limits_keeps_everything(policy, keeps):
    assert policy.keeps_everything is keeps


@pytest.mark.parametrize(("mode", "ranks_by"), [(None, "min"), ("min", "min"), ("max", "max")])
def test_smaller_is_better_until_somebody_says_otherwise(mode, ranks_by):
    assert Policy(mode).ranks_by == ranks_by


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        pytest.param({}, PolicyRequest(), id="nothing"),
        pytest.param({"mode": "max"}, PolicyRequest("max"), id="a mode"),
        pytest.param({"max_checkpoints": 3}, PolicyRequest(None, {"max_checkpoints": 3}), id="a limit"),
        pytest.param({"max_checkpoints": None}, PolicyRequest(None, {"max_checkpoints": None}), id="null takes it off"),
    ],
)
def test_a_limit_that_a_request_leaves_out_is_not_asked_for(body, asked):
    assert PolicyIn(**body).asked() == asked
