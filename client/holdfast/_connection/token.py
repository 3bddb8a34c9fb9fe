"""The bearer token of a client, given directly or by a file that is read again when it changes. Never shown."""

import logging
import os
import stat
from pathlib import Path
from typing import Self

from blake3 import blake3

from .._arguments import checks
from .._runtime.interruption import reraise
from .._runtime.redaction import looks_secret, shown_name
from ..errors import HoldfastError, InvalidRequest
from .base_url import CODE

_LARGEST_BYTES = 64 * 1024
_Version = tuple[int, int, int, int]

log = logging.getLogger("holdfast")


class Token:
    """A token, or none; `value` is the one to use now.

    A file that has been read once may vanish, be emptied or be half written: the last token stays in use then.

    Parameters
    ----------
    value : str, optional
        The token itself.
    file : Path, optional
        A file that holds it, such as a mounted secret.
    source : str
        The setting that says so, for messages.
    """

    def __init__(self, value: str | None = None, file: Path | None = None, source: str = "token") -> None:
        self._source = source
        self._file = file
        self._version: _Version | None = None
        self._complained: str | None = None
        self._value = _cleaned(value, source) if value is not None else None
        if file is not None:
            try:
                self._value, self._version = _read(file, source)
            except OSError as error:
                reraise(error)
                raise InvalidRequest(_unreadable(file, source, error), code=CODE) from None

    @classmethod
    def of(cls, token: str | None = None, file: str | os.PathLike[str] | None = None) -> Self:
        """Return the token that is given, else the one that the environment names.

        The order is ``token``, ``file``, ``HOLDFAST_TOKEN``, ``HOLDFAST_TOKEN_FILE``.

        Raises
        ------
        InvalidRequest
            The token is invalid, both keywords are given, or the file is absent or empty.
        """
        if token is not None and not isinstance(token, str):
            raise InvalidRequest(f"token must be a str, not {type(token).__name__}", code=CODE)
        given = (token or "").strip()
        if given and file:
            raise InvalidRequest("token and token_file are both given; only one can be used", code=CODE)
        if given:
            return cls(given, source="token")
        if file:
            return cls(file=Path(checks.path("token_file", file)).expanduser(), source="token_file")
        if named := os.environ.get("HOLDFAST_TOKEN", "").strip():
            return cls(named, source="HOLDFAST_TOKEN")
        if place := os.environ.get("HOLDFAST_TOKEN_FILE", "").strip():
            return cls(file=Path(place).expanduser(), source="HOLDFAST_TOKEN_FILE")
        return cls()

    def __repr__(self) -> str:
        return f"<token of {self._source}>" if self._value else "<no token>"

    @property
    def value(self) -> str | None:
        """The token to use now; read again if its file has changed."""
        if self._file is not None and self._seen() not in {None, self._version}:
            self._read_again()
        return self._value

    @property
    def key(self) -> str:
        """A key for this token or its file that reveals nothing of the token."""
        if self._file is not None:
            return f"file:{self._file.absolute()}"
        return blake3(self._value.encode()).hexdigest() if self._value else ""

    @property
    def advice(self) -> str:
        """The advice for a token that is no longer accepted."""
        if self._file is not None:
            return f"put a new token into {self._file}: it is read again when it changes"
        return "restart the job with a new token, or use HOLDFAST_TOKEN_FILE, which is read again when it changes"

    def renew(self, used: str | None) -> bool:
        """Read the file again after a refusal; return True if the token has changed."""
        if self._file is not None:
            self._read_again()
        return self._value != used

    def _seen(self) -> _Version | None:
        assert self._file is not None
        try:
            return _version(self._file.stat())
        except OSError as error:
            reraise(error)
            return None

    def _read_again(self) -> None:
        assert self._file is not None
        seen = self._seen()
        try:
            self._value, self._version = _read(self._file, self._source)
            self._complained = None
        except (OSError, HoldfastError) as error:
            reraise(error)
            self._version = seen  # an unusable file is not read again at every request
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if why != self._complained:
                self._complained = why
                log.warning("%s cannot be read again (%s); the last token stays in use", self._file, why)


def _unreadable(file: Path, source: str, error: OSError) -> str:
    """Return the message for an unreadable file; a path that looks like the token itself is not repeated."""
    if looks_secret(str(file)):
        return f"{source} names no file but looks like the token itself, which belongs in HOLDFAST_TOKEN"
    return f"{source} names {shown_name(str(file))}, which cannot be read: {error.strerror or type(error).__name__}"


def _read(file: Path, source: str) -> tuple[str, _Version]:
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe may block for ever
        raise InvalidRequest(f"{source} names {file}, which is not a regular file", code=CODE)
    with file.open("rb") as opened:
        version = _version(os.fstat(opened.fileno()))
        data = opened.read(_LARGEST_BYTES + 1)
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{source} names {file}, which holds no token: it is not text", code=CODE) from None
    if not text:
        raise InvalidRequest(f"{source} names {file}, which is empty", code=CODE)
    return _cleaned(text, f"{source} names {file}, whose content"), version


def _version(found: os.stat_result) -> _Version:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _cleaned(token: str, source: str) -> str:
    """Return a token as it goes into a header. The error for an invalid token shows no part of it."""
    token = token.strip()
    if len(token) > _LARGEST_BYTES or not all("!" <= sign <= "~" for sign in token):
        raise InvalidRequest(
            f"{source} is no token: one has no space, no line break, no control character and nothing beyond ASCII "
            "in it, and is given alone, without a word such as 'Bearer' before it",
            code=CODE,
        )
    return token
