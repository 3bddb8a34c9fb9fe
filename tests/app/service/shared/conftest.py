"""A service with a root of its own, without a server."""

from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.settings import Settings


@pytest.fixture
def service(tmp_path):
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        yield opened
