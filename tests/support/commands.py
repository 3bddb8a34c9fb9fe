"""Commands of the server run in this process, before a real terminal or into pipes."""

import io
import os
import pty
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from app.__main__ import main


class Done(NamedTuple):
    """The exit status of a command and its output."""

    status: int
    out: str
    err: str


def piped(*words: object) -> Done:
    """Run a command whose output goes into pipes."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(word) for word in words])
    return Done(status, out.getvalue(), err.getvalue())


def seen(*words: object, columns: int = 100, **environment: str) -> tuple[int, str]:
    """Run a command before a terminal of its own: its status and all that the terminal was sent."""
    with _terminal(columns) as (stream, said):
        variables = {"TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
        with patch.dict(os.environ, variables), redirect_stdout(stream), redirect_stderr(stream):
            for name in {"NO_COLOR", "FORCE_COLOR", "CI"} - set(environment):
                os.environ.pop(name, None)
            status = main([str(word) for word in words])
    return status, b"".join(said).decode()


@contextmanager
def _terminal(columns: int) -> Iterator[tuple[io.TextIOWrapper, list[bytes]]]:
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (50, columns))
    said: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(outer, 65536):
                said.append(data)
        except OSError:  # Linux's error for a terminal whose other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(inner, "w", encoding="utf-8", errors=sys.stdout.errors) as stream:
            yield stream, said
    finally:
        reader.join()
        os.close(outer)
