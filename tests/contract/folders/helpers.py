"""What a folder holds, and what a directory holds on the server."""

from pathlib import Path

from tests.support.live import LiveServer


def contents(folder: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """Return the mode, the time and the bytes of all that is in a folder, and of itself."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        like = path.stat()
        data = None if path.is_dir() else path.read_bytes()
        found[path.relative_to(folder).as_posix()] = like.st_mode & 0o777, like.st_mtime_ns, data
    return found


def data_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(server: LiveServer, directory: str) -> list[str]:
    """Return the names in a directory, the oldest first; none if there is no such directory."""
    if server.http.get(f"/v1/directories/{directory}").status_code == 404:
        return []
    return server.names(directory, order_by="position")


def on_disk(server: LiveServer, directory: str, name: str) -> dict[str, bytes]:
    """Return the files of a checkpoint as the server keeps them."""
    return data_of(server.root / directory / name)


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def hidden(folder: Path) -> list[str]:
    """Return the names in a folder that begin with a dot."""
    return sorted(path.name for path in folder.glob(".*"))


def grow(path: Path) -> None:
    """Append to a file in place."""
    with path.open("ab") as opened:
        opened.write(b"more")
