"""Exceptions at each line that a call comes to, raised by the handler of a signal, as Ctrl-C and alarms are.

came_out = outcomes(lambda: load(file), {module.__file__}, TimeoutError)
assert came_out == {TimeoutError}
"""

import signal
import sys
from collections.abc import Callable, Collection

MOST = 400
"""At so many of the lines of a call, at most, it is interrupted."""


class Alarm(Exception):
    """An exception of a user's own."""


EXCEPTIONS = [KeyboardInterrupt, SystemExit, MemoryError, TimeoutError, Alarm]


def lines(run: Callable[[], object], files: Collection[str]) -> int:
    """Count the lines of these files that a call executes."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    _traced(run, files, count)
    return counted[0]


def outcomes(
    run: Callable[[], object], files: Collection[str], interruption: type[BaseException]
) -> set[type[BaseException] | str]:
    """The types of what comes out of a call that is interrupted at each line; where nothing does, the line's number."""
    run()  # so that work done once in a process is done
    count, found = lines(run, files), set[type[BaseException] | str]()
    for number in range(1, count + 1, -(-count // MOST)):
        try:
            interrupted(run, files, number, interruption)
            found.add(f"nothing at line {number} of {count}")
        except BaseException as error:
            found.add(type(error))
    return found


def interrupted(
    run: Callable[[], object], files: Collection[str], number: int, interruption: type[BaseException]
) -> None:
    """Call a function, and interrupt it at a line, by its number among all that it comes to."""
    left = [number]

    def interrupt() -> None:
        left[0] -= 1
        if left[0] == 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)

    def handler(*_: object) -> None:
        raise interruption

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        _traced(run, files, interrupt)
    finally:
        signal.signal(signal.SIGUSR1, before)


def _traced(run: Callable[[], object], files: Collection[str], at_line: Callable[[], None]) -> None:
    def lines(frame: object, event: str, argument: object) -> object:
        if event == "line":
            at_line()
        return lines

    sys.settrace(lambda frame, event, argument: lines if frame.f_code.co_filename in files else None)  # type: ignore[arg-type,return-value]
    try:
        run()
    finally:
        sys.settrace(None)
