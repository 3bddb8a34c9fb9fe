"""Servers to be killed, which start in a moment."""

from collections.abc import Iterator

import pytest

from tests.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where quick servers come from."""
    with Nursery() as made:
        yield made
