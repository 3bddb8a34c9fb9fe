"""A server for all tests that can share one, a directory of its own for each."""

import itertools
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from holdfast._api import identity
from holdfast._api.retry import CircuitBreaker
from holdfast._save import drain
from holdfast._spool.courier import Courier
from tests.support.jobs import Jobs
from tests.support.live import LiveServer

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # several files of tests share the processors: no example is too slow

LONG = ("/crash/", "/contract/", "test_traversal", "test_packages")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that all tests share; no test stops it."""
    with LiveServer(tmp_path_factory.mktemp("shared") / "root") as live:
        yield live


@pytest.fixture(autouse=True)
def spool(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A spool of the test's own, for this process and those that it starts; nothing has gone wrong yet.

    Couriers end with the test: one whose server is gone would retry as long as this process lives.
    """
    drain._state.requested_at = None
    CircuitBreaker._known.clear()
    Courier._all.clear()
    identity.forget()
    folder = tmp_path_factory.mktemp("spool")
    monkeypatch.setenv("HOLDFAST_SPOOL", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    for courier in (woken := Courier.all()):  # it finds that nothing waits any more
        courier._stopping.set()
    for courier in woken:
        courier._idle.wait(10)  # what it still logs is not for the next test


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> str:
    """The name of a directory that no other test uses."""
    return f"runs/{next(_numbers)}/checkpoints"


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that the test may kill and start again."""
    with LiveServer(tmp_path / "root") as live:
        yield live


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Makes servers with settings, each with a root of its own unless one is given; they end with the test."""
    made: list[LiveServer] = []

    def make(root: Path | None = None, **settings: str) -> LiveServer:
        live = LiveServer(root or tmp_path / f"root-{len(made)}", **settings)
        made.append(live.__enter__())
        return live

    yield make
    for live in made:
        live.__exit__(None, None, None)


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The process that user jobs are forked from."""
    with Jobs(tmp_path_factory.mktemp("jobs")) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    """A free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that several at a time end together."""
    items.sort(key=lambda item: next((rank for rank, folder in enumerate(LONG) if folder in item.nodeid), len(LONG)))
