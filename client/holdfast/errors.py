"""What can go wrong, as Python's own families of errors plus a stable ``code``.

::

    HoldfastError
    ├── CheckpointNotFound   (FileNotFoundError)  no such directory, checkpoint or file; or it was removed
    ├── CheckpointExists     (FileExistsError)    pinned, newer, or the name is taken by something else
    ├── InvalidRequest       (ValueError)         a name, a value or a combination that the server refuses
    ├── ModeConflict         (ValueError)         the directory ranks in the other mode
    ├── NotImproved          (ValueError)         the metric is not better than the directory's best
    ├── NotAllowed           (PermissionError)    no token, a wrong one, or not there
    ├── OutOfSpace           (OSError)            the server's disk is full, or a quota
    ├── ServerUnreachable    (ConnectionError)    no answer, or a message was altered on its way
    ├── ServerFailed         (RuntimeError)       an answer that should not be
    ├── IntegrityError       (OSError)            bytes that are not those that were saved
    ├── UnsafeCheckpoint     (UnpicklingError)    it holds more than weights, which ``load`` does not allow by itself
    ├── UnreadableCheckpoint (RuntimeError)       torch cannot load it, here or at all
    └── MissingPackage       (ModuleNotFoundError) a package that this call needs is not installed

    HoldfastWarning          (UserWarning)        something to look at; nothing was lost
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any


class HoldfastError(Exception):
    """The base of all errors of this package.

    Attributes
    ----------
    code : str
        What went wrong, as a word that stays the same; the server's own where it refused.
    problem : mapping
        All that the server said (RFC 9457); empty where it said nothing.
    status : int or None
        The HTTP status of the answer; None where there was none.
    retry_after_s : float or None
        In how many seconds the server asks to be tried again, if it said so.
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
    """The server does not let this client do that."""

    code = "unauthorized"


class OutOfSpace(HoldfastError, OSError):
    """The server's disk is full, or a quota is used up."""

    code = "no_space"


class ServerUnreachable(HoldfastError, ConnectionError):
    """The server did not answer, or the connection broke or altered what was said."""

    code = "unreachable"


class ServerFailed(HoldfastError, RuntimeError):
    """The server gave an answer that it should not give."""

    code = "internal"


class IntegrityError(HoldfastError, OSError):
    """The bytes that came are not the bytes that were saved; they were not used."""

    code = "altered"


class UnsafeCheckpoint(HoldfastError, UnpicklingError):
    """The checkpoint holds objects beyond weights, which could run code while they are loaded."""

    code = "unsafe"


class UnreadableCheckpoint(HoldfastError, RuntimeError):
    """Torch cannot load the checkpoint: it is no state, or not for this machine."""

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
    """Something that the user should look at; nothing was lost."""


_BY_CODE: dict[str, type[HoldfastError]] = {
    "not_found": ServerFailed,
    "pinned": CheckpointExists,
    "name_taken": CheckpointExists,
    "foreign_file": CheckpointExists,
    "superseded": CheckpointExists,
    "mode_conflict": ModeConflict,
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
    """The error for a refusal; an unknown code is judged by its status.

    An answer without a code is not a Holdfast server's: above all its 404 must not pass for "no checkpoint yet", and
    its 401 is no refusal of a token. ``said`` is what it says.
    """
    error = _from_problem(status, problem, said)
    error.status, error.retry_after_s = status, retry_after_s
    return error


def _from_problem(status: int, problem: Mapping[str, Any], said: str) -> HoldfastError:
    if "code" not in problem:
        message = said or f"the answer with status {status} is not a Holdfast server's, but of something before it"
        return ServerFailed(message, code=f"http_{status}", problem=problem)
    code = str(problem["code"])
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ServerFailed)
    message = str(problem.get("detail") or f"the server answered with status {status}")
    if "token_prefix" in problem:  # out of reach must not pass for "no checkpoint yet"
        kind, message = NotAllowed, _out_of_reach(problem)
    if code == "not_found":  # of a route, not of a checkpoint
        message = f"{message}. The server has nothing at this path: see whether HOLDFAST_URL or server= is right"
    return kind(f"{message} [{code}]", code=code, problem=problem)


def _out_of_reach(problem: Mapping[str, Any]) -> str:
    prefix, directory = problem["token_prefix"], problem.get("directory", "")
    return (
        f"this token reaches {prefix!r} and what is below it, and {directory!r} is not there. Name a directory below "
        f"{prefix!r}, or set HOLDFAST_PREFIX to {prefix!r}, which is then put before every name."
    )


def warn(message: str) -> None:
    """Give a `HoldfastWarning` at the line outside this package that led here."""
    here = Path(__file__).parent
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and here in Path(frame.f_code.co_filename).parents:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, HoldfastWarning, stacklevel=level)


class Told:
    """What somebody was warned of, so that it is not said again."""

    def __init__(self) -> None:
        self._messages: set[str] = set()

    def once(self, message: str) -> None:
        """Warn, unless that was said before."""
        if message not in self._messages:
            self._messages.add(message)
            warn(message)
