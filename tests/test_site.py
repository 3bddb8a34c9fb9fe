"""The documents build as a site without a warning, and nothing in it comes from another host."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.live import PROJECT


def test_the_documents_build_as_a_site_that_asks_no_other_host(tmp_path: Path):
    shutil.copytree(PROJECT / "docs", tmp_path / "docs")
    shutil.copy(PROJECT / "zensical.toml", tmp_path)
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
    built = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {page.relative_to(tmp_path / "docs").with_suffix(".html") for page in (tmp_path / "docs").rglob("*.md")}
    for page in pages:
        html = (tmp_path / "site" / page).read_text()
        fetched = re.findall(r"<(?:script|img|source|iframe)\b[^>]*\bsrc(?:set)?=\"?([^\" >]+)", html)
        fetched += re.findall(r"<link\b[^>]*\bhref=\"?([^\" >]+)", html)
        assert fetched, page
        assert [url for url in fetched if re.match(r"(https?:)?//", url)] == [], page
