"""Which requests would not mean the same to every parser. Pure; what no parser takes, the parser itself refuses."""

Headers = list[tuple[bytes, bytes]]

_ONCE = frozenset(
    b"authorization content-length content-range content-type cookie expect host if-match if-none-match "
    b"if-range last-event-id origin range sec-fetch-dest sec-fetch-mode sec-fetch-site transfer-encoding".split()
)
"""Headers of which two would contradict each other, or would be seen by one reader and not by another."""


def fault_of(version: str, target: bytes, headers: Headers) -> str | None:
    """What is ambiguous about a request's head, if anything is. Names are in lower case, values stripped."""
    names = [name for name, _ in headers]
    twice = next((name for name in names if name in _ONCE and names.count(name) > 1), None)
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if twice is not None:
        return f"The header {twice.decode()!r} stands there more than once."
    if version not in {"1.0", "1.1"}:
        return f"This server speaks HTTP/1.1, not HTTP/{version}."
    if version == "1.1" and b"host" not in names:
        return "There is no Host."
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return "The only Transfer-Encoding is 'chunked', and it needs HTTP/1.1."
    if not target.startswith(b"/") or b"#" in target:
        return "The request's target is not a path with a query."
    return None


def body_bytes(headers: Headers) -> int:
    """How long the body is, where its ``Content-Length`` says so; else 0."""
    return int(dict(headers).get(b"content-length", b"0"))
