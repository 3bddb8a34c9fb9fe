"""The real client against the real server."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast import CheckpointManager
from tests.live import LiveServer


@pytest.fixture
def make_manager(server: LiveServer, directory: str) -> Callable[..., CheckpointManager]:
    """Makes managers of the test's own directory."""

    def make(*arguments: Any, **options: Any) -> CheckpointManager:
        return CheckpointManager(options.pop("checkpoint_dir", directory), *arguments, server=server.url, **options)

    return make
