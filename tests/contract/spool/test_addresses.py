"""One server under several URLs: checkpoints that wait for one URL are resumed and delivered by another."""

import json
import subprocess
import sys
import warnings

import pytest

from holdfast import CheckpointManager, HoldfastWarning
from holdfast._api import identity
from holdfast._api.retry import CircuitBreaker
from holdfast._api.server import Server
from holdfast._spool.courier import Courier
from holdfast._spool.spool import Spool
from holdfast._torchfile.writer.layout import layout_of
from tests.data.pieces import save_of
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder
from tests.support.live import PROJECT, eventually

DIRECTORY = "runs/a"


def elsewhere(server):
    """Return the URL of the same server by another name of this machine."""
    return server.url.replace("127.0.0.1", "localhost")


def new_process():
    """Forget what a process knows, as if the next one had started."""
    identity.forget()
    CircuitBreaker._known.clear()
    Courier._all.clear()


def put(spool, url, epoch, **more):
    save = {**save_of(epoch), "directory": DIRECTORY, **more}
    return Spool(spool).queue(url, DIRECTORY).put(save, layout_of({"n": epoch}))


def manager_of(url, **options):
    return CheckpointManager(DIRECTORY, None, server=url, **{"patience_s": 0.1, **options})


def silently(do):
    with warnings.catch_warnings(action="error"):
        return do()


def name(epoch):
    return f"checkpoint_epoch_{epoch:04d}.pt"


def delivered(server):
    """Return the names of all checkpoints of the server, in the order of its commits."""
    query = {"directory": DIRECTORY, "include_removed": True, "page_size": 1000}
    found = server.http.get("/v1/checkpoints", params=query).json().get("checkpoints", [])
    return [each["name"] for each in sorted(found, key=lambda each: each["sequence"])]


def is_empty(spool):
    return not Spool(spool).queues()


def sync(*options, **environment):
    """Run ``holdfast sync``."""
    command = [sys.executable, "-m", "holdfast.cli", "sync", *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, env=environment)


# one server


def test_what_waits_under_another_url_is_resumed_from_and_delivered(own_server, spool):
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="checkpoints are kept in"):
        manager_of(elsewhere(own_server), drain_s=0.0).save({"n": 41}, epoch=41)
    new_process()
    own_server.start()
    manager = manager_of(own_server.url)
    assert silently(manager.resume) == {"n": 41}
    assert eventually(lambda: delivered(own_server) == [name(41)])
    assert eventually(lambda: is_empty(spool))


@pytest.mark.parametrize("background", [False, True])
def test_the_first_save_under_another_url_follows_what_waits_without_a_resume(own_server, spool, background):
    put(spool, elsewhere(own_server), 1)
    with manager_of(own_server.url, background=background) as manager:
        manager.save({"n": 2}, epoch=2)
        manager.save({"n": 3}, epoch=3)
    assert eventually(lambda: delivered(own_server) == [name(1), name(2), name(3)])


def test_a_first_save_does_not_wait_for_what_waits_for_a_server_that_is_away(own_server, spool, free_port):
    put(spool, f"http://127.0.0.1:{free_port}", 1)
    manager_of(own_server.url).save({"n": 2}, epoch=2)
    assert delivered(own_server) == [name(2)]


def test_a_queue_is_known_by_its_server_although_its_url_leads_nowhere_any_more(own_server, spool, free_port):
    url, dead = own_server.url, f"http://127.0.0.1:{free_port}"
    assert Server(url).identify() is not None
    identity.learn(dead, {identity.FIELD: identity.of(url)})  # it was there when that was recorded
    put(spool, dead, 7)
    new_process()
    assert silently(manager_of(url).resume) == {"n": 7}
    assert eventually(lambda: delivered(own_server) == [name(7)])


def test_a_save_teaches_a_queue_whose_it_is(own_server, spool):
    manager_of(own_server.url).save({"n": 1}, epoch=1)
    about = json.loads((Spool(spool).queue(own_server.url, DIRECTORY).folder / "queue.json").read_text())
    assert about["server_id"] == own_server.http.get("/v1/info").json()["server_id"]


def test_while_the_server_is_away_the_newest_of_all_its_urls_is_found(own_server, spool):
    for url in (own_server.url, elsewhere(own_server)):
        assert Server(url).identify() is not None
    put(spool, own_server.url, 1)
    put(spool, elsewhere(own_server), 2)
    new_process()
    own_server.kill()
    assert silently(manager_of(own_server.url, drain_s=0.0).resume) == {"n": 2}
    assert silently(manager_of(elsewhere(own_server), drain_s=0.0).resume) == {"n": 2}


@pytest.mark.parametrize("is_older_elsewhere", [True, False])
def test_queues_of_one_server_are_delivered_one_after_the_other_the_older_first(own_server, spool, is_older_elsewhere):
    urls = [elsewhere(own_server), own_server.url]
    for url in urls:
        assert Server(url).identify() is not None
    first, second = urls if is_older_elsewhere else reversed(urls)
    for epoch, url in enumerate([first, first, second, second], start=1):
        put(spool, url, epoch)
    with manager_of(own_server.url) as manager:
        manager.save({"n": 5}, epoch=5)  # it queues behind all of them
        assert len(manager.pending) <= 5
    assert eventually(lambda: delivered(own_server) == [name(epoch) for epoch in range(1, 6)])
    assert manager.resume() == {"n": 5}


def test_what_waits_under_two_urls_that_were_never_reached_is_delivered_in_the_order_of_saving(
    own_server, spool, monkeypatch
):
    monkeypatch.setattr(identity, "PATIENCE_S", DEADLINE_S)  # what answers too late is not known to be the same
    own_server.kill()
    urls = [own_server.url, elsewhere(own_server)]
    managers = [manager_of(url, spool_dir=spool, drain_s=0.2) for url in urls]
    for epoch in range(1, 9):
        with warnings.catch_warnings(action="ignore"):
            managers[epoch % 2].save({"n": epoch}, epoch=epoch)
    assert all(identity.of(url) is None for url in urls)
    own_server.start()
    managers[0].save({"n": 9}, epoch=9)
    assert eventually(lambda: is_empty(spool))
    assert delivered(own_server) == [name(epoch) for epoch in range(1, 10)]
    assert managers[1].load_latest() == {"n": 9}


def test_nothing_is_delivered_before_the_server_has_said_which_queues_are_its_own(own_server, spool):
    asked = []

    def is_away(up, piece):  # as a server that comes back just after it was asked for its id
        if up and piece.startswith(b"GET /v1/info"):
            asked.append(piece)
        return up and piece.startswith(b"GET /v1/info") and len(asked) <= 2

    with Forwarder(own_server.url, watch=is_away) as forwarder:
        for epoch in range(1, 7):
            put(spool, [own_server.url, forwarder.url][epoch % 2], epoch)
        with manager_of(forwarder.url) as manager, warnings.catch_warnings(action="ignore"):
            manager.save({"n": 7}, epoch=7)
        assert eventually(lambda: is_empty(spool))
    assert delivered(own_server) == [name(epoch) for epoch in range(1, 8)]


def test_a_save_follows_what_came_to_wait_under_another_url_meanwhile(own_server, spool):
    manager = manager_of(own_server.url)
    manager.save({"n": 1}, epoch=1)
    assert Server(elsewhere(own_server)).identify() is not None
    put(spool, elsewhere(own_server), 2)
    with manager:
        manager.save({"n": 3}, epoch=3)
    assert eventually(lambda: is_empty(spool))
    assert delivered(own_server) == [name(1), name(2), name(3)]


def test_several_processes_deliver_what_waits_under_two_urls_in_the_order_of_saving(own_server, spool):
    urls = [own_server.url, elsewhere(own_server)]
    for epoch in range(1, 25):
        put(spool, urls[epoch % 2], epoch)
    program = "import sys, holdfast; holdfast.CheckpointManager(sys.argv[1], None, server=sys.argv[2]).close(30)"
    children = [subprocess.Popen([sys.executable, "-c", program, DIRECTORY, url], cwd=PROJECT) for url in urls]
    assert [child.wait(DEADLINE_S) for child in children] == [0, 0]
    assert is_empty(spool)
    assert delivered(own_server) == [name(epoch) for epoch in range(1, 25)]


@pytest.mark.parametrize("is_server_given", [False, True])
def test_sync_delivers_what_waits_under_two_urls_in_the_order_of_saving(own_server, spool, is_server_given):
    urls = [own_server.url, elsewhere(own_server)]
    for epoch in range(1, 7):
        put(spool, urls[epoch % 2], epoch)
    done = sync(*(["--server", urls[1]] if is_server_given else []), HOLDFAST_SPOOL=str(spool))
    assert done.returncode == 0, done.stderr
    assert delivered(own_server) == [name(epoch) for epoch in range(1, 7)]


def test_a_server_that_was_away_is_asked_again_who_it_is(own_server):
    url = own_server.url
    own_server.kill()
    assert Server(url).identify() is None
    assert identity.is_unknowable(url)
    own_server.start()
    assert eventually(lambda: Server(url).identify() is not None)


def test_sync_delivers_through_the_url_at_which_the_server_is(own_server, spool, free_port):
    dead = f"http://127.0.0.1:{free_port}"
    assert Server(own_server.url).identify() is not None
    identity.learn(dead, {identity.FIELD: identity.of(own_server.url)})
    put(spool, dead, 3)
    done = sync(HOLDFAST_URL=own_server.url, HOLDFAST_SPOOL=str(spool))
    assert (done.returncode, delivered(own_server)) == (0, [name(3)]), done.stderr


def test_a_cleanup_clears_what_waits_under_another_url(own_server, spool):
    put(spool, elsewhere(own_server), 1)
    manager_of(own_server.url).cleanup_all()
    assert is_empty(spool)


# two servers


def test_two_servers_are_never_mixed(own_server, make_server, spool):
    other = make_server()
    assert Server(other.url).identify() != Server(own_server.url).identify()
    put(spool, other.url, 9)
    new_process()
    manager = manager_of(own_server.url)
    assert silently(manager.resume) is None
    manager.save({"n": 1}, epoch=1)
    manager.close()
    assert manager._saver.target.courier._idle.wait(DEADLINE_S)
    assert (delivered(own_server), delivered(other)) == ([name(1)], [])
    assert [queue.server for queue in Spool(spool).queues()] == [other.url]


def test_what_waits_for_a_server_that_nobody_has_reached_is_named_and_left_alone(own_server, spool, free_port):
    put(spool, f"http://127.0.0.1:{free_port}", 9)
    with pytest.warns(HoldfastWarning, match=r"wait in \S+ for http://\S+, and are not considered"):
        assert manager_of(own_server.url).resume() is None
    assert delivered(own_server) == []
    assert not is_empty(spool)


def test_no_token_goes_to_another_url(make_server, spool):
    guarded = make_server(admin_token="secret-0123456789")
    server = Server(guarded.url, "secret-0123456789")
    assert server.elsewhere(elsewhere(guarded)).token is None
    put(spool, elsewhere(guarded), 4)
    assert silently(manager_of(guarded.url, token="secret-0123456789").resume) == {
        "n": 4
    }  # a refusal gives the id, too
