"""A row of the catalog that cannot be read keeps neither a server from starting nor commands from their work."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from app.__main__ import main
from app.main import open_root, reindex_root
from app.settings import Settings
from tests.live import LiveServer

ROWS = {
    "live": "UPDATE checkpoints SET tags = 'x' WHERE epoch = 1",
    "live, to be rewritten": "UPDATE checkpoints SET tags = 'x', dirty = 1 WHERE epoch = 1",
    "metric": "UPDATE checkpoints SET metric_text = 'x', dirty = 1 WHERE epoch = 1",
    "chunks": "UPDATE files SET map = 'x'",
    "in the trash": "UPDATE checkpoints SET tags = 'x' WHERE epoch = 0",
    "to be withdrawn": "UPDATE checkpoints SET tags = 'x', trashed = 0 WHERE epoch = 0",
    "time of removal": "UPDATE checkpoints SET removed_at = 'x' WHERE epoch = 0",
    "time of a directory": "UPDATE directories SET created_at = 'x'",
    "limits of a directory": "UPDATE directories SET operator = 'x', dirty = 1",
    "last save to a directory": "UPDATE directories SET last_write_at = 'x'",
    "an upload": "UPDATE uploads SET body = 'x', expires_at = '2000-01-01T00:00:00.000000Z'",
}
LEFT = {"in the trash", "to be withdrawn", "time of removal", "an upload"}
"""What is in nobody's way, and that `fsck` says nothing of."""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("unreadable") / "root"
    with LiveServer(root, undo_window="1h", scrub_bytes_per_s="0") as server:
        saved = [server.save("runs/a", b"%d" % epoch, epoch=epoch) for epoch in range(3)]
        server.http.delete(f"/v1/checkpoints/{saved[0]['id']}").raise_for_status()
        body = {"directory": "runs/a", "name": "under way", "files": [{"path": "a", "size_bytes": 1}]}
        server.http.post("/v1/uploads", json=body).raise_for_status()
        assert server.stop() == 0
    return root


@pytest.mark.parametrize("what", ROWS)
def test_it_is_left_alone_or_repaired_and_everything_else_goes_on(original, tmp_path, capsys, what):
    def copy(name):
        root = shutil.copytree(original, tmp_path / name)
        with closing(sqlite3.connect(root / ".holdfast" / "catalog.db")) as sql:
            assert sql.execute(ROWS[what]).rowcount > 0
            sql.commit()
        return root

    started = copy("started")
    for window in (3600, 0):
        with closing(open_root(Settings(root=started, undo_window=window))) as checkpoints:
            assert checkpoints.parts.catalog.usable()
    rebuilt = reindex_root(Settings(root=copy("reindexed")))
    assert (rebuilt.checkpoints, list(rebuilt.faults)) == (2, [])
    checked = copy("checked")
    expected = (0, 0, 0) if what in LEFT else (4, 1, 0)
    for status, flags in zip(expected, (["--dry-run"], [], []), strict=True):
        assert main(["fsck", "--root", str(checked), *flags]) == status, capsys.readouterr()
    with closing(open_root(Settings(root=checked))) as checkpoints:
        assert checkpoints.finding.latest("runs/a").sequence == 3
