"""The number of rounds of a test: a few in every test run, many by ``scripts/torture``."""

import os

IS_LONG = os.environ.get("HOLDFAST_TORTURE") == "long"


def rounds(short: int, long: int) -> int:
    """The number of rounds for this run."""
    return long if IS_LONG else short
