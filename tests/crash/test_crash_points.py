"""The server killed at system calls of everything that changes something: all of it is there afterwards, or nothing."""

from collections.abc import Iterator

import httpx
import pytest

from tests.crash.harness import operations
from tests.crash.harness.operations import ELSEWHERE, NEW, OLD, OPERATIONS, Operation, state
from tests.crash.harness.points import SEED, prepared, record, sample
from tests.crash.harness.rounds import rounds
from tests.crash.harness.tracing import Tracer, needs_strace
from tests.support.live import LiveServer

pytestmark = needs_strace

EVERY = 10**6


@pytest.fixture
def own_server(tmp_path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path / "root") as live:
        live.save(ELSEWHERE, OLD, name="kept.pt")
        yield live


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_what_was_interrupted_is_all_or_nothing_and_can_be_repeated(tmp_path, operation):
    found = record(operation)
    assert len(found.points()) > 10, found.calls
    chosen = sample(operation, [(*point, 0) for point in found.points()], rounds(2, EVERY))
    chosen += sample(operation, found.hidden(), rounds(1, EVERY))
    killed = 0
    for number, (call, count, rank) in enumerate(chosen):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with operation.server(folder / "root") as server:
            try:
                killed += interrupted(server, operation, call, count, rank)
            except Exception as error:
                raise AssertionError(f"killed at {call} {count}, thread {rank} (seed {SEED}): {error}") from error
    assert killed > len(chosen) / 2, "most of these calls were not made again"


def interrupted(server: LiveServer, operation: Operation, call: str, count: int, rank: int) -> bool:
    """Kill the server there, start it again, and look; whether it was killed."""

    def attach(process_id: int) -> Tracer:
        if rank:
            return Tracer.killing_later(process_id, server.root.parent, call, count, rank)
        return Tracer.killing(process_id, server.root.parent, call, count)

    found = record(operation)
    ready = prepared(server, operation)
    tracer, answer = operation.run(server, ready, attach)
    died = answer is None
    try:
        if not died:
            server.wait_until_freed()  # some of it is done after the answer
    except httpx.TransportError:
        died = True
    if died:
        tracer.wait()
    tracer.detach()
    server.restart()
    seen = state(server)
    assert seen in (found.before, found.after)
    assert seen == found.after or answer is None or not answer.is_success
    again = operation.ask(server, ready)
    assert again.is_success or (operation.name, again.status_code) == ("delete", 410), again.text
    assert state(server) == found.after
    operations.everything_is_in_order(server)
    return died


# the exact state after some of them


class Killer:
    """Kills a server at the n-th call of a system call from now on."""

    def __init__(self, server: LiveServer, call: str, count: int) -> None:
        self._tracer = Tracer.killing(server.process_id, server.root.parent, call, count)
        self.wait = self._tracer.wait


def save(server, data, **query):
    return server.http.post("/v1/checkpoints", params={"directory": "runs/a", **query}, content=data)


def content(server, name):
    (found,) = server.http.get("/v1/checkpoints", params={"directory": "runs/a", "name": name}).json()["checkpoints"]
    return server.http.get(f"/v1/checkpoints/{found['id']}/content").content


def everything_is_in_order(server, kept):
    """Rows, manifests and files agree, and nothing is left over."""
    assert {name: contents[name] for name, (_, contents) in list(state(server).items())[1:]} == kept
    operations.everything_is_in_order(server)


@pytest.mark.parametrize(
    ("call", "count", "survives"),
    [
        pytest.param("fdatasync", 1, False, id="while it is reserved"),
        pytest.param("linkat", 1, True, id="before its file is in place"),
        pytest.param("renameat", 2, True, id="before its manifest is in place"),
        pytest.param("fdatasync", 2, True, id="before it is recorded"),
    ],
)
def test_a_first_save(own_server, call, count, survives):
    assert save(own_server, OLD, name="old.pt").status_code == 201
    killer = Killer(own_server, call, count)
    with pytest.raises(httpx.TransportError):
        save(own_server, NEW, name="new.pt", save_id="the-new-one")
    killer.wait()
    own_server.restart()
    if survives:
        everything_is_in_order(own_server, {"old.pt": OLD, "new.pt": NEW})
    again = save(own_server, NEW, name="new.pt", save_id="the-new-one")
    assert again.status_code == (200 if survives else 201), again.text
    everything_is_in_order(own_server, {"old.pt": OLD, "new.pt": NEW})


@pytest.mark.parametrize(
    ("call", "count", "after"),
    [
        pytest.param("fdatasync", 1, OLD, id="while it is reserved"),
        pytest.param("renameat", 2, NEW, id="before the old file is set aside"),
        pytest.param("renameat", 3, NEW, id="before the old manifest is set aside"),
        pytest.param("linkat", 1, NEW, id="before the new file is in place"),
        pytest.param("renameat", 4, NEW, id="before the new manifest is in place"),
        pytest.param("fdatasync", 2, NEW, id="before it is recorded"),
        pytest.param("unlinkat", 1, NEW, id="before what it left behind is cleared away"),
    ],
)
def test_a_save_that_replaces(own_server, call, count, after):
    assert save(own_server, OLD, name="x.pt").status_code == 201
    killer = Killer(own_server, call, count)
    with pytest.raises(httpx.TransportError):
        save(own_server, NEW, name="x.pt", save_id="the-new-one")
    killer.wait()
    own_server.restart()
    assert content(own_server, "x.pt") == after
    assert save(own_server, NEW, name="x.pt", save_id="the-new-one").status_code == (200 if after == NEW else 201)
    everything_is_in_order(own_server, {"x.pt": NEW})


@pytest.mark.parametrize("count", [1, 2])
def test_a_removal(own_server, count):
    """Once marked it is finished at the next start, whatever it had come to."""
    assert save(own_server, OLD, name="old.pt").status_code == 201
    assert save(own_server, NEW, name="new.pt").status_code == 201
    killer = Killer(own_server, "renameat", count)
    old = own_server.http.get("/v1/checkpoints", params={"directory": "runs/a", "name": "old.pt"}).json()
    with pytest.raises(httpx.TransportError):
        own_server.http.delete(f"/v1/checkpoints/{old['checkpoints'][0]['id']}")
    killer.wait()
    own_server.restart()
    everything_is_in_order(own_server, {"new.pt": NEW})


@pytest.mark.parametrize(
    ("call", "count", "is_recorded"),
    [
        pytest.param("fdatasync", 1, False, id="while it is recorded"),
        pytest.param("linkat", 1, True, id="before its file is in place"),
        pytest.param("renameat", 1, True, id="before its manifest is in place"),
        pytest.param("unlinkat", 2, True, id="before its place in the trash is cleared away"),
        pytest.param("fdatasync", 2, True, id="before its manifest is known to be right"),
    ],
)
def test_a_restoration(tmp_path, call, count, is_recorded):
    """Once recorded it is finished at the next start, and leaves nothing in the trash."""
    with LiveServer(tmp_path / "root", undo_window="1h") as server:
        server.save(ELSEWHERE, OLD, name="kept.pt")
        gone = server.save("runs/a", OLD, name="old.pt")["id"]
        assert save(server, NEW, name="new.pt").status_code == 201
        server.http.delete(f"/v1/checkpoints/{gone}").raise_for_status()
        killer = Killer(server, call, count)
        with pytest.raises(httpx.TransportError):
            server.http.post(f"/v1/checkpoints/{gone}/restore")
        killer.wait()
        server.restart()
        if is_recorded:
            everything_is_in_order(server, {"old.pt": OLD, "new.pt": NEW})
        assert server.http.post(f"/v1/checkpoints/{gone}/restore").status_code == 200
        everything_is_in_order(server, {"old.pt": OLD, "new.pt": NEW})
