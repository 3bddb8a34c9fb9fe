"""Sizes and durations are parsed strictly and formatted with one digit after the point."""

import pytest

from app.core.units import parse_bytes, parse_seconds, size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        pytest.param("12", 12, id="no unit"),
        pytest.param(" 12B ", 12, id="bytes"),
        pytest.param("2TB", 2 * 10**12, id="powers of a thousand"),
        pytest.param("500 GiB", 500 * 2**30, id="powers of 1024"),
        pytest.param("1.5mb", 1_500_000, id="a fraction"),
        pytest.param("2XB", None, id="an unknown unit"),
        pytest.param("2iB", None, id="half a unit"),
        pytest.param("TB", None, id="a unit alone"),
        pytest.param("-1", None, id="negative"),
        pytest.param("", None, id="empty"),
    ],
)
def test_sizes_are_parsed(text, size_bytes):
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("30s", 30, id="seconds"),
        pytest.param(" 30m ", 1800, id="minutes"),
        pytest.param("1.5h", 5400, id="a fraction of hours"),
        pytest.param("7d", 604800, id="days"),
        pytest.param("30", None, id="no unit"),
        pytest.param("2x", None, id="an unknown unit"),
        pytest.param("-1h", None, id="negative"),
        pytest.param("h", None, id="a unit alone"),
        pytest.param("", None, id="empty"),
    ],
)
def test_durations_are_parsed(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1.5 * 2**20, "1.5 MiB"), (1023.96 * 1024, "1.0 MiB")],
)
def test_sizes_are_formatted(size_bytes, text):
    assert size(size_bytes) == text
