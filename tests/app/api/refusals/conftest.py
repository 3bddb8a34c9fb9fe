"""A server for the tests of refusals, whose state must never change."""

import pytest

from tests.support.live import LiveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a single checkpoint, so that comparing its state is fast."""
    with LiveServer(tmp_path_factory.mktemp("refusing") / "root") as live:
        live.save("runs/a", epoch=1)
        yield live


@pytest.fixture(autouse=True)
def nothing_changes(server):
    """Verify that the catalog and the files are the same before and after the block."""

    def state():
        files = sorted(str(path) for path in server.root.rglob("*") if "catalog.db" not in path.name)
        return server.http.get("/v1/directories", params={"page_size": 1000}).json(), files

    before = state()
    yield
    assert state() == before
