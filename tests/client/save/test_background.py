"""Background work: in order, a limited number at a time, and no error is lost."""

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from holdfast._save.background import WorkQueue
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """A gate that work waits for. It is open in the end, so that no thread is left behind."""
    event = threading.Event()
    yield event
    event.set()


def fail(text):
    raise ValueError(text)


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def give(background, what, work):
    with background.reserved_place():
        background.do(what, work)


def test_work_is_done_in_the_order_in_which_it_was_given():
    background, done = WorkQueue(3), []
    for number in range(50):
        give(background, str(number), lambda number=number: done.append(number))
    assert background.wait()
    assert done == list(range(50))


def test_what_waits_or_is_under_way_is_named(gate):
    background = WorkQueue(3)
    for what in "abc":
        give(background, what, gate.wait)
    assert background.pending == ["a", "b", "c"]
    gate.set()
    assert background.wait()
    assert background.pending == []


def test_waiting_has_an_end(gate):
    background = WorkQueue(1)
    give(background, "a", gate.wait)
    assert not background.wait(0.05)
    gate.set()
    assert background.wait(DEADLINE_S)


@pytest.mark.parametrize("threads", [1, 8])
def test_whoever_comes_when_there_is_no_room_waits(gate, threads):
    background, most = WorkQueue(2), []

    def come():
        with background.reserved_place():
            most.append(len(background.pending) + 1)
            background.do("more", gate.wait)

    for _ in range(2):
        come()
    others = [in_thread(come) for _ in range(threads)]
    assert not eventually(lambda: len(background.pending) > 2, 0.3)
    gate.set()
    for other in others:
        other.join(DEADLINE_S)
    assert background.wait(DEADLINE_S)
    assert len(most) == 2 + threads
    assert max(most) <= 2


def test_many_that_come_at_once_do_not_share_a_place(gate):
    background, inside, most = WorkQueue(2), [], []
    start = threading.Barrier(8)

    def come():
        start.wait(DEADLINE_S)
        with background.reserved_place():
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.01)  # as a snapshot takes a while
            background.do("more", inside.pop)

    others = [in_thread(come) for _ in range(8)]
    for other in others:
        other.join(DEADLINE_S)
    assert background.wait(DEADLINE_S)
    assert max(most) <= 2


def test_a_place_is_free_again_where_its_work_could_not_be_given():
    background = WorkQueue(1)
    with pytest.raises(ValueError, match="no snapshot"), background.reserved_place():
        fail("no snapshot")
    done = threading.Event()
    in_thread(lambda: give(background, "a", done.set))
    assert done.wait(DEADLINE_S)


def test_every_error_is_raised_once_in_order_with_a_note_of_what_it_happened_to():
    background = WorkQueue(3)
    for what in "ab":
        give(background, what, lambda what=what: fail(f"no {what}"))
    give(background, "c", lambda: None)
    assert background.wait(DEADLINE_S)
    for what in "ab":
        with pytest.raises(ValueError, match=f"no {what}") as caught:
            background.raise_error()
        assert any(what in note for note in caught.value.__notes__)
    background.raise_error()


def test_all_errors_can_be_raised_as_one():
    background = WorkQueue(3)
    for what in "abc":
        give(background, f"file {what}", lambda what=what: fail(f"no {what}"))
    assert background.wait(DEADLINE_S)
    with pytest.raises(ValueError, match="no a") as caught:
        background.raise_errors()
    told = "\n".join(caught.value.__notes__)
    assert all(text in told for text in ("file a", "no b", "file b", "no c", "file c"))
    background.raise_errors()
    background.raise_error()


def test_after_an_error_the_next_piece_of_work_is_done():
    background, done = WorkQueue(2), threading.Event()
    give(background, "a", lambda: fail("no"))
    give(background, "b", done.set)
    assert done.wait(DEADLINE_S)
    with pytest.raises(ValueError, match="no"):
        background.raise_errors()


def test_work_that_comes_when_all_is_done_is_done_too():
    background, done = WorkQueue(1), []
    for number in range(200):
        give(background, str(number), lambda number=number: done.append(number))
        if number % 3 == 0:
            assert background.wait(DEADLINE_S)
    assert background.wait(DEADLINE_S)
    assert done == list(range(200))


def test_a_forked_child_waits_for_nothing_of_its_parents(gate):
    background = WorkQueue(1)
    give(background, "a", gate.wait)

    def child():
        assert background.pending == []
        assert background.wait(1)
        done = []
        give(background, "b", lambda: done.append(1))
        assert background.wait(DEADLINE_S)
        assert done == [1]

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    assert background.pending == ["a"]


def test_the_end_of_the_process_logs_errors_that_no_caller_was_given():
    told = """
import holdfast, logging
from holdfast._save.background import WorkQueue
def fail(text): raise ValueError(text)
background = WorkQueue(2)
for text in ("told", "untold"):
    with background.reserved_place():
        background.do(f"the file {text}", lambda text=text: fail(f"refused: {text}"))
background.wait()
try:
    background.raise_error()
except ValueError:
    pass
del background
"""
    ended = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    assert "refused: untold" in ended.stderr
    assert "the file untold" in ended.stderr
    assert "refused: told" not in ended.stderr
