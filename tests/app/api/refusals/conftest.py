"""A server for the tests of refusals, which nothing may change."""

import pytest

from tests.support.live import LiveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with one checkpoint, so that it is soon seen that nothing changes."""
    with LiveServer(tmp_path_factory.mktemp("refusing") / "root") as live:
        live.save("runs/a", epoch=1)
        yield live


@pytest.fixture(autouse=True)
def nothing_changes(server):
    """What is known and what lies on the disk are the same before and after."""

    def state():
        files = sorted(str(path) for path in server.root.rglob("*") if "catalog.db" not in path.name)
        return server.http.get("/v1/directories", params={"page_size": 1000}).json(), files

    before = state()
    yield
    assert state() == before
