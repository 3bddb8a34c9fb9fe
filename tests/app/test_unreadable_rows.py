"""A row of the catalog that cannot be read is left out of lists, and everything else goes on."""

import sqlite3
from contextlib import closing

import pytest

from tests.live import LiveServer, eventually


def spoil(root, checkpoint_id, column, value):
    """Write nonsense into a row."""
    with closing(sqlite3.connect(root / ".holdfast" / "catalog.db")) as database:
        database.execute(f"UPDATE checkpoints SET {column} = ? WHERE id = ?", (value, checkpoint_id))
        database.commit()


@pytest.mark.parametrize(("column", "value"), [("metadata", "{"), ("tags", "nonsense"), ("created_at", "yesterday")])
def test_lists_and_saves_go_on_beside_a_row_that_cannot_be_read(tmp_path, column, value):
    with LiveServer(tmp_path / "root") as live:
        saved = [live.save("runs/a", str(n).encode(), epoch=n, metric=10 - n, max_checkpoints=10) for n in range(1, 4)]
        spoil(live.root, saved[-1]["id"], column, value)  # the latest and the best
        names = [each["name"] for each in saved[:2]]
        assert live.names("runs/a", order_by="position") == names
        assert live.names("runs/a", order_by="best") == names[::-1]
        for which in ("latest", "best"):
            found = live.http.get(f"/v1/checkpoints/{which}", params={"directory": "runs/a"})
            assert (found.status_code, found.json()["name"]) == (200, names[-1])
        (listed,) = live.http.get("/v1/directories").json()["directories"]
        assert listed["latest"]["name"] == names[-1]
        assert live.http.get("/v1/directories/runs/a").status_code == 200
        assert live.http.post("/v1/prune", json={"directory": "runs/a", "dry_run": True}).status_code == 200
        assert live.save("runs/a", b"4", epoch=4, metric=1)["name"] == "checkpoint_epoch_0004.pt"
        assert eventually(lambda: f"({saved[-1]['id']}) cannot be read" in live.log())
        narrow = {"max_checkpoints": 1, "max_best_checkpoints": 1}
        live.http.put("/v1/directories/runs/a", json=narrow).raise_for_status()
        assert live.http.post("/v1/prune", json={"directory": "runs/a"}).status_code == 200
        assert live.names("runs/a") == ["checkpoint_epoch_0004.pt"]
        for page in ("/", "/directories/runs/a", "/storage"):
            assert live.http.get(page, headers={"Accept": "text/html"}).status_code == 200, page
