"""The code of each page about an integration runs as it stands there, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live import PROJECT, LiveServer

PAGES = sorted((PROJECT / "docs" / "integrations").glob("*.md"))


def blocks_of(page: Path) -> list[str]:
    """Return the blocks of Python of a page, which follow one another."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


def test_every_module_has_a_page_with_code():
    modules = {path.stem for path in (PROJECT / "client/holdfast/integrations").glob("[a-z]*")}
    assert modules <= {page.stem for page in PAGES if blocks_of(page)}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, own_server: LiveServer, tmp_path: Path):
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks_of(page)))
    environment = {**os.environ, "HOLDFAST_URL": own_server.url}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    directories = own_server.http.get("/v1/directories").json()["directories"]
    assert sum(found["count"] for found in directories) > 0, "the code saved nothing"
