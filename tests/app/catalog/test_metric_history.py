"""The metric history keeps what shapes a line, also if it is thinned again and again while points are added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.rows.metric_history import thinned

VALUES = st.sampled_from([0.0, 1.0]) | st.floats(allow_nan=False)
LINES = st.lists(st.tuples(st.integers(0, 400), VALUES), min_size=1, max_size=200).map(sorted)


def choose(points, most):
    return [points[index] for index in thinned([at for at, _ in points], [value for _, value in points], most)]


@given(LINES, st.integers(4, 50))
def test_the_ends_and_the_extremes_stay_within_the_bound(points, most):
    chosen = choose(points, most)
    assert len(chosen) <= most
    assert (chosen[0], chosen[-1]) == (points[0], points[-1])
    values, all_values = ([value for _, value in each] for each in (chosen, points))
    assert (min(values), max(values)) == (min(all_values), max(all_values))


@given(LINES)
def test_few_points_all_stay(points):
    assert choose(points, max(4, len(points))) == points


@given(st.lists(st.tuples(st.integers(0, 1000), VALUES), min_size=1, max_size=200, unique_by=lambda point: point[0]))
def test_points_that_come_in_batches_lose_no_extreme_of_any_section(points):
    most, kept = 20, []
    for begin in range(0, len(points), 7):
        kept = choose(sorted(kept + points[begin : begin + 7]), most)
    at_once = choose(sorted(points), most)
    width = next(width for width in (2**power for power in range(20)) if len(choose_at(sorted(points), width)) <= most)
    for section in {at // width for at, _ in points}:
        of_all, of_kept = ([value for at, value in each if at // width == section] for each in (points, kept))
        assert (min(of_kept), max(of_kept)) == (min(of_all), max(of_all))
    assert len(kept) <= most
    assert len(at_once) <= most


def choose_at(points, width):
    """The points that sections of this width keep: the first, the last, and the first extremes of each."""
    sections = {}
    for point in points:
        sections.setdefault(point[0] // width, []).append(point)
    kept = {points[0], points[-1]}
    for section in sections.values():
        kept |= {min(section, key=lambda point: point[1]), max(section, key=lambda point: point[1])}
    return kept


def test_a_peak_of_a_long_line_is_drawn():
    values = [0.0] * 100_000
    values[54_321] = 9.0
    chosen = thinned(range(100_000), values, 1000)
    assert 54_321 in chosen
    assert len(chosen) <= 1000


@pytest.mark.parametrize("position", [0, 2**62])
def test_points_at_one_position_are_one_section(position):
    assert len(thinned([position] * 50, [float(value) for value in range(50)], 4)) == 2
