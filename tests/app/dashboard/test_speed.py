"""Speed on large roots: the time of a directory's page depends on its rows, not on the size of the directory."""

import statistics
import time
from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.models import Directory, FileMap, Manifest, Policy
from app.dashboard.pages.directories import MOST
from app.settings import Settings
from tests.data.samples import AT, checkpoint
from tests.support.live import LiveServer

pytestmark = pytest.mark.alone

HTML = {"Accept": "text/html"}
MANY, FEW = 5_000, 50
KINDS = ("everything", "policy", "removed")
TIMES_FEW = 4
"""Allowed ratio of the times for a large and a small directory."""
ROUNDS = 7


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A server with a large and a small directory of each kind, and a thousand more directories."""
    root = tmp_path_factory.mktemp("large") / "root"
    with closing(open_root(Settings(root=root))) as service, service.context.catalog.writing() as session:
        for kind in KINDS:
            for count in (MANY, FEW):
                fill(session, f"{kind}/{count}", kind, count)
        for number in range(1000):
            fill(session, f"sweep/{number // 50}/{number}", "everything", 3)
    with LiveServer(root, scrub_bytes_per_s="0", undo_window="1h") as live:
        yield live


def fill(session, name, kind, count):
    """Write rows only: no test reads the files."""
    policy = Policy("min", 20, 20, 500) if kind == "policy" else Policy()
    made = [
        checkpoint(each + 1, directory=name, epoch=each, metric=1 / (1 + each), metadata={"accuracy": 0.5})
        for each in range(count)
    ]
    session.directories.put(Directory(name, AT, count, policy, "trainer@gpu", AT))
    session.checkpoints.add(*(Manifest(each, {file.path: FileMap(()) for file in each.files}) for each in made))
    for each in made[: count - 10] if kind == "removed" else []:
        session.checkpoints.mark_removed(each, "pruned", AT)
        session.checkpoints.mark_trashed(each.id)
        session.checkpoints.mark_freed(each.id)


def seconds(server, address):
    start = time.perf_counter()
    answer = server.http.get(address, headers=HTML)
    passed = time.perf_counter() - start
    assert answer.status_code == 200, answer.text
    return passed


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_many_takes_little_longer_than_one_of_few(large, capsys, kind):
    taken = {MANY: [], FEW: []}
    for _ in range(ROUNDS):
        for count, found in taken.items():
            found.append(seconds(large, f"/directories/{kind}/{count}"))
    many, few = statistics.median(taken[MANY]), statistics.median(taken[FEW])
    with capsys.disabled():
        print(f"\n{kind}: {1000 * many:.0f} ms of {MANY}, {1000 * few:.0f} ms of {FEW}")
    assert many < TIMES_FEW * few


def test_the_first_page_shows_hundreds_of_directories_at_once(large, capsys):
    start = time.perf_counter()
    shown = large.http.get("/", headers=HTML).text.count('href="/directories/')
    with capsys.disabled():
        print(f"\n{shown} directories in {1000 * (time.perf_counter() - start):.0f} ms")
    assert shown == MOST
