"""Alarms of users amid saves and loads: their exceptions come out unchanged, even if a library converts them."""

import contextlib
import signal
import socket

import pytest
import torch

from holdfast import CheckpointManager
from holdfast._spool.spool import Spool
from tests.support.interruptions import Alarm

STATE = {"weights": torch.ones(1000)}


@pytest.fixture
def silent():
    """The URL of a server that takes connections and never answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def alarm(exception, seconds=0.3):
    def ring(*_):
        raise exception("rings")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def epochs_in(spool):
    return [item.facts()["save"]["epoch"] for queue in Spool(spool).queues() for item in queue.items()]


@pytest.mark.parametrize("exception", [TimeoutError, ConnectionError, Alarm])
@pytest.mark.parametrize("call", ["load_latest", "resume", "get_best_metric"])
def test_an_alarm_amid_a_read_comes_out(silent, directory, spool, exception, call):
    manager = CheckpointManager(directory, server=silent)
    with pytest.raises(exception, match="rings"), alarm(exception):
        getattr(manager, call)()


@pytest.mark.parametrize("exception", [TimeoutError, ConnectionError, Alarm])
def test_an_alarm_amid_a_save_comes_out_and_the_save_is_in_the_spool(silent, directory, spool, exception):
    manager = CheckpointManager(directory, server=silent)
    with pytest.raises(exception, match="rings"), alarm(exception):
        manager.save(STATE, epoch=1)
    assert epochs_in(spool) == [1]


@pytest.mark.filterwarnings("ignore::holdfast.errors.HoldfastWarning")
def test_a_save_after_an_alarm_is_not_taken_for_one_that_it_interrupts(directory, spool, free_port):
    manager = CheckpointManager(directory, server=f"http://127.0.0.1:{free_port}", patience_s=0.1)
    with alarm(TimeoutError, seconds=60):
        try:
            signal.raise_signal(signal.SIGALRM)
        except TimeoutError:
            manager.save(STATE, epoch=1)
    assert epochs_in(spool) == [1]
