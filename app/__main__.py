"""The command line: ``holdfast-server serve``, ``reindex``, ``adopt``, ``fsck``, ``token``, ``openapi``."""

import sys
from collections.abc import Sequence

from app.failures import status_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. Errors are said in one line on standard error."""
    return status_of(lambda: _run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(words: list[str]) -> int:
    from app.commands import read  # here, so that an interruption while it is imported is quiet, too

    return read(words)()


if __name__ == "__main__":
    sys.exit(main())
