"""The disk fails at system calls of every change: the error is reported, and the server recovers by itself."""

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from tests.crash.harness.operations import OPERATIONS, Operation, Starting, everything_is_in_order, state
from tests.crash.harness.points import SEED, Record, prepared, record, sample
from tests.crash.harness.rounds import rounds
from tests.crash.harness.tracing import SYNCING, Tracer, needs_strace
from tests.support.live import LiveServer, eventually

pytestmark = needs_strace

EVERY = 10**6
FULL, BROKEN, BUSY = ("ENOSPC", "EDQUOT"), ("EIO", "EROFS"), ("EMFILE", "ENFILE")
ERRORS = {
    "openat": (*FULL, *BROKEN, *BUSY),
    "ftruncate": ("EIO",),
    "unlinkat": BROKEN,
    "rmdir": BROKEN,
    **dict.fromkeys(("mkdir", "mkdirat", "renameat", "rename", "linkat", "link"), (*FULL, *BROKEN)),
    **dict.fromkeys(("write", "pwrite64", "fallocate", *SYNCING), (*FULL, "EIO")),
}
CODES = {
    **dict.fromkeys(FULL, (507, "no_space")),
    **dict.fromkeys(BROKEN, (503, "disk_failed")),
    **dict.fromkeys(BUSY, (503, "overloaded")),
}
SQLITES = ("pwrite64", "fdatasync", "openat", "ftruncate")
"""Calls of SQLite's too, which does not tell all errors apart."""

Point = tuple[str, int, str, str]


def points(found: Record) -> list[Point]:
    """Every call with every error that it may give, once or from then on."""
    calls = sorted({*found.points(), *found.opened()})
    return [
        (name, number, error, more)
        for (name, number), more in itertools.product(calls, ("", "+"))
        for error in ERRORS.get(name, ("EIO",))
        if name != "write" or not more  # the event loop is woken by writing, too
    ]


@pytest.fixture
def own_server(tmp_path: Path):
    with LiveServer(tmp_path / "root", janitor_every_s="0.3", copy_catalog_every="0") as live:
        yield live


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_a_disk_that_fails_is_said_and_the_same_again_succeeds_once_it_works(tmp_path, operation):
    found = record(operation)
    wanted = rounds(3, EVERY)
    chosen = sample(operation, points(found), 3 * wanted)
    struck = 0
    for number, point in enumerate(chosen):
        if struck == wanted:  # the others are for calls that are not made again
            break
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with operation.server(folder / "root", janitor_every_s="0.3", copy_catalog_every="0") as server:
            try:
                struck += failing(server, operation, *point)
            except Exception as error:
                shown = f"{operation.name} at {point[0]} {point[1]}{point[3]} with {point[2]} (seed {SEED})"
                raise AssertionError(f"{shown}: {error!r}\n{server.log()[-4000:]}") from error
    assert struck >= min(wanted, len(chosen) / 2), f"most of these calls were not made again (seed {SEED}): {chosen}"


def failing(server: LiveServer, operation: Operation, call: str, count: int, error: str, more: str) -> bool:
    """Let it happen there, then let the disk work again, and look; whether a call has failed."""
    found = record(operation)
    ready = prepared(server, operation)
    when = f"{count}{more}"
    tracer, answer = operation.run(
        server, ready, lambda pid: Tracer.failing(pid, server.root.parent, call, error, when)
    )
    tracer.detach()
    if call == "write" and tracer.struck_elsewhere(server.root):
        return False
    struck = tracer.struck(server.root)
    if answer is None and isinstance(operation, Starting):  # it may refuse to continue
        server.restart()
    assert answer is not None or isinstance(operation, Starting)
    if answer is not None:
        told(answer, call, error)
    assert server.http.get("/health/live").is_success
    seen = whole(server, found)
    assert seen == found.after or answer is None or not answer.is_success
    again = operation.ask(server, ready)
    assert again.is_success or (operation.name, again.status_code) == ("delete", 410), again.text
    assert state(server) == found.after
    everything_is_in_order(server)
    server.restart()
    assert state(server) == found.after
    everything_is_in_order(server)
    return struck


def whole(server: LiveServer, found: Record) -> dict[str, Any]:
    """Return the state once the janitor has finished: all of the operation or nothing."""
    seen: list[Any] = []

    def looked() -> bool:
        with suppress(httpx.HTTPStatusError):  # bytes that are on their way
            seen[:] = [state(server)]
        return seen in ([found.before], [found.after])

    assert eventually(looked), seen
    return cast(dict[str, Any], seen[0])


def told(answer: httpx.Response, call: str, error: str) -> None:
    """It was done all the same, or the client can tell what was the matter."""
    if answer.is_success:
        return
    said = (answer.status_code, answer.json()["code"])
    if said != (503, "not_ready"):
        assert said in ({CODES[error], (503, "disk_failed")} if call in SQLITES else {CODES[error]})
    assert answer.headers.get("Retry-After") == {"overloaded": "1", "not_ready": "5"}.get(said[1])


@pytest.mark.parametrize("way", ["one request", "upload"])
def test_a_save_that_failed_after_its_seal_is_finished_when_it_is_repeated(tmp_path, way):
    """Also before the janitor comes."""
    operation = OPERATIONS["replace" if way == "one request" else "upload"]
    with LiveServer(tmp_path / "root", janitor_every_s="1000") as server:
        ready = prepared(server, operation)
        with Tracer.failing(server.process_id, tmp_path, "renameat", "EIO", "2"):
            assert operation.ask(server, ready).json()["code"] == "disk_failed"
        assert [path for path in server.incoming() if (incoming(server) / path / "manifest.json").exists()]
        assert operation.ask(server, ready).status_code == 200
        assert state(server) == record(operation).after
        everything_is_in_order(server)


def test_what_a_failed_save_was_to_replace_can_be_read_again_soon(own_server):
    operation = OPERATIONS["replace"]
    ready = prepared(own_server, operation)
    with Tracer.failing(own_server.process_id, own_server.root.parent, "linkat", "EIO", "1"):
        assert operation.ask(own_server, ready).json()["code"] == "disk_failed"
    assert whole(own_server, record(operation)) == record(operation).after


def test_a_question_for_which_too_much_is_open_is_refused_for_a_moment(own_server):
    content = f"/v1/checkpoints/{own_server.save('runs/a', b'bytes')['id']}/content"
    assert own_server.http.get(content).is_success
    with Tracer.failing(own_server.process_id, own_server.root.parent, "openat", "EMFILE", "1+"):
        answer = own_server.http.get(content)
    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "overloaded", "1")
    assert own_server.http.get(content).content == b"bytes"


def test_a_question_for_which_the_catalog_cannot_be_read_is_refused(own_server):
    saved = own_server.save("runs/a", b"bytes")
    own_server.restart()  # or what it wants to know might be in memory
    options = ["trace=pread64", "inject=pread64:error=EIO:when=1+"]
    with Tracer(own_server.process_id, own_server.root.parent, options):
        answer = own_server.http.get(f"/v1/checkpoints/{saved['id']}/chunks")
    assert (answer.status_code, answer.json()["code"]) == (503, "disk_failed")
    assert own_server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").is_success


def incoming(server: LiveServer) -> Path:
    return server.root / ".holdfast" / "incoming"
