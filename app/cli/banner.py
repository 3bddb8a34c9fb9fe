"""What a server says when it begins to listen: one line for scripts, and a few more for people."""

from pathlib import Path

from app import __version__

WIDTH = 11
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def first_line(root: Path, host: str, port: int) -> str:
    """What it keeps and where it listens. Scripts read the address after ``at``."""
    return f"Holdfast {__version__} keeps {root} at {_url(host, port)}"


def more(host: str, port: int, *, needs_token: bool, token_file: Path | None) -> list[tuple[str, str]]:
    """What people want to know beside it, each with its label of less than `WIDTH` characters."""
    reach = "" if host not in _ALL_ADDRESSES else ", and at the names of this machine"
    if not needs_token:
        token = "none is needed, and only this machine can reach it"
    elif token_file is not None:
        token = f"needed; the first one is in {token_file}"
    else:
        token = "needed; `holdfast-server token create` makes more"
    return [
        ("Dashboard", f"{_url(_ALL_ADDRESSES.get(host, host), port)}/{reach}"),
        ("API", f"{_url(_ALL_ADDRESSES.get(host, host), port)}/docs"),
        ("Token", token),
        ("To stop", "Ctrl-C; transfers may end, a second Ctrl-C ends them"),
    ]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
