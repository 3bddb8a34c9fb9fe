"""Envelopes: what wraps the bytes of a file on their way, told by headers and by how a body begins. Pure.

A body that is kept as a checkpoint is the file itself. ``curl --data-binary @FILE`` says of any file that it is a form
(``application/x-www-form-urlencoded``), and so does ``curl -d``, which cuts a file at NUL bytes and line breaks, or
sends the name of the file if the ``@`` is missing. So do libraries that send bytes without a type of their own.
"""

import re
from collections.abc import Mapping

from app.core.errors import InvalidRequest, PartialBody, Refusal, UnsupportedEncoding, UnsupportedMediaType

HEAD_BYTES = 64 * 1024
"""How much of a body is looked at."""

_RAW = "Send the file's bytes alone: `curl --data-binary @model.pt URL`, or `curl -X POST -T model.pt URL`."
_AS_BYTES = (
    "If this is the whole file: `curl -T FILE -X POST URL`, or add `-H 'Content-Type: application/octet-stream'`."
)
_PRECONDITIONS = frozenset({"if-match", "if-none-match"})
"""Those that some routes understand; see `app.api.dependencies`."""
_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = re.compile(rb"--[^\r\n]{1,200}\r?\n(?:[A-Za-z-]+:[^\r\n]*\r?\n)*?Content-(?:Disposition|Type):", re.I)
_SIGNED_CHUNK = re.compile(rb"[0-9a-f]{1,16};chunk-signature=[0-9a-f]{64}\r\n", re.I)
_CHUNK = re.compile(rb"([0-9a-f]{1,8})(?:;[^\r\n]{0,200})?\r\n", re.I)
_FIELDS = re.compile(rb"[A-Za-z0-9_.\[\]%+-]{1,200}=[A-Za-z0-9*._~%+@/:&=,!$'()-]*")
_NAME = re.compile(rb"[^\x00-\x1f<>{}\[\]\"|]{0,1000}[^\x00-\x20<>{}\[\]\"|.]\.[A-Za-z][A-Za-z0-9_]{0,15}")
"""A path of a file with a suffix."""
_HOLED = (b"PK\x03\x04", b"\x93NUMPY")
"""Beginnings of files that have a NUL byte within their first bytes."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_BINARY = (b"\x80", b"\x89HDF", b"\x1f\x8b")
"""How files of tensors begin that have a NUL byte or a line break near their beginning."""


def refusal_of_headers(method: str, headers: Mapping[str, str]) -> Refusal | None:
    """Why a request with such headers is refused, whatever its body is."""
    if method in {"GET", "HEAD", "OPTIONS"}:
        return None
    if (range_ := _part(headers)) is not None:
        return PartialBody(
            f"The body is a part of a file ({range_}), as `curl -C` sends it to resume, and a part is not kept as the "
            "whole. Send the whole file: `curl -X POST -T model.pt URL`, without `-C`."
        )
    unknown = sorted(
        name
        for name in headers
        if (name.lower() == "if" or name.lower().startswith("if-")) and name.lower() not in _PRECONDITIONS
    )
    if unknown:
        return InvalidRequest(f"The precondition `{unknown[0][:40]}` is not understood, and is not taken for none.")
    encoding = headers.get("content-encoding", "").strip().lower()
    streaming = headers.get("x-amz-content-sha256", "").upper().startswith("STREAMING-")
    if "aws-chunked" in encoding or streaming or "x-amz-decoded-content-length" in headers:
        return UnsupportedEncoding(f"The body comes in the chunks of an S3 client (aws-chunked). {_RAW}")
    if encoding not in {"", "identity"}:
        return UnsupportedEncoding(f"The body has the Content-Encoding {encoding[:40]!r}. Send it without.")
    transfer = headers.get("content-transfer-encoding", "").strip().lower()
    if transfer not in {"", "binary", "8bit", "7bit"}:
        return UnsupportedEncoding(f"The body has the Content-Transfer-Encoding {transfer[:40]!r}. Send it without.")
    if headers.get("content-type", "").strip().lower().startswith("multipart/"):
        return UnsupportedMediaType(
            "A multipart body, as `curl -F` and `files=` of requests send it, wraps the file in a form. "
            f"{_RAW} With requests or httpx, pass the open file as `data=` or `content=`."
        )
    return None


def refuse_head(head: bytes, content_type: str, *, whole: bool = True) -> None:
    """Refuse a raw body by its first bytes, all of them where it is short.

    Parameters
    ----------
    whole : bool
        Whether the body is a whole file whose length was not declared before. A part of a file may be text.

    Raises
    ------
    UnsupportedMediaType, UnsupportedEncoding
        It begins as a form or as a body in chunks does.
    """
    if _MULTIPART.match(head):
        raise UnsupportedMediaType(f"The body begins as a multipart form does, and not as a file. {_RAW}")
    if _SIGNED_CHUNK.match(head):
        raise UnsupportedEncoding(f"The body comes in the chunks of an S3 client (aws-chunked). {_RAW}")
    if _is_chunked(head):
        raise UnsupportedEncoding(
            "The body holds a body in HTTP chunks: it was chunked twice, or without `Transfer-Encoding: chunked`. "
            + _RAW
        )
    if content_type.partition(";")[0].strip().lower() == _URLENCODED:
        _refuse_form(head)
        if whole:
            _refuse_name(head)


def _part(headers: Mapping[str, str]) -> str | None:
    """The header by which a request says that its body is a part of something."""
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
            f"The body is the fields of a form, `name=value`, and not a file. {_RAW} {_AS_BYTES}"
        )
    if any(byte in head for byte in (b"\x00", b"\n", b"\r")):
        return
    is_cut_pickle = _PICKLE.match(head) is not None and not head.endswith(b".")
    if head.startswith(_HOLED) or is_cut_pickle or (head.startswith(_BINARY) and len(head) > 16):
        raise UnsupportedMediaType(
            f"The NUL bytes and line breaks of the file are missing, as `curl -d` drops them. {_RAW}"
        )


def _refuse_name(head: bytes) -> None:
    if not head or _NAME.fullmatch(head):
        raise UnsupportedMediaType(
            "The body has the type of a form, and is the name of a file, as curl sends it without the `@`. "
            f"{_RAW} {_AS_BYTES}"
        )


def _is_chunked(head: bytes) -> bool:
    """Whether there are two chunks, or one and the last; what lies beyond the head is not known."""
    first = _CHUNK.match(head)
    if first is None or not (size := int(first[1], 16)):
        return False
    end = first.end() + size
    return head[end : end + 2] == b"\r\n" and _CHUNK.match(head, end + 2) is not None
