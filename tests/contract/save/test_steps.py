"""Steps through the manager: names, the policy's interval, the spool, and servers of versions without steps."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from holdfast import CheckpointManager, HoldfastError, HoldfastWarning
from holdfast._spool.spool import Spool


def steps(manager):
    return [found["step"] for found in manager.checkpoints]


def test_a_step_names_the_checkpoint_and_is_among_its_facts(make_manager, directory):
    manager = make_manager()
    path = manager.save({}, epoch=3, step=12000)
    assert path.as_posix() == f"{directory}/checkpoint_epoch_0003_step_00012000.pt"
    assert manager.save({}, step=7).name == "checkpoint_step_00000007.pt"
    assert manager.save_best_if_improved({}, 0.5, step=8).name == "best_step_00000008.pt"
    assert steps(manager) == [12000, 7]
    assert manager.checkpoints[0]["metadata"] == {}


def test_every_so_many_steps_one_is_kept(make_manager):
    manager = make_manager(max_checkpoints=1, keep_every_steps=20)
    for step in range(0, 60, 10):
        manager.save({"step": step}, step=step)
    assert steps(manager) == [0, 20, 40, 50]


def test_a_manager_without_the_interval_removes_that_of_another_once_it_knows_the_server(make_manager):
    make_manager(max_checkpoints=1, keep_every_steps=10).save({}, step=10)
    manager = make_manager(max_checkpoints=1)
    manager.save({}, step=20)
    assert steps(manager) == [10, 20]
    manager.save({}, step=30)
    assert steps(manager) == [30]


@pytest.mark.parametrize(
    ("step", "error"), [("3", TypeError), (0.5, TypeError), (True, TypeError), (-1, ValueError)], ids=repr
)
def test_what_is_no_step_is_refused_before_anything_is_sent(make_manager, step, error):
    manager = make_manager()
    with pytest.raises(error, match="step"):
        manager.save({}, step=step)
    assert manager.checkpoints == []


@pytest.mark.parametrize("every", [0, -1, "10"], ids=repr)
def test_what_is_no_interval_is_refused(every):
    with pytest.raises((TypeError, ValueError), match="keep_every_steps"):
        CheckpointManager("runs/a", keep_every_steps=every)


def test_a_misspelt_step_is_warned_of(make_manager):
    with pytest.warns(HoldfastWarning, match=r"did you mean step=\?"):
        make_manager().save({}, stpe=4)


def test_steps_wait_in_the_spool(server, directory, spool, free_port):
    away = f"http://127.0.0.1:{free_port}"
    with pytest.warns(HoldfastWarning):
        CheckpointManager(directory, server=away, patience_s=0).save({"n": 1}, epoch=1, step=5)
    (item,) = Spool(spool).queue(away, directory).items()
    assert item.facts()["save"]["step"] == 5
    assert item.name == "checkpoint_epoch_0001_step_00000005.pt"


def test_a_manual_checkpoint_stays_beside_those_that_the_limits_keep(make_manager):
    manager = make_manager(max_checkpoints=1)
    manager.save({}, epoch=0, retention="manual")
    for epoch in range(1, 4):
        manager.save({}, epoch=epoch)
    assert [found["epoch"] for found in manager.checkpoints] == [0, 3]
    with pytest.raises(ValueError, match="'policy' or 'manual'"):
        manager.save({}, epoch=9, retention="forever")


class Old(BaseHTTPRequestHandler):
    """A server that takes down what it is asked, and answers nothing useful."""

    asked: ClassVar[list[dict]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(json.loads(body.partition(b"\n")[0]))
        self.send_response(422)
        self.send_header("Content-Type", "application/problem+json")
        answer = b'{"status": 422, "code": "invalid_request", "detail": "step: extra inputs are not permitted"}'
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def old():
    """The URL of a server of a version without steps."""
    Old.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Old) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_an_older_server_is_sent_nothing_that_it_does_not_know(old):
    manager = CheckpointManager("runs/a", server=old, spool_dir=None, on_unreachable="raise", patience_s=0)
    with pytest.raises(HoldfastError, match="extra inputs"):
        manager.save({}, epoch=1)
    (asked,) = Old.asked
    assert "step" not in asked
    assert asked["policy"].keys() == {"mode", "max_checkpoints", "max_best_checkpoints", "keep_every_epochs"}
