"""Failures of commands: one line on standard error and an exit status for scripts, never a traceback.

Classes of errors are imported only after an error, as the import takes longer than most commands.
"""

import os
import sys
from collections.abc import Callable

CANNOT_RUN = 2
DEFECT = 70
INTERRUPTED = 130
PIPE_CLOSED = 141
"""128 plus the number of SIGPIPE, as shells report it."""


def run(command: Callable[[], int]) -> int:
    """Run a command and return its exit status. In Python's development mode, unexpected errors are raised."""
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _stop_writing()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        print_to_stderr("interrupted")
        return INTERRUPTED
    except Exception as error:
        if lines := _known(error):
            print_to_stderr(*lines)
            return CANNOT_RUN
        if sys.flags.dev_mode:
            raise
        print_to_stderr(f"a defect: {type(error).__name__}: {error} (python -X dev -m app shows the traceback)")
        return DEFECT


def print_to_stderr(*lines: str) -> None:
    """Print lines on standard error, each after the name of the command."""
    for line in lines:
        print(f"holdfast-server: {' '.join(line.split())}", file=sys.stderr)


def _stop_writing() -> None:
    """Discard further output: the reader has gone, and the flush at exit must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _known(error: Exception) -> list[str]:
    """Describe an expected error; empty for a defect."""
    if usage := getattr(error, "format_message", None):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "holdfast-server"
        return [f"{usage()} Try '{path} --help'."]

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from app.catalog import CatalogError
    from app.core.errors import Refusal, StartupError
    from app.http.body import validation_errors
    from app.service.maintenance.adopt import CannotAdopt
    from app.settings import variable_of

    if isinstance(error, ValidationError):
        return [
            f"{variable_of(str(fault['loc'][0]), os.environ)}: {validation_errors.describe(fault)}"
            for fault in error.errors()
        ]
    if isinstance(error, SettingsError) and '"quotas"' in str(error):
        return ['HOLDFAST_QUOTAS: must be a JSON object of prefixes, as {"team/a": {"max_bytes": "2TB"}}']
    if isinstance(error, StartupError | CannotAdopt | SettingsError | CatalogError | Refusal | OSError):
        cause = getattr(error.__cause__, "orig", None)  # the message of the database
        return [f"{error}" + (f" ({cause})" if cause else "")]
    return []
