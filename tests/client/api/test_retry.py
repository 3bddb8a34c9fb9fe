"""Retries: transient failures, waits, and known outages."""

import os
import threading
import time
from itertools import pairwise

import pytest

import app.core.errors
from holdfast import ServerUnreachable, errors
from holdfast._api import retry
from holdfast._api.retry import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    Backoff,
    CircuitBreaker,
    RetryDeadline,
    is_refused_for_now,
    is_transient,
)


def refusal(status, code=None, retry_after_s=None):
    return errors.from_problem(status, {"code": code, "detail": "no"} if code else {}, retry_after_s)


@pytest.mark.parametrize(
    ("error", "does"),
    [
        pytest.param(ServerUnreachable("no answer"), True, id="no answer"),
        pytest.param(refusal(500, "internal"), True, id="500"),
        pytest.param(refusal(503, "not_ready", 5), True, id="503 with a code"),
        pytest.param(refusal(502), True, id="502 of a proxy"),
        pytest.param(refusal(404), True, id="404 of a proxy without a server behind it"),
        pytest.param(refusal(429, "too_many"), True, id="429"),
        pytest.param(refusal(408), True, id="408"),
        pytest.param(refusal(408, "request_timeout"), True, id="408 with a code"),
        pytest.param(refusal(400, "invalid_http"), True, id="a request that arrived as no HTTP"),
        pytest.param(refusal(409, "upload_busy"), True, id="busy"),
        pytest.param(refusal(404, "upload_not_found"), True, id="an upload that the server has lost"),
        pytest.param(refusal(401, "unauthorized"), False, id="401"),
        pytest.param(refusal(401), True, id="401 of a proxy"),
        pytest.param(refusal(403), True, id="403 of a proxy"),
        pytest.param(refusal(407), True, id="407 of a proxy"),
        pytest.param(refusal(413), True, id="413 of a proxy"),
        pytest.param(refusal(507), True, id="507 of a proxy"),
        pytest.param(refusal(301), True, id="a redirect of a proxy"),
        pytest.param(refusal(200), True, id="a page in place of an answer"),
        pytest.param(refusal(413, "too_large"), False, id="413"),
        pytest.param(refusal(507, "no_space"), False, id="507"),
        pytest.param(refusal(409, "pinned"), False, id="pinned"),
        pytest.param(refusal(422, "invalid_name"), False, id="a bad name"),
        pytest.param(refusal(404, "checkpoint_not_found"), False, id="not there"),
        pytest.param(errors.IntegrityError("altered"), False, id="altered"),
    ],
)
def test_what_passes_by_itself_is_tried_again_and_a_refusal_is_not(error, does):
    assert is_transient(error) is does


@pytest.mark.parametrize("status", range(400, 600))
def test_no_status_is_both_a_failure_that_passes_and_one_about_us(status):
    for error in (refusal(status), refusal(status, "some_code")):
        assert not (is_transient(error) and is_refused_for_now(error))
    assert is_refused_for_now(refusal(status, "some_code")) == (status in {401, 403, 507})
    assert not is_refused_for_now(refusal(status))


def test_every_refusal_of_the_server_about_its_own_state_passes():
    for kind in app.core.errors.Refusal.__subclasses__():
        if kind.status in {500, 503}:
            assert is_transient(refusal(kind.status, kind.code)), kind


def test_waits_are_full_jitter_between_their_bounds(monkeypatch):
    asked = []
    monkeypatch.setattr(retry._random, "uniform", lambda low, high: asked.append((low, high)) or high)
    waits = Backoff()
    assert [waits.next_s() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert {low for low, _ in asked} == {0}
    waits.reset()
    assert waits.next_s() == FIRST_WAIT_S


@pytest.mark.parametrize(("asked_s", "least_s", "most_s"), [(2.0, 2.0, 2.0), (0.0, 0.0, 0.5), (3600.0, 30.0, 30.0)])
def test_a_server_that_asks_for_time_is_given_it_within_reason(asked_s, least_s, most_s):
    for _ in range(20):
        assert least_s <= Backoff().next_s(refusal(503, "not_ready", asked_s)) <= most_s
    assert LONGEST_WAIT_S == 30


def tries(patience, error=None, most=10_000):
    """Count the attempts until patience is exhausted, and the seconds they take."""
    started = time.monotonic()
    for count in range(most):
        try:
            patience.wait(error or ServerUnreachable("gone"))
        except errors.HoldfastError:
            return count, time.monotonic() - started
    raise AssertionError("there is no end to it")


def test_patience_ends_with_the_error_that_it_was_given(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    count, seconds = tries(RetryDeadline(0.2))
    assert count >= 2
    assert 0.2 <= seconds < 5


def test_patience_begins_again_with_every_progress():
    patience = RetryDeadline(0.05)
    tries(patience)
    patience.progress()
    count, _ = tries(patience)
    assert count >= 1


def test_no_patience_is_one_attempt():
    assert tries(RetryDeadline(0.0))[0] == 0


def test_a_server_that_wants_more_time_than_there_is_is_not_waited_for():
    count, seconds = tries(RetryDeadline(5.0), refusal(503, "not_ready", 20.0))
    assert (count, seconds < 2) == (0, True)


def test_a_stopped_patience_waits_no_longer():
    stopping = threading.Event()
    patience = RetryDeadline(60.0, stopping)
    threading.Timer(0.2, stopping.set).start()
    _, seconds = tries(patience)
    assert seconds < 30
    assert tries(patience)[0] == 0


def test_an_outage_is_shared_by_all_clients_of_a_server_until_it_answers():
    circuit = CircuitBreaker.of("http://one")
    circuit.trip(ServerUnreachable("gone"))
    assert CircuitBreaker.of("http://one").is_open
    assert not CircuitBreaker.of("http://another").is_open
    circuit.close()
    assert not CircuitBreaker.of("http://one").is_open


def test_during_an_outage_few_are_worth_a_try(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(retry._random, "uniform", lambda low, high: high)
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    circuit = CircuitBreaker()
    assert circuit.allows_attempt
    circuit.trip(ServerUnreachable("gone"))
    tried = []
    for _ in range(2000):
        now[0] += 0.1
        tried += [now[0]] if circuit.allows_attempt else []
    assert 5 <= len(tried) <= 15
    assert max(later - earlier for earlier, later in pairwise(tried)) < 31
    circuit.close()
    assert circuit.allows_attempt


def test_a_forked_process_knows_of_no_outage():
    circuit = CircuitBreaker.of("http://forked")
    circuit.trip(ServerUnreachable("gone"))
    child = os.fork()
    if child == 0:
        os._exit(1 if CircuitBreaker.of("http://forked").is_open else 0)
    assert os.waitpid(child, 0)[1] == 0
    circuit.close()
