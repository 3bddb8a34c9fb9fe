"""The exit statuses of the command, and the status for each error. Pure."""

from enum import IntEnum

from ..errors import (
    CheckpointNotFound,
    HoldfastError,
    IntegrityError,
    InvalidRequest,
    NotAllowed,
    OutOfSpace,
    ServerFailed,
    ServerUnreachable,
)


class Status(IntEnum):
    """The exit statuses of all commands; ``diff`` exits with 2 on any error."""

    DONE = 0
    """Done, or the answer is yes."""
    NO = 1
    """The answer is no, the server refused, or not everything was done."""
    MISUSE = 2
    """The command, a value or a name is invalid, or a required package is missing."""
    NOT_FOUND = 3
    """There is no such directory or checkpoint, or its bytes are gone."""
    NOT_ALLOWED = 4
    """The token is missing, wrong, or lacks permission."""
    UNREACHABLE = 5
    """The server did not answer, or it failed."""
    ALTERED = 6
    """The bytes are not those that were saved."""
    NO_SPACE = 7
    """The disk is full, or a quota is used up."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C."""


_BY_ERROR: tuple[tuple[type[Exception], Status], ...] = (
    (CheckpointNotFound, Status.NOT_FOUND),
    (NotAllowed, Status.NOT_ALLOWED),
    (ServerUnreachable, Status.UNREACHABLE),
    (ServerFailed, Status.UNREACHABLE),
    (IntegrityError, Status.ALTERED),
    (OutOfSpace, Status.NO_SPACE),
    (InvalidRequest, Status.MISUSE),
    (HoldfastError, Status.NO),
)
_CONFLICTS = {409, 412}


class Misuse(Exception):
    """The arguments of a command are invalid together."""


def status_of(error: Exception) -> Status:
    """Return the status for an error."""
    if isinstance(error, Misuse):
        return Status.MISUSE
    if isinstance(error, InvalidRequest) and error.status in _CONFLICTS and error.code != "several_files":
        return Status.NO
    if not isinstance(error, HoldfastError) and isinstance(error, ValueError):
        return Status.MISUSE
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), Status.NO)
