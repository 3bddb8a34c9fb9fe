"""The lines that a server prints once it listens: one for scripts, and a few more for people."""

from pathlib import Path

from app import __version__

WIDTH = 11
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def first_line(root: Path, host: str, port: int) -> str:
    """Compose the line with root and address. Scripts read the address after ``at``."""
    return f"Holdfast {__version__} keeps {root} at {_url(host, port)}"


def more(host: str, port: int, *, needs_token: bool, token_file: Path | None) -> list[tuple[str, str]]:
    """Compose the further lines, each a label shorter than `WIDTH` and its text."""
    reach = "" if host not in _ALL_ADDRESSES else ", and at every address of this machine"
    if not needs_token:
        token = "none is needed: only this machine can reach the server"
    elif token_file is not None:
        token = f"needed; the admin token is in {token_file}"
    else:
        token = "needed; create one with `holdfast-server token create`"
    return [
        ("Dashboard", f"{_url(_ALL_ADDRESSES.get(host, host), port)}/{reach}"),
        ("API", f"{_url(_ALL_ADDRESSES.get(host, host), port)}/docs"),
        ("Token", token),
        ("To stop", "Ctrl-C; running transfers may finish, a second Ctrl-C aborts them"),
    ]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
