"""The ids of servers, and the waits between requests for those that did not answer."""

import time

import pytest

from holdfast._api import identity
from holdfast._api.retry import CircuitBreaker
from holdfast.errors import ServerUnreachable

AWAY = "http://127.0.0.1:1"


@pytest.fixture
def circuit():
    return CircuitBreaker()


def test_a_server_that_did_not_answer_is_not_asked_again_at_once():
    assert not identity.is_unknowable(AWAY)
    identity.note_unreached(AWAY, time.monotonic())
    assert identity.is_unknowable(AWAY)


def test_it_is_asked_again_once_an_outage_has_ended(circuit):
    """It may be the same server under another URL: what waits for it would be delivered after newer saves."""
    circuit.trip(ServerUnreachable("away"))
    identity.note_unreached(AWAY, time.monotonic())
    circuit.close()
    assert not identity.is_unknowable(AWAY)


def test_a_request_that_was_under_way_as_an_outage_ended_says_nothing_of_the_server_now(circuit):
    circuit.trip(ServerUnreachable("away"))
    asked_at = time.monotonic()
    circuit.close()
    identity.note_unreached(AWAY, asked_at)
    assert not identity.is_unknowable(AWAY)


def test_answers_without_an_outage_end_no_wait(circuit):
    identity.note_unreached(AWAY, time.monotonic())
    circuit.close()
    assert identity.is_unknowable(AWAY)
