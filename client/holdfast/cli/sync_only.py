"""The command without the extra ``cli``: only ``sync``, with the same options."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .._runtime.packages import install_command
from .commands import sync
from .statuses import Status

MISSING = (
    f"holdfast: this command needs the extra 'cli': {install_command('cli')} (only 'holdfast sync' works without it)"
)


def run(arguments: Sequence[str]) -> int:
    """Run ``sync``; for any other command, name the missing package."""
    if not arguments or arguments[0] != "sync":
        print(MISSING, file=sys.stderr)
        return Status.MISUSE
    found = parser().parse_args(arguments[1:])
    try:
        return sync.sync_all(
            spool=found.spool,
            server=found.server,
            token=found.token,
            token_file=found.token_file,
            only_list=found.list,
            retry_refused=found.retry_refused,
            patience_s=found.patience,
        )
    except KeyboardInterrupt:
        return Status.INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options of ``sync``."""
    made = argparse.ArgumentParser(prog="holdfast sync", description=sync.__doc__)
    made.add_argument("--spool", type=Path)
    made.add_argument("--server", metavar="URL")
    made.add_argument("--token")
    made.add_argument("--token-file", type=Path)
    made.add_argument("--list", action="store_true")
    made.add_argument("--retry-refused", action="store_true")
    made.add_argument("--patience", type=float, default=sync.PATIENCE_S, metavar="SECONDS")
    return made
