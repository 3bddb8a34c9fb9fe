"""Values of --meta: JSON if nothing of them is lost, text otherwise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.metadata import value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-3", 0.001),
        ("2.5e-4", 0.00025),
        ("1.5E3", 1500.0),
        ("1.0", 1.0),
        ("100.0", 100.0),
        ("7", 7),
        ("-7", -7),
        ("5e-324", 5e-324),
        ("18446744073709551615", 2**64 - 1),
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ('{"a": 0.5}', {"a": 0.5}),
        ('"12"', "12"),
    ],
)
def test_json_is_taken_as_it_is(text, value):
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "123e456",
            "1234e56",
            "1e5",
            "12E34",
            "1e400",
            "-1e400",
            "1e-400",
            "1.10",
            "10.50",
            "0.10e-3",
            "007",
            "00",
            "-0",
        ),
        *(
            "1_000",
            "NaN",
            "Infinity",
            "-Infinity",
            "+1",
            ".5",
            "1.",
            "0x10",
            " 1",
            "1 ",
            "1\n",
            "",
            "3.141592653589793238",
        ),
        *("[1.10]", '{"v": 1e400}', "[NaN]", "9" * 4301, "[" * 100_000, "True", "None", "'a'", "text", "٣"),
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_what_json_would_change_is_text(text):
    assert value_of(text) == text


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none())
def test_what_json_writes_comes_back(value):
    text = json.dumps(value)
    found = value_of(text)
    assert json.dumps(found) == text or (found == text and "e+" not in text)
