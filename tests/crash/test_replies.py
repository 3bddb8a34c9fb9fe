"""No reply leaves before the sync of the transaction that it reports, with other threads writing at the same time."""

import threading
from collections.abc import Callable

import httpx
import pytest

from tests.crash.harness.replies import TRACED, judge
from tests.crash.harness.rounds import rounds
from tests.crash.harness.tracing import Tracer, needs_strace
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer

THREADS = 4
SAVES = rounds(8, 100)
WAL = "5</root/.holdfast/catalog.db-wal>"
SOCKET = "9<socket:[1]>"
MARKS = {"a": ("row a", "says a")}


def traffic(server: LiveServer) -> dict[str, tuple[str, str]]:
    """Saves by several threads that prune, replace and delete; by name what each writes first, and what it answers."""
    marks: dict[str, tuple[str, str]] = {}
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as http:
                for count in range(SAVES):
                    name = f"save-{number}-{count:03}.pt"
                    query = {
                        "directory": f"runs/{number % 2}",
                        "name": name,
                        "max_checkpoints": 2,
                        "writer": f"{number}@h",
                    }
                    saved = http.post("/v1/checkpoints", params=query, content=b"bytes")
                    assert saved.status_code == 201, saved.text
                    marks[name] = (rf"\"name\": \"{name}\", \"sequence\":", rf"\"name\":\"{name}\",\"")
                    if count % 3 == 2:
                        http.delete(f"/v1/checkpoints/{saved.json()['id']}")  # another thread's save may have pruned it
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    return marks


def recorded(server: LiveServer) -> tuple[list[str], dict[str, tuple[str, str]]]:
    options = ["trace=" + ",".join(TRACED), "signal=none"]
    with Tracer(server.process_id, server.root.parent, options, shown_bytes=6000) as tracer:
        marks = traffic(server)
    return tracer.log.read_text(errors="replace").splitlines(), marks


@pytest.fixture
def start(tmp_path) -> Callable[..., LiveServer]:
    return lambda **more: LiveServer(tmp_path / "root", janitor_every_s="0.2", scrub_bytes_per_s="0", **more)


@needs_strace
def test_every_reply_comes_after_the_sync_of_its_transaction(start):
    with start() as server:
        verdict = judge(*recorded(server))
    assert len(verdict.reported) == THREADS * SAVES
    assert verdict.too_early == []
    print(f"{len(verdict.while_others_were_open)} of {len(verdict.reported)} replies left while others were open")


@needs_strace
def test_without_syncs_of_the_catalog_every_reply_is_found_to_come_too_early(start):
    with start(synced=False) as server:
        verdict = judge(*recorded(server))
    assert len(verdict.reported) == len(verdict.too_early) == THREADS * SAVES


def write(thread, text):
    return f'{thread} pwrite64({WAL}, "{text}", 4096, 56) = 4096'


def sync(thread):
    return f"{thread} fdatasync({WAL}) = 0"


def send(thread, text):
    return f'{thread} sendto({SOCKET}, "{text}", 9, 0, NULL, 0) = 9'


BEGUN, ENDED = [f"2 fdatasync({WAL} <unfinished ...>"], ["2 <... fdatasync resumed>) = 0"]
OTHER_BEGUN, OTHER_ENDED = [f"3 fdatasync({WAL} <unfinished ...>"], ["3 <... fdatasync resumed>) = 0"]


@pytest.mark.parametrize(
    ("lines", "too_early", "others_open"),
    [
        pytest.param([write(2, "row a"), sync(2), send(1, "says a")], False, False, id="in order"),
        pytest.param([write(2, "row a"), send(1, "says a"), sync(2)], True, False, id="before the sync"),
        pytest.param([write(2, "row a"), *BEGUN, send(1, "says a"), *ENDED], True, False, id="during the sync"),
        pytest.param([write(2, "row a"), *BEGUN, *ENDED, send(1, "says a")], False, False, id="after a slow sync"),
        pytest.param(
            [write(2, "row a"), *OTHER_BEGUN, write(2, "rest of a"), *OTHER_ENDED, send(1, "says a")],
            True,
            False,
            id="a later write",
        ),
        pytest.param([write(2, "row a"), send(1, "says a")], True, False, id="no sync at all"),
        pytest.param([sync(2), write(2, "row a"), send(1, "says a")], True, False, id="a sync of something earlier"),
        pytest.param(
            [write(2, "row a"), sync(2), write(3, "row a, freed"), send(1, "says a"), sync(3)],
            *(False, True),
            id="another thread writes after it",
        ),
        pytest.param(
            [write(2, "row a"), write(3, "freed"), sync(3), send(1, "says a")], False, False, id="synced by another"
        ),
    ],
)
def test_the_recorder_tells_the_transaction_of_a_reply_from_those_of_others(lines, too_early, others_open):
    verdict = judge(lines, MARKS)
    assert verdict.reported == ["a"]
    assert (bool(verdict.too_early), bool(verdict.while_others_were_open)) == (too_early, others_open)
