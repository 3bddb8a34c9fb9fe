"""A catalog of 10,000 checkpoints, lost and made anew from the files: the same answers, and soon."""

import json
import resource
import subprocess
import sys
import time

import pytest

from app.bootstrap import open_root
from app.settings import Settings
from app.storage import manifest
from tests.crash.harness.rounds import rounds
from tests.crash.roots.large_roots import fill
from tests.support.live import PROJECT, LiveServer

LARGE = rounds(5_000, 50_000)
SMALL = {f"small/{number // 10}/{number}": 50 for number in range(100)}
FILTERS = [{"pinned": True}, {"tag": "é"}, {"kind": "best"}, {"epoch_min": 3, "epoch_max": 40}, {"metric_max": 0.25}]
TIMES_READING = 8
"""The processor time of a reindex, in multiples of reading and checking all manifests; 4 were measured."""


def reindex(root):
    """Run the command in a process of its own: what it said, and how many seconds it took, of a clock and of work."""
    command = [sys.executable, "-m", "app", "reindex", "--root", str(root)]
    start, worked = time.perf_counter(), seconds_of_children()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left alone" not in done.stderr
    return done.stdout, time.perf_counter() - start, seconds_of_children() - worked


def seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lose_catalog(root):
    for path in (root / ".holdfast").glob("catalog.db*"):
        path.unlink()


def asked(server, path, **query):
    answer = server.http.get(f"/v1/{path}", params=query, headers={"X-Request-Id": "asked"})
    return answer.status_code, answer.json()


def listed(server, what, path, **query):
    """All pages of a listing."""
    found, token = [], {}
    while True:
        status, page = asked(server, path, page_size=1000, **query, **token)
        assert status == 200, page
        found += page[what]
        if page["next_page_token"] is None:
            return found
        token = {"page_token": page["next_page_token"]}


def answers(server):
    """Return the server's answers about everything, in every way in which clients ask."""
    found = {"directories": listed(server, "directories", "directories")}
    for name in [directory["directory"] for directory in found["directories"]]:
        found[name] = listed(server, "checkpoints", "checkpoints", directory=name)
        found[f"latest of {name}"] = asked(server, "checkpoints/latest", directory=name)
        found[f"best of {name}"] = asked(server, "checkpoints/best", directory=name)
        found[f"best of {name} by loss"] = asked(server, "checkpoints/best", directory=name, by="loss", mode="max")
        if name.startswith("small/") and not name.endswith("9"):
            continue  # one in ten is asked everything
        for order in ("best", "-metric", "epoch", "-created_at", "name", "size_bytes"):
            page = asked(server, "checkpoints", directory=name, order_by=order)[1]
            found[f"{name} by {order}"] = [checkpoint["id"] for checkpoint in page["checkpoints"]]
        for query in FILTERS:
            page = asked(server, "checkpoints", directory=name, **query)[1]
            found[f"{name} where {query}"] = [checkpoint["id"] for checkpoint in page["checkpoints"]]
        some = found[name][:3]
        found[f"chunks of {name}"] = [asked(server, f"checkpoints/{checkpoint['id']}/chunks") for checkpoint in some]
        verdicts = server.http.post("/v1/prune", json={"directory": name, "dry_run": True})
        found[f"verdicts on {name}"] = verdicts.status_code, verdicts.json()
    return found


def save_as_jobs_do(server):
    """Commits of every kind, some of which were replaced, pruned, changed and removed."""
    for epoch in range(30):
        metric = [3, 1, "NaN", 2][epoch % 4] if epoch % 5 else "Infinity"
        server.save("jobs/a", b"a%d" % epoch, epoch=epoch, metric=metric, max_checkpoints=9, mode="max")
        saved = server.save("jobs/b", b"b%d" % epoch, epoch=epoch % 20, is_best=epoch % 3 == 0, writer="me@host")
        if epoch > 20 and epoch % 3 == 0:
            change = {"pinned": True, "tags": ["x", "é"], "metadata": {"loss": epoch, "k": [1, None]}}
            server.http.patch(f"/v1/checkpoints/{saved['id']}", json=change).raise_for_status()
        server.save("jobs/late", b"c%d" % epoch, epoch=epoch, saved_after=epoch % 7, metadata=json.dumps({"n": epoch}))
    limits = {"max_best_checkpoints": 2, "keep_every_epochs": 10}
    server.http.put("/v1/directories/jobs/a", json=limits).raise_for_status()
    server.http.put("/v1/directories/jobs/planned", json={"mode": "max", "max_checkpoints": None}).raise_for_status()
    for directory in ("jobs/late", "jobs/emptied"):
        newest = server.save(directory, b"newest", name="newest.pt")
        server.http.delete(f"/v1/checkpoints/{newest['id']}").raise_for_status()
    files = [{"path": "sub/a", "size_bytes": 1}, {"path": ".metadata", "size_bytes": 0}]
    upload = server.http.post("/v1/uploads", json={"directory": "jobs/f", "name": "folder", "files": files}).json()
    server.http.put(upload["missing"][0]["url"], content=b"a").raise_for_status()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()


@pytest.fixture
def large_root(tmp_path):
    """A root in which jobs have saved, and ten thousand checkpoints more."""
    root = tmp_path / "root"
    with LiveServer(root, synced=False) as server:
        save_as_jobs_do(server)
        server.wait_until_freed()
        server.stop()
    service = open_root(Settings(root=root))
    try:
        for seed, (name, count) in enumerate({"large": LARGE, **SMALL}.items()):
            fill(service, name, count, seed)
    finally:
        service.close()
    return root


def seconds_to_read_manifests(root):
    """Return the number of manifests and the processor time to read and check them."""
    start = time.process_time()
    paths = [path for path in root.rglob(".holdfast/*.json") if path.name not in {"directory.json", "format.json"}]
    for path in paths:
        manifest.load(path.read_bytes())
    return len(paths), time.process_time() - start


def test_a_large_catalog_is_made_anew_with_the_same_answers(large_root, capsys):
    with LiveServer(large_root, synced=False, scrub_bytes_per_s="0") as server:
        before = answers(server)
        server.stop()
        count, reading_s = seconds_to_read_manifests(large_root)
        lose_catalog(large_root)
        said, lost_s, lost_work_s = reindex(large_root)
        again, there_s, there_work_s = reindex(large_root)
        assert said == again == f"{count} checkpoints in {len(before['directories'])} directories\n"
        with capsys.disabled():
            print(
                f"\n{count} checkpoints reindexed in {lost_s:.1f} s, with a catalog there in {there_s:.1f} s; work: "
                f"{lost_work_s:.1f} s, {there_work_s:.1f} s; to read the manifests alone: {reading_s:.1f} s"
            )
        server.start()
        after = answers(server)
        assert [what for what in before if before[what] != after.get(what)] == []
        assert before.keys() == after.keys()
        for directory in ("jobs/late", "jobs/emptied", "large"):
            (known,) = (found for found in after["directories"] if found["directory"] == directory)
            assert server.save(directory, b"next", name="next.pt")["sequence"] == known["sequence"] + 1
    assert max(lost_work_s, there_work_s) < TIMES_READING * reading_s
