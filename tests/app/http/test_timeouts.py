"""Timeouts and minimum rates, without a clock."""

import pytest

from app.http.timeouts import ConnectionLimits

LIMITS = ConnectionLimits(head_timeout_s=30, idle_timeout_s=60, body_grace_s=100, min_bytes_per_s=10)


@pytest.mark.parametrize(
    ("kind", "steps", "left_s"),
    [
        pytest.param("head", [], 30, id="a head that has not begun"),
        pytest.param("head", [20.0, 500, 5.0, 500], 5, id="a head that drips in"),
        pytest.param("head", [31.0], 0, id="a head that has not come"),
        pytest.param("body", [], 60, id="a body that has not begun"),
        pytest.param("body", [50.0, 1, 50.0], 0.1, id="a body that drips in"),
        pytest.param("body", [50.0, 1, 50.2], 0, id="a body that drips in, a little later"),
        pytest.param("body", [59.0, 1000, 1.0], 59, id="a body after a silence"),
        pytest.param("body", [1.0, 10**9, 61.0], 0, id="a body that stopped after many bytes"),
        pytest.param("body", [50.0, 1000, 50.0, 1000, 50.0], 10, id="a body at a good pace"),
        pytest.param("answer", [59.0, 1] * 1000, 60, id="an answer that is taken by and by"),
        pytest.param("answer", [59.0, 1, 60.0], 0, id="an answer that is not taken any more"),
    ],
)
def test_a_client_has_time_for_what_it_does(kind, steps, left_s):
    pace = getattr(LIMITS, f"of_{kind}")()
    for step in steps:
        (pace.came if isinstance(step, int) else pace.waited)(step)
    assert pace.left_s == pytest.approx(left_s)
