"""Envelopes: detects bodies that wrap or alter a file, by their headers and their first bytes. Pure.

The body of a save must be the file itself. The content type alone does not tell: ``curl --data-binary @FILE`` labels
every file a form (``application/x-www-form-urlencoded``), as do some HTTP libraries. So does ``curl -d``, which drops
NUL bytes and line breaks, and sends the file's name if the ``@`` is missing.
"""

import re
from collections.abc import Mapping

from app.core.errors import InvalidRequest, PartialBody, Refusal, UnsupportedEncoding, UnsupportedMediaType

HEAD_BYTES = 64 * 1024
"""The amount inspected at the beginning of a body."""

_RAW = "Send only the file's bytes: `curl --data-binary @model.pt URL`, or `curl -X POST -T model.pt URL`."
_AS_BYTES = (
    "If this is the whole file: `curl -T FILE -X POST URL`, or add `-H 'Content-Type: application/octet-stream'`."
)
_PRECONDITIONS = frozenset({"if-match", "if-none-match"})
"""Preconditions that some routes support; see `app.api.dependencies`."""
_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = re.compile(rb"--[^\r\n]{1,200}\r?\n(?:[A-Za-z-]+:[^\r\n]*\r?\n)*?Content-(?:Disposition|Type):", re.I)
_SIGNED_CHUNK = re.compile(rb"[0-9a-f]{1,16};chunk-signature=[0-9a-f]{64}\r\n", re.I)
_CHUNK = re.compile(rb"([0-9a-f]{1,8})(?:;[^\r\n]{0,200})?\r\n", re.I)
_FIELDS = re.compile(rb"[A-Za-z0-9_.\[\]%+-]{1,200}=[A-Za-z0-9*._~%+@/:&=,!$'()-]*")
_NAME = re.compile(rb"[^\x00-\x1f<>{}\[\]\"|]{0,1000}[^\x00-\x20<>{}\[\]\"|.]\.[A-Za-z][A-Za-z0-9_]{0,15}")
"""The path of a file with a suffix."""
_WITH_NUL_BYTES = (b"PK\x03\x04", b"\x93NUMPY")
"""Magic numbers of file formats with a NUL byte within their first bytes."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_BINARY = (b"\x80", b"\x89HDF", b"\x1f\x8b")
"""Magic numbers of tensor file formats with a NUL byte or a line break near their beginning."""


def refusal_of_headers(method: str, headers: Mapping[str, str]) -> Refusal | None:
    """Return the refusal of a request by its headers alone; None if they are acceptable."""
    if method in {"GET", "HEAD", "OPTIONS"}:
        return None
    if (range_ := _partial_body(headers)) is not None:
        return PartialBody(
            f"The body is a part of a file ({range_}), as `curl -C` sends it to resume an upload. Send the whole file: "
            "`curl -X POST -T model.pt URL`, without `-C`."
        )
    unknown = sorted(
        name
        for name in headers
        if (name.lower() == "if" or name.lower().startswith("if-")) and name.lower() not in _PRECONDITIONS
    )
    if unknown:
        return InvalidRequest(f"The precondition `{unknown[0][:40]}` is not supported.")
    encoding = headers.get("content-encoding", "").strip().lower()
    streaming = headers.get("x-amz-content-sha256", "").upper().startswith("STREAMING-")
    if "aws-chunked" in encoding or streaming or "x-amz-decoded-content-length" in headers:
        return UnsupportedEncoding(f"The body has the chunked encoding of S3 clients (aws-chunked). {_RAW}")
    if encoding not in {"", "identity"}:
        return UnsupportedEncoding(
            f"The Content-Encoding {encoding[:40]!r} is not supported. Send the body without it."
        )
    transfer = headers.get("content-transfer-encoding", "").strip().lower()
    if transfer not in {"", "binary", "8bit", "7bit"}:
        return UnsupportedEncoding(
            f"The Content-Transfer-Encoding {transfer[:40]!r} is not supported. Send the body without it."
        )
    if headers.get("content-type", "").strip().lower().startswith("multipart/"):
        return UnsupportedMediaType(
            "The body is a multipart form around the file, as `curl -F` or `files=` of requests sends it. "
            f"{_RAW} With requests or httpx, pass the open file as `data=` or `content=`."
        )
    return None


def refuse_head(head: bytes, content_type: str, *, whole: bool = True) -> None:
    """Refuse a raw body that is wrapped or altered, judging by its first bytes.

    Parameters
    ----------
    head : bytes
        The first `HEAD_BYTES` of the body, or all of a shorter one.
    whole : bool
        Whether the body is a whole file of undeclared length. A part of a file may be text.

    Raises
    ------
    UnsupportedMediaType, UnsupportedEncoding
        The body begins like a form or like a chunked body.
    """
    if _MULTIPART.match(head):
        raise UnsupportedMediaType(f"The body is a multipart form, not a file. {_RAW}")
    if _SIGNED_CHUNK.match(head):
        raise UnsupportedEncoding(f"The body has the chunked encoding of S3 clients (aws-chunked). {_RAW}")
    if _is_chunked(head):
        raise UnsupportedEncoding(
            "The body contains HTTP chunk headers: it was chunked twice, or without `Transfer-Encoding: chunked`. "
            + _RAW
        )
    if content_type.partition(";")[0].strip().lower() == _URLENCODED:
        _refuse_form(head)
        if whole:
            _refuse_name(head)


def _partial_body(headers: Mapping[str, str]) -> str | None:
    """Return the header that declares the body to be a part of a file, if there is one."""
    if (value := headers.get("content-range")) is not None:
        return f"Content-Range: {value[:60]}"
    if headers.get("upload-offset", "0").strip() != "0":
        return "Upload-Offset"
    if headers.get("upload-complete", "?1").strip() == "?0" or headers.get("upload-incomplete", "?0").strip() == "?1":
        return "an upload in several requests"
    return None


def _refuse_form(head: bytes) -> None:
    if _FIELDS.fullmatch(head):
        raise UnsupportedMediaType(
            f"The body consists of form fields (`name=value`), not of a file. {_RAW} {_AS_BYTES}"
        )
    if any(byte in head for byte in (b"\x00", b"\n", b"\r")):
        return
    is_cut_pickle = _PICKLE.match(head) is not None and not head.endswith(b".")
    if head.startswith(_WITH_NUL_BYTES) or is_cut_pickle or (head.startswith(_BINARY) and len(head) > 16):
        raise UnsupportedMediaType(f"The file's NUL bytes and line breaks are missing: `curl -d` drops them. {_RAW}")


def _refuse_name(head: bytes) -> None:
    if not head or _NAME.fullmatch(head):
        raise UnsupportedMediaType(
            f"The body is the name of a file instead of its content; with curl, the `@` is missing. {_RAW} {_AS_BYTES}"
        )


def _is_chunked(head: bytes) -> bool:
    """Tell if the head holds a chunk followed by a second chunk header. The rest of the body is unknown."""
    first = _CHUNK.match(head)
    if first is None or not (size := int(first[1], 16)):
        return False
    end = first.end() + size
    return head[end : end + 2] == b"\r\n" and _CHUNK.match(head, end + 2) is not None
