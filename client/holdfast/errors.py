"""Errors and warnings of the client: each belongs to one of Python's own families, and has a stable ``code``.

::

    HoldfastError
    ├── CheckpointNotFound   (FileNotFoundError)  no such directory, checkpoint or file, or it was removed
    ├── CheckpointExists     (FileExistsError)    pinned, newer, or the name is taken by something else
    ├── InvalidRequest       (ValueError)         a name, a value or a combination that the server refuses
    ├── ModeConflict         (ValueError)         the directory ranks in the other mode
    ├── NotImproved          (ValueError)         the metric is not better than the directory's best
    ├── NotAllowed           (PermissionError)    no token, a wrong one, or one without the right
    ├── IncompleteCheckpoint (RuntimeError)       a writer or a file of a shared save is missing
    ├── CommitTimeout        (TimeoutError)       a shared save was not committed in time
    ├── AttemptSuperseded    (RuntimeError)       a restarted job has taken a shared save over
    ├── OutOfSpace           (OSError)            the server's disk is full, or a quota
    ├── ServerUnreachable    (ConnectionError)    no answer, or a message was altered in transit
    ├── ServerFailed         (RuntimeError)       an unexpected answer
    ├── IntegrityError       (OSError)            the bytes are not those that were saved
    ├── UnsafeCheckpoint     (UnpicklingError)    objects beyond weights, which ``load`` refuses by default
    ├── UnreadableCheckpoint (RuntimeError)       torch cannot load it, on this machine or at all
    └── MissingPackage       (ModuleNotFoundError) a package that the call needs is not installed

    HoldfastWarning          (UserWarning)        something to check; nothing was lost
"""

import sys
import warnings
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any


class HoldfastError(Exception):
    """The base of all errors of this package.

    Attributes
    ----------
    code : str
        A stable word for what went wrong; the server's own code if the server refused.
    problem : mapping
        The server's problem document (RFC 9457); empty if there is none.
    status : int or None
        The HTTP status of the answer; None if there was no answer.
    retry_after_s : float or None
        The time, in seconds, after which the server asks for a retry; None if it names none.
    """

    code = "error"
    status: int | None = None
    retry_after_s: float | None = None

    def __init__(self, message: str, *, code: str | None = None, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.problem = dict(problem or {})


class CheckpointNotFound(HoldfastError, FileNotFoundError):
    """There is no such directory, checkpoint or file, or its bytes were removed."""

    code = "checkpoint_not_found"


class CheckpointExists(HoldfastError, FileExistsError):
    """The checkpoint is pinned, or its name is taken by something else."""

    code = "name_taken"


class InvalidRequest(HoldfastError, ValueError):
    """The server refuses a name, a value or a combination."""

    code = "invalid_request"


class ModeConflict(HoldfastError, ValueError):
    """The directory ranks in the other mode."""

    code = "mode_conflict"


class NotImproved(HoldfastError, ValueError):
    """The metric is not better than the directory's best."""

    code = "not_improved"


class NotAllowed(HoldfastError, PermissionError):
    """The server does not allow this client to do that."""

    code = "unauthorized"


class IncompleteCheckpoint(HoldfastError, RuntimeError):
    """A writer of a shared save is not ready, or a file of it is missing."""

    code = "writers_missing"


class CommitTimeout(HoldfastError, TimeoutError):
    """A shared save was not committed in time."""

    code = "not_committed"


class AttemptSuperseded(HoldfastError, RuntimeError):
    """A restarted job has taken a shared save over: this process is what is left of an earlier attempt."""

    code = "attempt_superseded"


class OutOfSpace(HoldfastError, OSError):
    """The server's disk is full, or a quota is used up."""

    code = "no_space"


class ServerUnreachable(HoldfastError, ConnectionError):
    """The server did not answer, or the connection broke or altered a message."""

    code = "unreachable"


class ServerFailed(HoldfastError, RuntimeError):
    """The server gave an unexpected answer."""

    code = "internal"


class IntegrityError(HoldfastError, OSError):
    """The received bytes are not the bytes that were saved; they were not used."""

    code = "altered"


class UnsafeCheckpoint(HoldfastError, UnpicklingError):
    """The checkpoint holds objects beyond weights, which could run code while they are loaded."""

    code = "unsafe"


class UnreadableCheckpoint(HoldfastError, RuntimeError):
    """Torch cannot load the checkpoint: it is not a state, or not one for this machine."""

    code = "unreadable"


class MissingPackage(HoldfastError, ModuleNotFoundError):
    """A package that the call or the checkpoint needs is not installed; the message says how to install it."""

    code = "missing_package"

    def __init__(
        self, message: str, *, name: str = "", code: str | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, code=code, problem=problem)
        self.name = name or None


class HoldfastWarning(UserWarning):
    """Something that the user should check; nothing was lost."""


_BY_CODE: dict[str, type[HoldfastError]] = {
    "not_found": ServerFailed,
    "pinned": CheckpointExists,
    "name_taken": CheckpointExists,
    "foreign_file": CheckpointExists,
    "superseded": CheckpointExists,
    "precondition_failed": CheckpointExists,
    "path_taken": CheckpointExists,
    "writers_missing": IncompleteCheckpoint,
    "files_missing": IncompleteCheckpoint,
    "attempt_superseded": AttemptSuperseded,
    "mode_conflict": ModeConflict,
    "policy_changed": InvalidRequest,
    "not_improved": NotImproved,
    "altered": IntegrityError,
    "record_unreadable": IntegrityError,
    "no_space": OutOfSpace,
    "body_altered": ServerUnreachable,
    "invalid_http": ServerUnreachable,
}
_BY_STATUS: dict[int, type[HoldfastError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: CheckpointNotFound,
    409: InvalidRequest,
    410: CheckpointNotFound,
    412: IntegrityError,
    413: InvalidRequest,
    422: InvalidRequest,
    507: OutOfSpace,
}


def from_problem(
    status: int, problem: Mapping[str, Any], retry_after_s: float | None = None, *, said: str = ""
) -> HoldfastError:
    """Make the error for a refusal; the status decides if the code is unknown.

    An answer without a code is not a Holdfast server's. Its 404 must not be taken for "no checkpoint yet", nor its 401
    for the refusal of a token.

    Parameters
    ----------
    said : str
        The text of such an answer.
    """
    error = _from_problem(status, problem, said)
    error.status, error.retry_after_s = status, retry_after_s
    return error


def _from_problem(status: int, problem: Mapping[str, Any], said: str) -> HoldfastError:
    if "code" not in problem:
        message = (
            said
            or f"the answer with status {status} comes from something in front of the Holdfast server, or in its place"
        )
        return ServerFailed(message, code=f"http_{status}", problem=problem)
    code = str(problem["code"])
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ServerFailed)
    message = str(problem.get("detail") or f"the server answered with status {status}")
    if "token_prefix" in problem:  # out of reach must not be taken for "no checkpoint yet"
        kind, message = NotAllowed, _out_of_reach(problem)
    if code == "not_found":  # of a route, not of a checkpoint
        message = f"{message}. The server has nothing at this path: check HOLDFAST_URL or server="
    return kind(f"{message} [{code}]", code=code, problem=problem)


def _out_of_reach(problem: Mapping[str, Any]) -> str:
    prefix, directory = problem["token_prefix"], problem.get("directory", "")
    return (
        f"this token reaches {prefix!r} and everything below it, and {directory!r} is outside. Name a directory below "
        f"{prefix!r}, or set HOLDFAST_PREFIX to {prefix!r}, which is then put before every name."
    )


def warn(message: str) -> None:
    """Give a `HoldfastWarning` at the line outside this package that led to the call."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    if frame.f_globals.get("__name__") == "threading":  # a thread of ours: no line of the user's led to it
        warnings.warn_explicit(message, HoldfastWarning, "holdfast", 1)
    else:
        warnings.warn(message, HoldfastWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    """Tell by its name if a module is of this package: a user's file may be in the same folder."""
    package = __name__.rpartition(".")[0]
    return module == package or module.startswith(f"{package}.")


class WarnOnce:
    """Gives each `HoldfastWarning` once: called with a message, it warns unless it was called with that before."""

    def __init__(self) -> None:
        self._messages: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._messages:
            self._messages.add(message)
            warn(message)
