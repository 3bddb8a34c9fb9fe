"""holdfast watch: every event once, also after a broken connection; it ends on request."""

import json
import signal
import subprocess
import threading
from contextlib import contextmanager

import pytest

from holdfast._api import retry
from holdfast.cli.statuses import Status
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import PROJECT
from tests.support.terminal import HOLDFAST, heed_ctrl_c


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Shorten the waits between attempts."""
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.1)


@contextmanager
def watching(*arguments, **environment):
    """Run the command in its own process, with output that can be read as it arrives."""
    process = subprocess.Popen(
        [*HOLDFAST, "watch", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_past_events_of_a_prefix_in_their_order(holdfast, directory, server):
    found = server.save(directory, epoch=1)
    server.save(f"{directory}-other", epoch=1)
    server.http.patch(f"/v1/checkpoints/{found['id']}", json={"pinned": True})
    done = holdfast("watch", directory, "--since", 0, "--count", 2)
    assert done.status == 0
    path = f"{directory}/checkpoint_epoch_0001.pt"
    assert [row[1:] for row in done.rows] == [
        ["checkpoint.saved", path, "-"],
        ["checkpoint.changed", path, 'changed=["pinned"]'],
    ]
    first, second = (
        json.loads(line) for line in holdfast("watch", directory, "--since", 0, "-n", 2, "--json").said.splitlines()
    )
    assert (first["type"], first["checkpoint_id"], first["directory"]) == ("checkpoint.saved", found["id"], directory)
    [alone] = holdfast("watch", directory, "--since", first["id"], "-n", 1, "--json").said.splitlines()
    assert json.loads(alone) == second


def test_until_a_checkpoint_is_saved(holdfast, directory, server):
    server.http.put(f"/v1/directories/{directory}", json={"mode": "min"}).raise_for_status()
    server.save(directory, epoch=1)
    done = holdfast("watch", directory, "--since", 0, "--until-saved")
    assert [row[1] for row in done.rows] == ["directory.policy_changed", "checkpoint.saved"]
    assert done.status == 0


def test_it_ends_in_time(holdfast, directory):
    done = holdfast("watch", directory, "--timeout", 0.2)
    assert (done.status, done.raw, done.complaints) == (Status.NO, b"", "")


def test_no_event_is_lost_or_repeated_when_the_connection_breaks(holdfast, directory, server):
    for epoch in range(3):
        server.save(directory, epoch=epoch)
    seen = []

    def cut_after_the_second(up, piece):
        if not up and b"checkpoint.saved" in piece:
            seen.append(piece)
            return len(seen) == 1
        return False

    with Forwarder(server.url, watch=cut_after_the_second) as forwarder:
        timer = threading.Timer(0.5, server.save, [directory], {"epoch": 3})
        timer.start()
        done = holdfast("watch", directory, "--since", 0, "-n", 4, "--server", forwarder.url)
        timer.join()
    assert done.status == 0
    assert [row[2][-4] for row in done.rows] == list("0123")
    assert done.complaints.count("trying again") == 1


def test_nor_is_one_where_it_breaks_before_the_first_event(holdfast, directory, server):
    opened, pieces = threading.Event(), []

    def cut_at_the_first(up, piece):
        if not up and b"\nid: " in piece:
            opened.set()
        if not up and b"checkpoint.saved" in piece:
            pieces.append(piece)
            return len(pieces) == 1
        return False

    def save():
        assert opened.wait(DEADLINE_S)
        server.save(directory, epoch=1)

    with Forwarder(server.url, watch=cut_at_the_first) as forwarder:
        saver = threading.Thread(target=save)
        saver.start()
        done = holdfast("watch", directory, "-n", 1, "--server", forwarder.url)
        saver.join()
    assert (done.status, done.rows[0][2].rpartition("/")[2]) == (0, "checkpoint_epoch_0001.pt")
    assert len(pieces) == 2, "it was not cut off"
    assert done.complaints.count("trying again") == 1


def test_ctrl_c_ends_it_and_what_came_is_there(server, directory, monkeypatch):
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    server.save(directory, epoch=1)
    with watching(directory, "--since", "0") as process:
        assert "checkpoint_epoch_0001.pt" in process.stdout.readline()
        server.save(directory, epoch=2)
        assert "checkpoint_epoch_0002.pt" in process.stdout.readline(), "it comes at once"
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said, complaints) == (Status.INTERRUPTED, "", "")


def test_a_token_that_may_not(holdfast, guarded, monkeypatch):
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    assert holdfast("watch", "--server", guarded.url).status == Status.NOT_ALLOWED


def test_it_goes_on_after_the_catalog_was_rebuilt_and_says_so(own_server):
    own_server.save("runs/a", epoch=1)
    with watching("--since", "0", "--server", own_server.url) as process:
        assert "checkpoint_epoch_0001.pt" in process.stdout.readline()
        own_server.stop()
        (own_server.root / ".holdfast/catalog.db").unlink()
        own_server.start()
        assert "rebuilt" in process.stdout.readline()
        own_server.save("runs/a", epoch=2)
        assert "checkpoint_epoch_0002.pt" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=DEADLINE_S)
    assert complaints.count("the catalog was rebuilt") == 1


def test_an_id_that_is_of_no_event_is_refused(holdfast, directory, server):
    server.save(directory)
    done = holdfast("watch", directory, "--since", 2**52)
    assert (done.status, done.raw) == (Status.NOT_FOUND, b"")
    assert "No event of this server has the id" in done.complaints
