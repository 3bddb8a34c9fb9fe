"""State of one process: a forked child keeps the memory of its parent, but owns none of its objects."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import holdfast
from holdfast._runtime.forks import Owner, ProcessLocal

CLIENT = Path(holdfast.__file__).parent


def in_a_forked_child(claim):
    """Tell if a claim holds in a child that is forked now."""
    child = os.fork()
    if child == 0:
        os._exit(0 if claim() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_object_belongs_to_the_process_that_made_it():
    owner = Owner()
    assert owner.is_this_process
    assert in_a_forked_child(lambda: not owner.is_this_process)
    assert in_a_forked_child(lambda: Owner().is_this_process)


def test_a_child_has_a_value_of_its_own_and_its_parent_keeps_the_old_one():
    known = ProcessLocal(list)
    known.get().append("the parent's")
    assert in_a_forked_child(lambda: known.get() == [] and known.get() is known.get())
    assert known.get() == ["the parent's"]


def test_a_value_is_made_when_it_is_first_asked_for():
    made = []
    known = ProcessLocal(lambda: made.append(1) or len(made))
    assert made == []
    assert [known.get(), known.get()] == [1, 1]
    known.clear()
    assert known.get() == 2


def test_threads_that_ask_at_the_same_time_get_the_same_value():
    threads = 8
    together = threading.Barrier(threads)
    known = ProcessLocal(object)

    def ask(_):
        together.wait()
        return known.get()

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(200):
            known.clear()
            assert len(set(pool.map(ask, range(threads)))) == 1


CALLBACK = """
import os
from holdfast._runtime.forks import after_fork_in_child

@after_fork_in_child
def note():
    print("called in", "child" if os.getpid() != parent else "parent", flush=True)

parent = os.getpid()
for _ in range(2):
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
note()
"""


def test_a_callback_is_called_in_every_child_and_stays_a_function():
    done = subprocess.run([sys.executable, "-c", CALLBACK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["called in child", "called in child", "called in parent"]


def test_no_other_module_registers_for_forks():
    """All modules use the one that explains forks."""
    assert [path.name for path in CLIENT.rglob("*.py") if "register_at_fork" in path.read_text()] == ["forks.py"]
