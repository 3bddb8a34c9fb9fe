"""The fixtures of fsspec's own tests of file systems, for ours on a real server."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec.tests import abstract

from holdfast.integrations.fsspec import HoldfastFileSystem
from tests.support.live import LiveServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that does not wait for its disk: these tests save thousands of files."""
    with LiveServer(tmp_path_factory.mktemp("quick") / "root", synced=False) as live:
        yield live


class Fixtures(abstract.AbstractFixtures):
    """The file system of the tests, and a directory of its own for each."""

    @pytest.fixture
    def fs(self, quick_server: LiveServer) -> HoldfastFileSystem:
        return HoldfastFileSystem(server=quick_server.url)

    @pytest.fixture
    def fs_path(self) -> str:
        return f"runs/{next(_numbers)}"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def local_path(self, tmp_path: Path) -> str:
        return str(tmp_path)
