"""Framing: finds request heads that two parsers could read differently (request smuggling). Pure.

The parser itself refuses heads that no parser accepts.
"""

Headers = list[tuple[bytes, bytes]]

_ONCE = frozenset(
    b"authorization content-length content-range content-type cookie expect host if-match if-none-match "
    b"if-range last-event-id origin range sec-fetch-dest sec-fetch-mode sec-fetch-site transfer-encoding".split()
)
"""Headers that must not be repeated: two values may contradict each other, and readers differ in the one they use."""


def fault_of(version: str, target: bytes, headers: Headers) -> str | None:
    """Describe the ambiguity of a request's head, or return None. Names must be in lower case, values stripped."""
    names = [name for name, _ in headers]
    twice = next((name for name in names if name in _ONCE and names.count(name) > 1), None)
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if twice is not None:
        return f"The header {twice.decode()!r} occurs more than once."
    if version not in {"1.0", "1.1"}:
        return f"This server speaks HTTP/1.1, not HTTP/{version}."
    if version == "1.1" and b"host" not in names:
        return "The Host header is missing."
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return "The only supported Transfer-Encoding is 'chunked', and it needs HTTP/1.1."
    if not target.startswith(b"/") or b"#" in target:
        return "The request target is not a path with an optional query."
    return None


def body_bytes(headers: Headers) -> int:
    """Return the ``Content-Length``, or 0 if there is none."""
    return int(dict(headers).get(b"content-length", b"0"))
