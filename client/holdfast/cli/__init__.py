"""The command ``holdfast``, for people and scheduled jobs without a training script.

Every command except ``sync`` needs the extra ``cli``: machines that train may have only the bare package.
Decides what a user types and reads, and the exit statuses.
May import everything of the client; the rest of the client never imports it.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; see `statuses`.

    Characters that a terminal or pipe cannot show are written as ``\xe9``, and stop no command.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # a stream of another kind, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    given = list(sys.argv[1:] if arguments is None else arguments)
    if find_spec("typer") is not None and find_spec("rich") is not None:
        from .app import run

        return run(given)
    from .sync_only import run as run_bare

    return run_bare(given)
