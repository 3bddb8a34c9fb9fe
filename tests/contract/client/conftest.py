"""A client of the shared server."""

from collections.abc import Iterator

import pytest

from holdfast import Client
from tests.support.live import LiveServer


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    """A client without a prefix."""
    with Client(server.url) as made:
        yield made
