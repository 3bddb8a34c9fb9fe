"""Fixtures for tests of the pages."""

import itertools

import pytest

from tests.app.dashboard.signed_in import Browser, save
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint

_numbers = itertools.count()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("dashboard") / "root", undo_window="1h") as server:
        server.admin = bearer(mint(server.root, "admin"))
        yield server


@pytest.fixture(scope="module")
def admin(live):
    with Browser(live, "admin") as browser:
        yield browser


@pytest.fixture
def name():
    return f"runs/{next(_numbers)}/checkpoints"


@pytest.fixture(scope="module")
def place(live):
    """Return a directory, the id of a live checkpoint in it, and that of a removed one."""
    directory = "team/a"
    removed = save(live, directory, name="removed.pt")
    live.http.delete(f"/v1/checkpoints/{removed['id']}", headers=live.admin)
    return directory, save(live, directory, name="live.pt")["id"], removed["id"]
