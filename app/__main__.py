"""The command line: ``holdfast-server serve``, ``reindex``, ``adopt``, ``fsck``, ``token``, ``openapi``."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from app.cli.exits import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. Errors are one line on standard error.

    Characters that a terminal or pipe cannot encode are written as ``\\xe9``, so that no command fails on them.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # a stream of another kind, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return run(lambda: _run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(words: list[str]) -> int:
    from app.cli.commands import read  # imported here, so that an interruption of the import is handled as well

    return read(words)()


if __name__ == "__main__":
    sys.exit(main())
