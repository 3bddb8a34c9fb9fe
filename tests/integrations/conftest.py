"""These tests need the frameworks themselves: ``scripts/test --integrations`` runs them in an environment with them."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.live import LiveServer

FRAMEWORKS = (
    *("accelerate", "fsspec", "ignite", "jax", "keras", "lightning", "mlflow", "orbax", "pyarrow", "ray", "skorch"),
    "transformers",
)
MISSING = [name for name in FRAMEWORKS if find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str | None:
    """Say that these tests do not run."""
    return f"tests/integrations is left out without {', '.join(MISSING)}: see scripts/test" if MISSING else None


def pytest_configure(config: pytest.Config) -> None:
    """Take warnings of the frameworks for granted, also at their import, but not those of this project."""
    for line in ("ignore", "error::holdfast.HoldfastWarning"):
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(autouse=True)
def settings(server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let this process and those that it starts use the shared server, and a working folder of their own."""
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    monkeypatch.delenv("HOLDFAST_PREFIX", raising=False)
    monkeypatch.chdir(tmp_path)
