"""Real processes that write one checkpoint together."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

_context = multiprocessing.get_context("spawn")


@pytest.fixture
def spawn() -> Iterator[Callable[..., BaseProcess]]:
    """Starts a function in a process of its own, as a rank of a job is; those that are left end with the test."""
    started: list[BaseProcess] = []

    def start(work: Callable[..., Any], *arguments: Any) -> BaseProcess:
        process = _context.Process(target=work, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


@pytest.fixture
def pipe() -> Any:
    """A pipe to a process."""
    return _context.Pipe()


@pytest.fixture
def queue() -> Any:
    """A queue from processes."""
    return _context.Queue()
