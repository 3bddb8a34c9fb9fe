"""One recording of each operation for all workers of a test run."""

import pytest

from tests.crash.harness import points


@pytest.fixture(scope="session", autouse=True)
def shared_records(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """Let the workers find what one of them has recorded."""
    if worker_id != "master":
        points.shared = tmp_path_factory.getbasetemp().parent
