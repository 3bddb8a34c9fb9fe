"""The catalog is copied beside itself, and brings back what only it knows when it was lost."""

import shutil
import sqlite3
import subprocess
import sys

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer, eventually
from tests.support.tokens import bearer, mint


def copy_of(root):
    return root / ".holdfast" / "catalog.db.copy"


def tokens_in(database):
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        found = [row for (row,) in connection.execute("SELECT id FROM tokens ORDER BY created_at")]
    connection.close()
    return found


@pytest.fixture
def copied(tmp_path):
    """A server that copies its catalog in every round of its janitor."""
    with LiveServer(tmp_path / "root", copy_catalog_every="0.001", janitor_every_s="0.1") as live:
        yield live


def test_a_copy_is_whole_young_and_private(copied):
    for _ in range(3):
        token = mint(copied.root, "read")
        assert eventually(
            lambda token=token: copy_of(copied.root).exists() and token[5:15] in tokens_in(copy_of(copied.root))
        )
    assert copy_of(copied.root).stat().st_mode & 0o077 == 0
    assert copied.http.get("/health/ready").status_code == 200


def test_a_young_copy_is_left_as_it_is_and_none_is_made_where_none_is_wanted(tmp_path):
    with LiveServer(tmp_path / "root", copy_catalog_every="1h", janitor_every_s="0.05") as live:
        assert eventually(copy_of(live.root).exists)
        first = copy_of(live.root).stat().st_ino
        rounds(live)
        assert copy_of(live.root).stat().st_ino == first
        live.kill()
    with LiveServer(tmp_path / "other", copy_catalog_every="0", janitor_every_s="0.05") as live:
        rounds(live)
        assert not copy_of(live.root).exists()


def rounds(live):
    """Wait until the janitor has been at work: it gives up an upload whose lease has ended."""
    upload = live.http.post("/v1/uploads", json={"directory": "runs/a", "files": [{"size_bytes": 5}]}).json()["id"]
    live.http.delete(f"/v1/uploads/{upload}").raise_for_status()
    ballast = live.root / ".holdfast" / "ballast"
    ballast.unlink()
    assert eventually(ballast.exists)


def test_a_copy_that_cannot_be_made_is_told_and_harms_nothing(tmp_path):
    with LiveServer(tmp_path / "root", copy_catalog_every="0.001", janitor_every_s="0.1") as live:
        assert eventually(copy_of(live.root).exists)
        copy_of(live.root).unlink()
        copy_of(live.root).mkdir()
        (copy_of(live.root) / "x").touch()
        assert eventually(lambda: "could not copy the catalog" in live.log())
        live.save("runs/a")
        assert live.names("runs/a")


def test_what_was_lost_with_the_catalog_comes_back_with_its_copy(copied):
    root, token = copied.root, mint(copied.root, "admin")
    own = root / ".holdfast"
    copied.http.headers.update(bearer(token))
    copied.save("runs/a", name="a.pt")
    gone = copied.save("runs/a", name="b.pt")["id"]
    copied.http.delete(f"/v1/checkpoints/{gone}").raise_for_status()
    copied.wait_until_freed()
    assert eventually(copy_of(root).exists)
    before = copy_of(root).stat().st_mtime_ns
    assert eventually(lambda: copy_of(root).stat().st_mtime_ns != before)
    before = copy_of(root).stat().st_mtime_ns
    assert eventually(lambda: copy_of(root).stat().st_mtime_ns != before)  # one that began after all that
    copied.kill()
    for path in own.glob("catalog.db*"):
        if path != copy_of(root):
            path.unlink()
    copied.launch()
    assert eventually(lambda: "is a copy of the old one" in copied.log())
    copied.kill()
    (kept,) = own.glob("catalog.db.lost-*")
    for path in own.glob("catalog.db*"):
        if path != kept:
            path.unlink()
    shutil.move(kept, own / "catalog.db")
    command = [sys.executable, "-m", "app", "reindex", "--root", str(root)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, timeout=DEADLINE_S)
    copied.start()
    assert copied.names("runs/a") == ["a.pt"]
    assert copied.http.get(f"/v1/checkpoints/{gone}").json()["removed_because"] == "deleted"
    actions = [line["action"] for line in copied.http.get("/v1/audit").json()["lines"]]
    assert actions[-4:] == ["checkpoint.removed", "checkpoint.saved", "checkpoint.saved", "token.created"]
